"""How pixels are coded: planes of a decoded frame to RGB and back, exact, in numpy.

swscale only moves samples between layouts here. It takes grey for full range, rounds chroma to
8 bit and sites it by its own rule, so matrix, range and chroma are computed by this module.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from stvsr.core.resize import cubic
from stvsr.video.color import HDR

Plane = NDArray[np.float32]
Samples = NDArray[Any]
"""Samples as they are stored, uint8 or uint16."""

UNSPECIFIED = 2
"""H.273's number of an unknown matrix, transfer or set of primaries."""

RGB = 0
"""Matrix coefficients of RGB."""

BT709, BT601 = 1, 6

WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Weights of red and blue in luma by matrix coefficients (H.273)."""

NAMES = {1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}

_PLANAR = re.compile(r"(yuvj?4\d\dp|yuva4\d\dp|gray|gbrp|gbrap)(\d+le)?")
_LAYOUTS = {
    **{(2, 2): "420", (2, 1): "422", (1, 1): "444"},
    **{(1, 2): "440", (4, 1): "411", (4, 4): "410"},
}
"""Names of chroma layouts by how many columns and rows of luma share a sample."""

_CENTRED = frozenset({"mjpeg", "mpeg1video"})
"""Codecs whose chroma stands in the middle of its luma; others' is in the left one's column."""

_STRICTLY_VIDEO = frozenset({"h264", "hevc", "av1", "vp9", "mpeg2video"})
"""Codecs whose grey frames have studio range unless they say otherwise."""


@dataclass(frozen=True)
class Coding:
    """The meaning of the samples of a video's frames (numbers of ITU-T H.273).

    Attributes:
        bits: of a sample.
        matrix: coefficients; `RGB` where frames are RGB.
        is_full: samples use all values; otherwise black is 16 and white 235 (of 8 bits).
        transfer: characteristics.
        primaries: of the colors.
        layout: columns and rows of luma that share a chroma sample.
        is_grey: there is no chroma.
        is_centred: chroma stands in the middle of its luma's columns.
        guessed: what the file does not say, and what is assumed, in words; or empty.
    """

    bits: int = 8
    matrix: int = BT709
    is_full: bool = False
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    layout: tuple[int, int] = (2, 2)
    is_grey: bool = False
    is_centred: bool = False
    guessed: str = ""

    @property
    def hdr(self) -> str:
        """PQ or HLG; empty for standard dynamic range."""
        return HDR.get(self.transfer, "")

    @property
    def levels(self) -> tuple[float, float, float, float]:
        """Luma of black, luma from black to white, chroma of grey, chroma from end to end."""
        one = float(1 << (self.bits - 8))
        if self.is_full:
            top = float((1 << self.bits) - 1)
            return 0.0, top, 128 * one, top
        return 16 * one, 219 * one, 128 * one, 224 * one


def coding_of(frame: av.VideoFrame, codec: str = "") -> Coding:
    """How a decoded frame is coded.

    A frame that names no matrix is BT.709 from 1280 columns or 577 lines on and BT.601 below, as
    players have it.

    Args:
        frame: as it was decoded.
        codec: FFmpeg's name of its codec.
    """
    shape = frame.format
    name = shape.name
    is_rgb = bool(shape.is_rgb or shape.has_palette)
    is_grey = name.startswith(("gray", "ya", "mono"))
    matrix, guessed = int(frame.colorspace), ""
    if is_rgb:
        matrix = RGB
    elif matrix not in WEIGHTS:
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
        guessed = "" if is_grey else f"no color matrix: {NAMES[matrix]} is assumed, as players do"
    is_full = int(frame.color_range) == int(ColorRange.JPEG) or name.startswith("yuvj") or is_rgb
    if is_grey and int(frame.color_range) == int(ColorRange.UNSPECIFIED):
        is_full = codec not in _STRICTLY_VIDEO
    layout = (1, 1) if is_rgb or is_grey else _layout(frame)
    return Coding(
        bits=max(8, shape.components[0].bits) if not shape.has_palette else 8,
        matrix=matrix,
        is_full=is_full,
        transfer=int(frame.color_trc or UNSPECIFIED),
        primaries=int(frame.color_primaries or UNSPECIFIED),
        layout=layout,
        is_grey=is_grey,
        is_centred=codec in _CENTRED,
        guessed=guessed,
    )


def coding_fault(frame: av.VideoFrame) -> str:
    """Name a coding that is not passed through; "" where there is none."""
    if frame.format.is_rgb or frame.format.has_palette:
        return ""
    matrix = int(frame.colorspace)
    if matrix in WEIGHTS or matrix in (RGB, UNSPECIFIED, 3):
        return ""
    return f"matrix coefficients {matrix}: convert it to BT.709 first"


def to_rgb(frame: av.VideoFrame, coding: Coding) -> Plane:
    """A frame as RGB (3, H, W), float32; 0 is black and 1 white in the frame's own transfer.

    Raises:
        ValueError: its pixel format is not known, or a pixel is transparent.
    """
    planes = _planes(frame)
    peak = float((1 << coding.bits) - 1)
    if len(planes) in (2, 4):
        if planes[-1].min() < peak:
            raise ValueError("found transparent pixels; flatten the picture on a background first")
        planes = planes[:-1]
    if coding.matrix == RGB:
        green, blue, red = (plane.astype(np.float32) / np.float32(peak) for plane in planes)
        return np.stack([red, green, blue])
    black, span, zero, chroma_span = map(np.float32, coding.levels)
    y = (planes[0].astype(np.float32) - black) / span
    if len(planes) == 1:
        return np.stack([y, y, y])
    cb, cr = (
        _enlarge((plane.astype(np.float32) - zero) / chroma_span, y.shape, coding)
        for plane in planes[1:]
    )
    kr, kb = WEIGHTS[coding.matrix]
    rgb = np.empty((3, *y.shape), np.float32)
    rgb[0] = y + np.float32(2 * (1 - kr)) * cr
    rgb[2] = y + np.float32(2 * (1 - kb)) * cb
    rgb[1] = (y - np.float32(kr) * rgb[0] - np.float32(kb) * rgb[2]) / np.float32(1 - kr - kb)
    return rgb


def from_rgb(rgb: Plane, coding: Coding) -> list[Samples]:
    """RGB (3, H, W) in [0, 1] as the planes Y, Cb, Cr of a coding, rounded half up."""
    kr, kb = WEIGHTS[coding.matrix]
    black, span, zero, chroma_span = coding.levels
    red, green, blue = rgb
    y = np.float32(kr) * red + np.float32(1 - kr - kb) * green + np.float32(kb) * blue
    planes = [y * np.float32(span) + np.float32(black)]
    for part, weight in ((blue, kb), (red, kr)):
        chroma = (part - y) * np.float32(chroma_span / (2 * (1 - weight)))
        planes.append(_reduce(chroma, coding) + np.float32(zero))
    return [to_levels(plane, coding.bits) for plane in planes]


def to_levels(plane: Plane, bits: int) -> Samples:
    """Round half up to whole levels of `bits` bits."""
    levels = np.clip(np.floor(plane + np.float32(0.5)), 0, (1 << bits) - 1)
    return np.asarray(levels, np.uint8 if bits == 8 else np.uint16)


def make_frame(planes: Sequence[Samples], pix_fmt: str) -> av.VideoFrame:
    """A frame of a planar pixel format from its planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        _view(plane, samples.dtype)[: samples.shape[0], : samples.shape[1]] = samples
    return frame


