"""Scenes of a stream of frames, and the frames of a scene that repeat the one before them."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.core.image import UInt8Image
from stvsr.data.sources.scenes import THUMBNAIL, CutDetector

CUT_KNOWN = 2
"""Frames after a cut that the detector needs; it takes no cut closer than that to either end, so
both ends are repeated as often."""

IDENTICAL = 0.3 / 255
"""Difference up to which a frame repeats another: the mean of the block that differs most."""

LARGEST = 8 / 255
"""Difference up to which a pixel of it may change: a small bright point that moves is no repeat."""

BLOCK = 16
"""Side of the blocks that are compared, in pixels."""


class Shown(NamedTuple):
    """A frame (3, H, W) and how many times it is shown in a row."""

    frame: Tensor
    times: int


def numbered_scenes(frames: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Number the scenes of a stream: each frame with the number of its scene, from 0.

    A change of size begins a scene, as a cut does. At most `CUT_KNOWN + 1` frames are held.

    Args:
        frames: (3, H, W), RGB in [0, 1].
    """
    detector = CutDetector()
    waiting: deque[Tensor] = deque()
    scene, number = 0, CUT_KNOWN
    last: Tensor | None = None

    def decide() -> tuple[int, Tensor]:
        nonlocal scene, number, last
        frame = waiting.popleft()
        is_resized = last is not None and last.shape != frame.shape
        scene += last is not None and (is_resized or number in detector.cuts[-2 * CUT_KNOWN :])
        number, last = number + 1, frame
        return scene, frame

    picture: UInt8Image | None = None
    for frame in frames:
        picture = thumbnail(frame)
        for _ in range(1 if detector.frames else 1 + CUT_KNOWN):
            detector.add(picture)
        waiting.append(frame)
        if len(waiting) > CUT_KNOWN:
            yield decide()
    for _ in range(CUT_KNOWN if picture is not None else 0):
        detector.add(np.asarray(picture))
    while waiting:
        yield decide()


def thumbnail(frame: Tensor) -> UInt8Image:
    """A frame (3, H, W) in [0, 1] as the detector takes it: (72, 128, 3), blue first, 8-bit."""
    small = F.interpolate(frame[None].float(), THUMBNAIL[::-1], mode="bilinear", antialias=True)[0]
    levels = (small.clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(levels.flip(0).permute(1, 2, 0).cpu().numpy())


def without_repeats(frames: Iterable[Tensor], *, exactly: bool = False) -> Iterator[Shown]:
    """Count the frames in a row that show the same; only the first of them is held.

    Args:
        frames: (3, H, W), of one size.
        exactly: only frames that are equal count as the same.
    """
    is_same = torch.equal if exactly else is_repeat
    first: Tensor | None = None
    count = 0
    for frame in frames:
        if first is not None and is_same(first, frame):
            count += 1
            continue
        if first is not None:
            yield Shown(first, count)
        first, count = frame, 1
    if first is not None:
        yield Shown(first, count)


def is_repeat(first: Tensor, frame: Tensor) -> bool:
    """True if two frames (3, H, W) differ by at most `IDENTICAL` per block, `LARGEST` per pixel."""
    difference = (first - frame).abs()
    if difference.max() > LARGEST:
        return False
    blocks = F.avg_pool2d(
        difference[None], [min(BLOCK, side) for side in difference.shape[-2:]], ceil_mode=True
    )
    return bool(blocks.max() <= IDENTICAL)
