"""Drawing of clips from photographs: maps, masks, mixing, PNG files.

All resampling is fixed-point arithmetic on 8-bit images, which gives the same pixels on every
machine.
"""

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image

Point = tuple[float, float]
Floats = NDArray[np.float64]
Places = tuple[Floats, Floats]
"""x and y, in picture pixels, of each pixel of a frame or of a part of it."""
Map = NDArray[np.float64]
"""A 2x3 map from frame to picture pixels."""

FINE = 2
"""How many times finer than the frame the grid is on which layers are drawn."""


def times() -> tuple[float, ...]:
    """The time of each frame of a clip, -3 … 3."""
    return tuple(float(t) for t in range(-(SEPTUPLET // 2), SEPTUPLET // 2 + 1))


def middle(size: tuple[int, int]) -> Point:
    """The place in the middle of a width and a height."""
    return (size[0] - 1) / 2, (size[1] - 1) / 2


def similarity(here: Point, there: Point, scale: float, angle: float) -> Map:
    """2x3 map that turns and scales about `here` and moves `here` to `there`."""
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    (hx, hy), (tx, ty) = here, there
    return np.array([[a, -b, tx - a * hx + b * hy], [b, a, ty - b * hx - a * hy]])


def from_fine_grid(warp: Map) -> Map:
    """The same map for pixels of the fine grid: fine pixel i is at (i + 0.5) / FINE - 0.5."""
    linear, shift = warp[:, :2], warp[:, 2]
    moved = shift + linear.sum(axis=1) * (0.5 / FINE - 0.5)
    return np.column_stack([linear / FINE, moved])


def places(warp: Map, rows: slice, columns: slice) -> Places:
    """Picture x and y of the pixels in some rows and columns."""
    across = np.arange(columns.start, columns.stop)
    down = np.arange(rows.start, rows.stop)[:, None]
    x, y = (row[0] * across + (row[1] * down + row[2]) for row in warp)
    return x, y


def fixed_point(x: Floats, y: Floats) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Picture places as OpenCV's tables of whole pixels and of 32nds.

    With these its linear and Lanczos filters sum in integers, which gives the same pixels on
    every processor; warpAffine, and its cubic filter, do not.
    """
    steps = cv2.INTER_TAB_SIZE
    x32, y32 = (np.floor(place * steps + 0.5).astype(np.int32) for place in (x, y))
    whole = np.stack([x32 // steps, y32 // steps], axis=-1).astype(np.int16)
    return whole, (y32 % steps * steps + x32 % steps).astype(np.uint16)


def beyond(warp: Map, size: tuple[int, int], extent: tuple[int, int]) -> float:
    """How far the frame's corners are outside the picture, in its pixels; <= 0: inside."""
    width, height = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    x, y = warp @ corners.T
    return float(max(-x.min(), -y.min(), x.max() - extent[0], y.max() - extent[1]))


def detail(piece: UInt8Image) -> float:
    """Mean absolute second difference: how much there is to see in a piece of a photograph."""
    return float(np.abs(cv2.Laplacian(piece, cv2.CV_16S)).mean())


def blob(rng: Generator, side: int) -> UInt8Image:
    """(side, side) mask of a smooth random outline with soft edges, 255 inside."""
    finer = 4
    waves = [(k, rng.uniform(-0.15, 0.15), rng.uniform(0.0, 2.0 * math.pi)) for k in (2, 3, 4, 5)]
    angles = [2.0 * math.pi * step / 256 for step in range(256)]
    radii = [
        1.0 + sum(h * math.cos(k * angle + phase) for k, h, phase in waves) for angle in angles
    ]
    unit = 0.47 * finer * side / max(radii)
    outline = [
        (unit * radius * math.cos(angle), unit * radius * math.sin(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]
    points = np.rint(np.array(outline) + finer * side / 2).astype(np.int32)
    drawn = np.zeros((finer * side, finer * side), np.uint8)
    cv2.fillPoly(drawn, [points], (255,))
    mask = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(mask, (5, 5), 1.0), np.uint8)


def blend(behind: UInt8Image, front: UInt8Image, mask: UInt8Image) -> UInt8Image:
    """`front` where the mask is 255, `behind` where it is 0, mixed in whole numbers between."""
    weight = mask[..., None].astype(np.uint16)
    mixed = front * weight + behind * (np.uint16(255) - weight)
    return ((mixed + 127) // 255).astype(np.uint8)


def png(frame: UInt8Image, compression: int = 3) -> bytes:
    """The bytes of a PNG file of an (H, W, 3) RGB frame; a compression of 0..9."""
    whole, content = cv2.imencode(
        ".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, compression]
    )
    if not whole:
        raise SourceError(f"a frame of shape {frame.shape} could not be written as PNG")
    return content.tobytes()
