"""Repeated frames: pictures that are shown twice, such as 25 a second in a video of 50."""

import cv2
import numpy as np
from numpy.typing import NDArray

AHEAD = 2
"""Frames after one that must be known before it is decided whether it repeats another."""

IDENTICAL = 0.3
"""Difference of luma, of 255, up to which a frame repeats the one before it …"""

NOISE, NOISE_SHARE = 6.0, 0.2
"""… as it does up to this difference, where that is at most this share of what is usual around it:
a repeated frame that was encoded again has noise of its own."""

_BLOCK = 16


class Changes:
    """The change of each frame from the one before it: that of the block that changes most.

    Blocks of 16x16 pixels are compared by the mean absolute difference of their luma, so that a
    small object that moves before a still background counts as much as a moving camera.
    """

    def __init__(self) -> None:
        self._luma: NDArray[np.uint8] | None = None
        self._changes: list[float | None] = []

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Take the next frame's luma (H, W)."""
        self._changes.append(_change(self._luma, luma))
        self._luma = luma

    def is_repeat(self, at: int) -> bool:
        """True if frame `at` repeats the one before it; needs the `AHEAD` frames after it."""
        change = self._changes[at]
        if change is None:
            return False
        sides = (self._changes[max(0, at - AHEAD) : at], self._changes[at + 1 : at + 1 + AHEAD])
        near = [[c for c in side if c is not None] for side in sides]
        usual = min((max(side) for side in near if side), default=0.0)
        return change <= max(IDENTICAL, min(NOISE, NOISE_SHARE * usual))


def _change(before: NDArray[np.uint8] | None, luma: NDArray[np.uint8]) -> float | None:
    if before is None or before.shape != luma.shape:
        return None
    blocks = (max(1, luma.shape[1] // _BLOCK), max(1, luma.shape[0] // _BLOCK))
    return float(cv2.resize(cv2.absdiff(before, luma), blocks, interpolation=cv2.INTER_AREA).max())