def _planes(frame: av.VideoFrame) -> list[Samples]:
    """The planes of a frame as they are stored: Y Cb Cr, or G B R; alpha last."""
    shape = frame.format
    if not _PLANAR.fullmatch(shape.name):
        frame = frame.reformat(
            format=_planar_name(frame),
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
        )
        shape = frame.format
    found: list[Samples] = []
    for plane, component in zip(frame.planes, shape.components, strict=True):
        kind = np.dtype(np.uint8 if component.bits <= 8 else np.uint16)
        found.append(_view(plane, kind)[: plane.height, : plane.width])
    return found


def _planar_name(frame: av.VideoFrame) -> str:
    """The planar format that holds just the samples of another one."""
    shape = frame.format
    bits = max(8, shape.components[0].bits)
    depth = "" if bits == 8 else f"{bits}le"
    if shape.name == "pal8":
        return "gbrap"
    if shape.is_rgb:
        return ("gbrap" if len(shape.components) == 4 else "gbrp") + depth
    if shape.name.startswith(("gray", "mono")):
        return f"gray{depth}"
    if shape.name.startswith("ya"):
        return f"yuva444p{depth}"
    if _layout(frame) not in _LAYOUTS:
        raise ValueError(f"pixel format {shape.name}: convert it to yuv420p first")
    return f"yuv{_LAYOUTS[_layout(frame)]}p{depth}"


