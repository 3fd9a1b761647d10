"""Optical flow between the frames of a video."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stvsr.core.image import UInt8Image


def grey(image: UInt8Image) -> UInt8Image:
    """The grey image (H, W) of an RGB one (H, W, 3)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)


def optical_flow(before: UInt8Image, after: UInt8Image) -> NDArray[np.float32]:
    """Dense optical flow between two grey images, by Farneback's method.

    Args:
        before: (H, W).
        after: of the same size.

    Returns:
        (H, W, 2): where each pixel moves, in pixels to the right and down.
    """
    flow = cv2.calcOpticalFlowFarneback(
        before,
        after,
        np.zeros((*before.shape, 2), np.float32),
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
    return np.asarray(flow, np.float32)
