"""Tiles: a clip in overlapping rectangles, so that memory does not grow with the frames' size."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.core.clip import SCALE


@dataclass(frozen=True)
class Span:
    """A tile in one direction, in input pixels.

    Attributes:
        start: first pixel that the network takes.
        stop: pixel after the last one.
        keep_start: first pixel whose output is kept.
        keep_stop: pixel after the last one.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(size: int, tile: int, overlap: int) -> tuple[Span, ...]:
    """Cover 0..size with tiles; what they keep covers it once.

    Neighbours share at least `overlap` pixels, and what is kept changes in the middle of them. All
    tiles have the same size, `tile` or all there is.

    Args:
        size: pixels to cover.
        tile: pixels of a tile, more than `overlap`.
        overlap: pixels that two tiles share at least.
    """
    tile = min(tile, size)
    last = size - tile
    starts = [*range(0, last, max(tile - overlap, 1)), last]
    seams = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), size]
    return tuple(
        Span(start, start + tile, seams[at], seams[at + 1]) for at, start in enumerate(starts)
    )


def upscale_in_tiles(
    network: Callable[[Tensor], Tensor],
    lr_clip: Tensor,
    *,
    tile: int,
    overlap: int,
    space: int,
    start: int,
    stop: int,
) -> list[Tensor]:
    """Apply a network tile by tile, and reduce its output where less than its scale is wanted.

    Args:
        network: from (1, T_in, 3, h, w) to (1, T_out, 3, 4h, 4w).
        lr_clip: (T_in, 3, H, W), RGB in [0, 1], on the network's device.
        tile: side of a tile, input pixels.
        overlap: input pixels that two tiles share.
        space: scale of the result, 4, 2 or 1.
        start: first output frame that is wanted.
        stop: output frame after the last one that is wanted.

    Returns:
        (3, space * H, space * W) for each, float32 in [0, 1]; each has memory of its own.
    """
    height, width = lr_clip.shape[-2:]
    shape = (3, space * height, space * width)
    sr_frames = [lr_clip.new_empty(shape, dtype=torch.float32) for _ in range(start, stop)]
    for rows in spans(height, tile, overlap):
        for columns in spans(width, tile, overlap):
            part = lr_clip[None, ..., rows.start : rows.stop, columns.start : columns.stop]
            output = reduce(network(part)[0, start:stop].float(), space).clamp(0, 1)
            kept = output[..., _in_tile(rows, space), _in_tile(columns, space)]
            for sr_frame, frame in zip(sr_frames, kept, strict=True):
                sr_frame[:, _kept(rows, space), _kept(columns, space)] = frame
    return sr_frames


def reduce(frames: Tensor, space: int) -> Tensor:
    """From four times the input's size to `space` times, by an antialiased cubic.

    Args:
        frames: (T, 3, 4h, 4w), floating point.
        space: 4, 2 or 1.
    """
    if space == SCALE:
        return frames
    size = [side // SCALE * space for side in frames.shape[-2:]]
    return F.interpolate(frames, size, mode="bicubic", antialias=True)


def _kept(span: Span, space: int) -> slice:
    return slice(space * span.keep_start, space * span.keep_stop)


def _in_tile(span: Span, space: int) -> slice:
    return slice(space * (span.keep_start - span.start), space * (span.keep_stop - span.start))
