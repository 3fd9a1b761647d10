"""The windows of a stage: which pixels each one holds, and which of them see each other.

A map of `P` pixels is (B, P, T, C). In the order of its windows it is (B, n, L, C): `n` windows,
each of 4x4 pixels of all `T` frames, so `L` = 16 * T tokens, pixel by pixel and frame by frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stvsr.models.layers.parts import part_pixels

WINDOW = 4
"""Side of a window in pixels."""

PLACES = WINDOW * WINDOW
"""Pixels of a window."""

SHIFT = WINDOW // 2
"""By how many rows and columns every other block's windows are shifted."""


@dataclass(frozen=True)
class Kind:
    """Windows that see the same: only the last ones of a shifted map wrap around its edges.

    Attributes:
        count: how many follow each other.
        wraps: whether their last two rows, and their last two columns, come from the other edge.
    """

    count: int
    wraps: tuple[bool, bool]


@dataclass(frozen=True)
class Windows:
    """The windows of a map, or some of them, kind by kind.

    Attributes:
        order: (n * 16,), the number of each window's pixels, row by row in the padded map.
        inside: (n, 16), whether a pixel is one of the picture; None where all are.
        kinds: of the n windows, in their order.
    """

    order: Tensor
    inside: Tensor | None
    kinds: tuple[Kind, ...]

    def tokens_inside(self, frames: int) -> Tensor | None:
        """True for each token that is one of the picture, (n, L, 1); None where all are."""
        if self.inside is None:
            return None
        return self.inside.repeat_interleave(frames, 1)[..., None]


def windows_of(height: int, width: int, shift: int, device: torch.device) -> Windows:
    """Cut a map, padded to whole windows, into windows; an axis of one window is not shifted."""
    H, W = height + -height % WINDOW, width + -width % WINDOW
    down, right = (shift if side > WINDOW else 0 for side in (H, W))
    pixels = torch.arange(H * W, device=device).view(H, W).roll((-down, -right), (0, 1))
    by_window = pixels.unflatten(1, (-1, WINDOW)).unflatten(0, (-1, WINDOW)).transpose(1, 2)
    parts, kinds = [], []
    for rows, wraps_below in _spans(down):
        for columns, wraps_right in _spans(right):
            part = by_window[rows, columns].reshape(-1, PLACES)
            parts.append(part)
            kinds.append(Kind(len(part), (wraps_below, wraps_right)))
    order = torch.cat(parts)
    is_whole = (height, width) == (H, W)
    inside = None if is_whole else (order // W < height) & (order % W < width)
    return Windows(order.flatten(), inside, tuple(kinds))


def _spans(shift: int) -> list[tuple[slice, bool]]:
    """The windows along an axis, those that wrap apart."""
    return [(slice(-1), False), (slice(-1, None), True)] if shift else [(slice(None), False)]


def inverse(order: Tensor) -> Tensor:
    """The permutation that undoes `order`."""
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places


def wrap_mask(wraps: tuple[bool, bool], like: Tensor) -> Tensor:
    """-inf between a window's pixels that are no neighbours in the picture, else 0: (16, 16)."""
    far = torch.arange(WINDOW, device=like.device) >= WINDOW - SHIFT
    rows, columns = (far.long() * wrapped for wrapped in wraps)
    region = (2 * rows[:, None] + columns).flatten()
    different = region[:, None] != region
    return like.new_zeros(different.shape).masked_fill_(different, -torch.inf)


def by_windows(
    function: Callable[..., Tensor], windows: Windows, tokens: Tensor, *others: Tensor
) -> Tensor:
    """Call `function` on all windows, or without gradients on a few of one kind at a time.

    Args:
        function: of some `Windows`, their tokens (B, m, L, C) and those of each of `others`;
            gives (B, m, L, C), window by window.
        windows: all of them.
        tokens: (B, n, L, C); without gradients the result takes their place.
        others: (B, n, ...) each.
    """
    if torch.is_grad_enabled():
        return function(windows, tokens, *others)
    B, _, L, _ = tokens.shape
    for part, some in _parts(windows, max(1, part_pixels(tokens.device) // (B * L))):
        tokens[:, part] = function(some, tokens[:, part], *(other[:, part] for other in others))
    return tokens


def _parts(windows: Windows, most: int) -> Iterator[tuple[slice, Windows]]:
    """Up to `most` windows of one kind at a time, and where they are among all."""
    first = 0
    for kind in windows.kinds:
        last = first + kind.count
        for start in range(first, last, most):
            part = slice(start, min(start + most, last))
            order = windows.order[PLACES * part.start : PLACES * part.stop]
            inside = None if windows.inside is None else windows.inside[part]
            yield part, Windows(order, inside, (replace(kind, count=part.stop - part.start),))
        first = last
