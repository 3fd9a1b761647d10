"""Crop, flips and time reversal of a sample: a pure function of the seed, step and slot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from stvsr.core.clip import SCALE
from stvsr.core.image import UInt8Image

Frame = TypeVar("Frame")

AUGMENT_STREAM = 2
"""Second word of the Philox key of the augmentations; `order.ORDER_STREAM` is another one."""


@dataclass(frozen=True)
class Augmentation:
    """Crop and flips of one clip, in LR pixels; HR positions and sizes are 4 times these.

    The crop comes first, then the flips, then the transposition; together the last three reach
    all eight symmetries of the square, the rotations by 90 degrees among them.

    Attributes:
        top: first row of the crop.
        left: first column of the crop.
        crop: height and width of the crop.
        flip_horizontal: left and right change places.
        flip_vertical: top and bottom change places.
        transpose: rows become columns.
        reverse_time: the frames run backwards.
    """

    top: int
    left: int
    crop: int
    flip_horizontal: bool = False
    flip_vertical: bool = False
    transpose: bool = False
    reverse_time: bool = False


@dataclass(frozen=True)
class SampleSpec:
    """One sample of a batch: a clip of the set, by number, and its augmentation."""

    clip: int
    augmentation: Augmentation


def augmentation(
    seed: int, step: int, slot: int, lr_size: tuple[int, int], crop: int
) -> Augmentation:
    """Draw the augmentation of the clip in one slot of a step's global batch.

    The first three raw 64-bit words of Philox-4x64-10 with key (seed, 2) and counter
    (0, 0, slot, step): the row and the column, each modulo the number of positions, and the four
    lowest bits of the third: horizontal flip, vertical flip, transposition, reversal.

    Args:
        seed: the run's seed, 0 <= seed < 2**64.
        step: from 0.
        slot: position in the *global* batch, so that the number of ranks changes nothing.
        lr_size: (H, W) of the clip's LR frames.
        crop: side of the square crop, in LR pixels.

    Raises:
        ValueError: the crop does not fit into the frame.
    """
    height, width = lr_size
    if not 1 <= crop <= min(height, width):
        raise ValueError(f"a crop of {crop} pixels does not fit into a frame of {width}x{height}")
    words = np.random.Philox(
        key=np.array([seed, AUGMENT_STREAM], dtype=np.uint64),
        counter=np.array([0, 0, slot, step], dtype=np.uint64),
    ).random_raw(3)
    top, left, bits = (int(word) for word in words)
    return Augmentation(
        top=top % (height - crop + 1),
        left=left % (width - crop + 1),
        crop=crop,
        flip_horizontal=bool(bits & 1),
        flip_vertical=bool(bits & 2),
        transpose=bool(bits & 4),
        reverse_time=bool(bits & 8),
    )


def augment_lr(frame: UInt8Image, how: Augmentation) -> UInt8Image:
    """Crop, flip and transpose an LR frame: (H, W, 3) -> (crop, crop, 3), a view."""
    return _augment(frame, how, 1)


def augment_hr(frame: UInt8Image, how: Augmentation) -> UInt8Image:
    """Crop, flip and transpose an HR frame: (4H, 4W, 3) -> (4 crop, 4 crop, 3), a view."""
    return _augment(frame, how, SCALE)


def in_time(frames: Sequence[Frame], how: Augmentation) -> tuple[Frame, ...]:
    """The frames of a clip in the order in which they are shown."""
    return tuple(reversed(frames)) if how.reverse_time else tuple(frames)


def _augment(frame: UInt8Image, how: Augmentation, scale: int) -> UInt8Image:
    top, left, side = how.top * scale, how.left * scale, how.crop * scale
    frame = frame[top : top + side, left : left + side]
    if how.flip_horizontal:
        frame = frame[:, ::-1]
    if how.flip_vertical:
        frame = frame[::-1]
    return frame.transpose(1, 0, 2) if how.transpose else frame
