"""Bounded memory where no gradient is wanted: a few images at a time, or a band of one's rows.

The results are those of all at once, but for the rounding of sums; with gradients all is done at
once, since the backward pass needs what a part would have thrown away.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PART_PIXELS = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Low-resolution pixels of a part: enough to keep the device busy."""


def by_parts(
    function: Callable[[slice], Tensor], count: int, pixels: int, device: torch.device
) -> Tensor:
    """Call `function` on a few items at a time.

    Args:
        function: of some items, gives (b, ...), equally many for each item.
        count: how many items there are.
        pixels: of an item.
        device: where they are.

    Returns:
        What `function` gives for all items.
    """
    return _piecewise(function, count, part_pixels(device) // pixels, 0)


def slices(count: int, pixels: int, device: torch.device) -> Iterator[slice]:
    """Which items to take at a time, for functions that `by_parts` does not fit.

    Args:
        count: how many items there are.
        pixels: of an item.
        device: where they are.
    """
    step = count if torch.is_grad_enabled() else max(1, part_pixels(device) // pixels)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def by_images(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Call `function` on a few images at a time.

    Args:
        function: takes as many tensors (b, C, H, W), channels last in memory, which convolutions
            want; gives (b, C', H', W'), image by image.
        images: what it takes, all with the same B; the first one's H and W count.
    """

    def some(part: slice) -> Tensor:
        return function(
            *(tensor[part].contiguous(memory_format=torch.channels_last) for tensor in images)
        )

    first = images[0]
    return by_parts(some, len(first), first[0, 0].numel(), first.device)


def by_rows(function: Callable[[slice], Tensor], images: Tensor) -> Tensor:
    """Call `function` on a few rows at a time.

    Args:
        function: of some rows, gives (B, C', s * rows, W'), s being the same for all.
        images: (B, C, H, W), whose rows are meant.
    """
    rows = part_pixels(images.device) // images[:, 0, 0].numel()
    return _piecewise(function, images.shape[-2], rows, 2)


def by_bands(
    function: Callable[[Tensor], Tensor], images: Tensor, *, halo: int, scale: int
) -> Tensor:
    """Call `function` on bands of a few images at a time, a few rows more than are kept.

    Args:
        function: (b, C, h, W) -> (b, C', scale * h, scale * W) for any h; each row of its result
            depends on no more than `halo` rows above and below its own, in the input's rows.
        images: (B, C, H, W).
        halo: as `function` has it.
        scale: as `function` has it.
    """

    def some_images(some: Tensor) -> Tensor:
        def some_rows(rows: slice) -> Tensor:
            around, inner = with_halo(rows, halo)
            result = function(cut(some, around))
            return cut(result, slice(scale * inner.start, scale * inner.stop))

        return by_rows(some_rows, some)

    return by_images(some_images, images)


def with_halo(rows: slice, halo: int) -> tuple[slice, slice]:
    """Some rows with up to `halo` more on each side, and where they themselves are among those."""
    first = max(0, rows.start - halo)
    return slice(first, rows.stop + halo), slice(rows.start - first, rows.stop - first)


def cut(images: Tensor, rows: slice) -> Tensor:
    """Rows of images (..., H, W), or the same tensor: backward, a slice of all would be a copy."""
    whole = rows.start == 0 and rows.stop >= images.shape[-2]
    return images if whole else images[..., rows, :]


def from_row(offset: Tensor, first: int) -> Tensor:
    """Offsets (..., 2, h, W) of a band that begins at row `first`, as the operators want them."""
    return offset + offset.new_tensor([first, 0])[:, None, None] if first else offset


def part_pixels(device: torch.device) -> int:
    """How many pixels a part has on a device."""
    return PART_PIXELS.get(device.type, PART_PIXELS["cuda"])


def _piecewise(function: Callable[[slice], Tensor], length: int, step: int, dim: int) -> Tensor:
    """Put together, along `dim`, what `function` gives for `step` of `length` at a time."""
    step = max(1, step)
    if torch.is_grad_enabled() or step >= length:
        return function(slice(0, length))
    part = function(slice(0, step))
    each, shape = part.shape[dim] // step, list(part.shape)
    shape[dim] = each * length
    results = torch.empty(
        shape, dtype=part.dtype, device=part.device, memory_format=_memory_format(part)
    )
    results.narrow(dim, 0, each * step).copy_(part)
    for start in range(step, length, step):
        end = min(start + step, length)
        part = function(slice(start, end))
        results.narrow(dim, each * start, each * (end - start)).copy_(part)
    return results


def _memory_format(images: Tensor) -> torch.memory_format:
    if images.ndim != 4 or images.is_contiguous():
        return torch.contiguous_format
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
