"""Color of decoded frames: which are standard dynamic range, and their matrix to RGB."""

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation

from stvsr.core.image import UInt8Image

HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (ITU-T H.273) of high dynamic range."""

SDR_TRANSFERS = frozenset({0, 1, 2, 4, 5, 6, 7, 11, 13, 14, 15})
"""Transfer characteristics that are shown as they are: gamma curves, sRGB, and unspecified."""

WIDE_PRIMARIES = frozenset({9, 10, 11, 12})
"""Color primaries wider than BT.709's: BT.2020, SMPTE 428, DCI-P3, Display P3."""

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""Matrix coefficients (H.273) by what swscale calls them."""

UNSPECIFIED_MATRICES = frozenset({0, 2, 3})
"""Matrix coefficients that say nothing of a YCbCr frame: identity (RGB), unspecified, reserved."""


def color_fault(frame: av.VideoFrame) -> str:
    """Name a color that 8-bit RGB cannot stand for without conversion; "" where there is none."""
    transfer = int(frame.color_trc or 0)
    if transfer in HDR:
        return f"HDR ({HDR[transfer]}): convert it to standard dynamic range first"
    if transfer not in SDR_TRANSFERS:
        return f"transfer characteristics {transfer}: convert it to BT.709 first"
    if int(frame.color_primaries or 0) in WIDE_PRIMARIES:
        return "wide-gamut color primaries: convert it to BT.709 first"
    matrix = int(frame.colorspace)
    if matrix not in _MATRICES and matrix not in UNSPECIFIED_MATRICES:
        return f"matrix coefficients {matrix}: convert it to BT.709 first"
    return ""


def luma(frame: av.VideoFrame) -> UInt8Image:
    """Y of a frame (H, W), 8-bit, to compare it with others of its video.

    Raises:
        OSError: its pixel format cannot be converted.
        ValueError: the same.
    """
    # Without a matrix of ours, swscale refuses a frame that names one that it does not know.
    return np.asarray(
        frame.reformat(format="gray", src_colorspace=Colorspace.ITU709).to_ndarray(), np.uint8
    )


def thumbnail(frame: av.VideoFrame, size: tuple[int, int]) -> UInt8Image:
    """A frame at (width, height), as (H, W, 3) in blue, green, red."""
    small = frame.reformat(
        *size, "bgr24", src_colorspace=Colorspace.ITU709, interpolation=Interpolation.AREA
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def to_rgb(frame: av.VideoFrame) -> UInt8Image:
    """Convert a frame to RGB (H, W, 3), full range, by its own matrix and range.

    A frame that names no matrix is BT.709 from 1280 columns or 577 lines on and BT.601 below, as
    players have it.
    """
    named = _MATRICES.get(int(frame.colorspace))
    is_hd = frame.width >= 1280 or frame.height > 576
    matrix = named or (Colorspace.ITU709 if is_hd else Colorspace.ITU601)
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix)
    return np.asarray(rgb.to_ndarray(), np.uint8)
