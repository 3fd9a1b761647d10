"""Where one scene of a video ends and the next begins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UInt8Image = NDArray[np.uint8]

THUMBNAIL = (64, 36)
"""Width and height of the grey pictures that scenes are told apart by."""

BINS = 32
"""Bins of their histograms."""

WINDOW = 8
"""Steps on either side of a step that say what is usual there."""

LEAST_CHANGE = 7.0
"""UInt8Image by which a cut changes the thumbnail at least."""

STRONG = 3.0, 0.03
"""A cut changes the thumbnail this many times as much as is usual, and moves this share of the
histogram more than is usual, …"""

MILD = 2.0, 0.10
"""… or changes it less and moves more of the histogram."""


@dataclass(frozen=True)
class Signature:
    """How a frame differs from the one before it.

    Attributes:
        change: mean absolute difference of the thumbnails, levels 0..255.
        shift: share of the pixels that changed their histogram bin, 0..1.
    """

    change: float
    shift: float


def signature(before: UInt8Image | None, thumbnail: UInt8Image) -> Signature:
    """Compare two grey thumbnails (h, w); the first frame of a video has none before it."""
    if before is None:
        return Signature(0.0, 0.0)
    change = float(np.abs(thumbnail.astype(np.int16) - before).mean())
    return Signature(change, shift(before, thumbnail))


def shift(before: UInt8Image, after: UInt8Image) -> float:
    """Half the L1 distance of the smoothed grey histograms: 0 the same, 1 nothing in common."""
    return float(np.abs(_histogram(before) - _histogram(after)).sum() / 2)


def find_cuts(signatures: Sequence[Signature]) -> list[int]:
    """The frames (from 0) at which a new scene begins; 0 is not among them.

    A frame begins a scene when its thumbnail differs from the one before it by much more than is
    usual in the steps around it, so that a shaking camera or a fast pan is not mistaken for cuts,
    and its histogram moves too, so that a fast object is not.
    """
    if len(signatures) < 2:
        return []
    changes = np.array([step.change for step in signatures[1:]])
    shifts = np.array([step.shift for step in signatures[1:]])
    usual_change, usual_shift = _usual(changes), _usual(shifts)
    stands_out = [
        (changes >= times * usual_change) & (shifts >= usual_shift + more)
        for times, more in (STRONG, MILD)
    ]
    cuts = (changes >= LEAST_CHANGE) & np.logical_or(*stands_out)
    return [int(step) + 1 for step in np.flatnonzero(cuts)]


def _usual(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of the `WINDOW` values on either side of each value, without the value itself."""
    usual = np.zeros_like(values)
    for at in range(len(values)):
        around = np.concatenate(
            [values[max(0, at - WINDOW) : at], values[at + 1 : at + 1 + WINDOW]]
        )
        usual[at] = np.median(around) if around.size else 0.0
    return usual


def _histogram(thumbnail: UInt8Image) -> NDArray[np.float64]:
    """Shares of the grey levels, smoothed so that a slight change of light moves little."""
    counts = np.bincount(thumbnail.ravel(), minlength=256).reshape(BINS, -1).sum(axis=1)
    padded = np.pad(counts / counts.sum(), 1, mode="edge")
    return np.asarray((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)
