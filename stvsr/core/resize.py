"""MATLAB's bicubic imresize by 1/4, bit for bit, in both of its variants."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stvsr.core.clip import SCALE
from stvsr.core.image import UInt8Image

TAPS = 4 * SCALE
"""Input rows that one output row depends on: the kernel's support of 4, stretched by the scale."""


def downsample_bicubic(image: UInt8Image) -> UInt8Image:
    """Reduce an image to a quarter as MATLAB's imresize does on **double** input.

    Cubic kernel with a = -0.5 stretched by the scale (antialiasing), mirrored borders with the
    edge pixel repeated, height before width, no rounding between the passes and one rounding to
    8 bit (half up) at the end. The published Vimeo-90K and Vid4 LR sets were made this way.

    Every weight is a multiple of 1/4096, so all sums are exact: in float32 after the first pass
    (20 bits), in float64 after the second, in whatever order a matrix product takes them. The
    result is the same on every machine.

    Args:
        image: (H, W, C), 0..255; H and W multiples of 4.

    Returns:
        (H / 4, W / 4, C), 0..255.

    Raises:
        ValueError: `image` has another shape.
    """
    _check_shape(image)
    return _to_levels(_reduce_columns(_reduce_rows(image, np.float32), np.float64))


def downsample_bicubic_uint8(image: UInt8Image) -> UInt8Image:
    """Reduce an image to a quarter as MATLAB's imresize does on **uint8** input.

    As `downsample_bicubic`, but the first pass too is rounded half up and clipped to 8 bit.
    Arguments, result and errors are the same.
    """
    _check_shape(image)
    return _to_levels(_reduce_columns(_to_levels(_reduce_rows(image, np.float32)), np.float32))


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -0.5: 1 at 0, negative in 1..2, zero from 2 on."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


_WEIGHTS = cubic((np.arange(TAPS) - (TAPS - 1) / 2) / SCALE)[None] / SCALE
"""(1, TAPS): what the input rows count for in one output row."""


def _check_shape(image: UInt8Image) -> None:
    if image.ndim != 3 or image.shape[0] % SCALE or image.shape[1] % SCALE or not image.size:
        raise ValueError(
            f"an image of shape {image.shape} cannot be reduced to a quarter; "
            f"allowed is (H, W, C) with H and W multiples of {SCALE}"
        )


def _reduce_rows(
    image: NDArray[np.generic], sums: type[np.float32] | type[np.float64]
) -> NDArray[np.floating]:
    """(H, W, C) -> (H / 4, W, C), summed in the type `sums`.

    Output row y is at input row 4y + 1.5, whatever y: one set of weights serves all of them.
    """
    height, width, channels = image.shape
    margin = (TAPS - SCALE) // 2
    around = np.arange(-margin, height + margin) % (2 * height)
    mirrored = np.minimum(around, 2 * height - 1 - around)
    padded = np.empty((height + 2 * margin, width, channels), sums)
    padded[margin:-margin] = image
    padded[:margin] = image[mirrored[:margin]]
    padded[-margin:] = image[mirrored[-margin:]]
    windows = sliding_window_view(padded.reshape(len(padded), -1), TAPS, axis=0)[::SCALE]
    total = _WEIGHTS.astype(sums) @ windows.transpose(0, 2, 1)
    return np.asarray(total.reshape(-1, width, channels))


def _reduce_columns(
    image: NDArray[np.generic], sums: type[np.float32] | type[np.float64]
) -> NDArray[np.floating]:
    """(H, W, C) -> (H, W / 4, C)."""
    return _reduce_rows(image.transpose(1, 0, 2), sums).transpose(1, 0, 2)


def _to_levels(image: NDArray[np.floating]) -> UInt8Image:
    """Round half up and clip to 8 bit; the result is in memory as (H, W, C)."""
    return np.ascontiguousarray(np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8))
