"""Bounded memory where no gradient is wanted: a few images at a time, or a band of one's rows.

The results are those of all at once, but for the rounding of sums; with gradients all is done at
once, since the backward pass needs what a part would have thrown away.
"""

from collections.abc import Callable

import torch
from torch import Tensor

PART_PIXELS = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Low-resolution pixels of a part: enough to keep the device busy."""


def by_images(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Call `function` on a few images at a time.

    Args:
        function: takes as many tensors (B, C, H, W), gives (B, C', H', W'), image by image.
        images: what it takes, all with the same B; the first one's H and W count.
    """
    together = max(1, _part_pixels(images[0]) // images[0][0, 0].numel())
    if torch.is_grad_enabled() or together >= len(images[0]):
        return function(*images)
    parts = zip(*(tensor.split(together) for tensor in images), strict=True)
    return torch.cat([function(*part) for part in parts])


def by_bands(
    function: Callable[[Tensor], Tensor], images: Tensor, *, halo: int, scale: int
) -> Tensor:
    """Call `function` on bands of each image's rows, a few rows more than are kept.

    Args:
        function: (B, C, h, W) -> (B, C', scale * h, scale * W) for any h; each row of its result
            depends on no more than `halo` rows above and below its own, in the input's rows.
        images: (B, C, H, W).
        halo: as `function` has it.
        scale: as `function` has it.
    """
    H, W = images.shape[-2:]
    rows = max(1, _part_pixels(images) // W)
    if torch.is_grad_enabled() or rows >= len(images) * H:
        return function(images)

    def band(image: Tensor, top: int) -> Tensor:
        first, bottom = max(0, top - halo), min(H, top + rows)
        result = function(image[:, :, first : bottom + halo])
        return result[:, :, scale * (top - first) : scale * (bottom - first)]

    return torch.cat(
        [
            torch.cat([band(image, top) for top in range(0, H, rows)], dim=2)
            for image in images.split(1)
        ]
    )


def _part_pixels(images: Tensor) -> int:
    return PART_PIXELS.get(images.device.type, PART_PIXELS["cuda"])