def _layout(frame: av.VideoFrame) -> tuple[int, int]:
    """Columns and rows of luma that share a chroma sample."""
    shape = frame.format
    return 16 // max(1, shape.chroma_width(16)), 16 // max(1, shape.chroma_height(16))


def _view(plane: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    """The memory of a plane, rows with their padding."""
    samples = np.frombuffer(memoryview(plane), kind)
    columns = plane.line_size // kind.itemsize
    return samples[: len(samples) // columns * columns].reshape(-1, columns)


# --- chroma: Keys' cubic (a = -0.5), sited as the coding says


def _sites(coding: Coding) -> tuple[tuple[int, float], tuple[int, float]]:
    """For rows and columns: luma samples that share one of chroma, and where it stands in them."""
    columns, rows = coding.layout
    return (rows, (rows - 1) / 2), (columns, (columns - 1) / 2 if coding.is_centred else 0.0)


def _enlarge(plane: Plane, size: tuple[int, ...], coding: Coding) -> Plane:
    """Chroma (h, w) at the size of luma."""
    (rows, top), (columns, left) = _sites(coding)
    plane = _enlarge_rows(plane, size[0], rows, top)
    return _enlarge_rows(plane.T, size[1], columns, left).T


def _enlarge_rows(plane: Plane, size: int, factor: int, site: float) -> Plane:
    if factor == 1:
        return plane[:size]
    margin = 3
    padded = np.pad(plane, ((margin, margin), (0, 0)), mode="edge")
    count = -(-size // factor)
    out = np.empty((count * factor, plane.shape[1]), np.float32)
    for phase in range(factor):
        place = (phase - site) / factor
        first = int(np.floor(place)) - 1
        weights = cubic(np.asarray(place - np.arange(first, first + 4), np.float64))
        out[phase::factor] = sum(
            np.float32(weight) * padded[margin + tap : margin + tap + count]
            for tap, weight in enumerate(weights, start=first)
        )
    return out[:size]


def _reduce(plane: Plane, coding: Coding) -> Plane:
    """Chroma at the size of luma (H, W), reduced to its own, antialiased."""
    (rows, top), (columns, left) = _sites(coding)
    plane = _reduce_rows(plane, rows, top)
    return _reduce_rows(plane.T, columns, left).T


def _reduce_rows(plane: Plane, factor: int, site: float) -> Plane:
    if factor == 1:
        return plane
    taps = np.arange(int(np.ceil(site - 2 * factor)), int(np.floor(site + 2 * factor)) + 1)
    weights = cubic(np.asarray((taps - site) / factor, np.float64))
    weights /= weights.sum()
    margin, count = 2 * factor + 1, -(-len(plane) // factor)
    padded = np.pad(plane, ((margin, margin + factor), (0, 0)), mode="edge")
    out = np.zeros((count, plane.shape[1]), np.float32)
    for tap, weight in zip(taps, weights, strict=True):
        if weight:
            start = margin + int(tap)
            out += np.float32(weight) * padded[start : start + factor * count : factor][:count]
    return out
