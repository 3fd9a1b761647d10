"""Geometry of stored frames: display matrix and sample aspect ratio."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True)
class Geometry:
    """How stored pixels are shown.

    Attributes:
        width: of the stored frame, pixels.
        height: of the stored frame, pixels.
        aspect: width of a stored pixel over its height (the sample aspect ratio).
        transposed: the display swaps rows and columns (before it flips).
        flip_rows: the display reverses the order of rows.
        flip_columns: the display reverses the order of columns.
    """

    width: int
    height: int
    aspect: Fraction = Fraction(1)
    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of the upright frame, in its own pixels."""
        size = (self.width, self.height)
        return size[::-1] if self.transposed else size

    @property
    def upright_aspect(self) -> Fraction:
        """Width of a pixel of the upright frame over its height."""
        return 1 / self.aspect if self.transposed else self.aspect

    @property
    def is_turned(self) -> bool:
        """True if the stored frame is shown turned or mirrored."""
        return self.transposed or self.flip_rows or self.flip_columns

    @property
    def square_size(self) -> tuple[float, float]:
        """Width and height of the upright frame in square pixels, no more of them than stored."""
        width, height = self.shape
        aspect = float(self.upright_aspect)
        return (width, height / aspect) if aspect > 1 else (width * aspect, height)

    def upright(self, image: NDArray[Pixel]) -> NDArray[Pixel]:
        """Turn a stored frame (H, W, 3) the way it is shown; pixels keep their aspect."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def with_display_matrix(geometry: Geometry, matrix: bytes) -> Geometry | None:
    """Apply a stream's display matrix; None where it is no multiple of 90 degrees, mirrored or not.

    Args:
        geometry: of the stored frame.
        matrix: nine int32 in the machine's byte order, as FFmpeg has it: a point (x, y) is shown at
            (a x + c y, b x + d y) for the entries a, b, _, c, d, … in 16.16 fixed point.
    """
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if b == c == 0 and a and d:
        turned = (False, d < 0, a < 0)
    elif a == d == 0 and b and c:
        turned = (True, b < 0, c < 0)
    else:
        return None
    return Geometry(geometry.width, geometry.height, geometry.aspect, *turned)


def upright(rgb: NDArray[Pixel], geometry: Geometry) -> NDArray[Pixel]:
    """`Geometry.upright` for a frame (3, H, W)."""
    return np.ascontiguousarray(geometry.upright(rgb.transpose(1, 2, 0)).transpose(2, 0, 1))
