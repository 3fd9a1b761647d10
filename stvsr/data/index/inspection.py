"""Inspection of a clip: its seven PNG files are checked and its motion measured."""

import hashlib
import struct
from dataclasses import dataclass

import cv2
import numpy as np

from stvsr.core.clip import SCALE, SEPTUPLET
from stvsr.core.config import Count
from stvsr.core.image import UInt8Image
from stvsr.data.clips import png
from stvsr.data.clips.frames import FrameError, Frames
from stvsr.data.clips.layout import FRAMES

FLOW_WIDTH = 224
"""Greatest width at which motion is measured; a Vimeo-90K frame is halved for it."""

FLOW_PAIRS = ((0, 1), (2, 3), (4, 5))
"""Frames (from 0) between which motion is measured: half of a clip's six steps."""


@dataclass(frozen=True)
class Limits:
    """Limits of a valid clip.

    Attributes:
        smallest_side: pixels that width and height must have at least.
        largest_side: pixels that they may have at most.
        black_level: a clip without any value above it counts as black.
    """

    smallest_side: int
    largest_side: int
    black_level: int


@dataclass(frozen=True)
class Inspection:
    """Result of inspecting a clip.

    Attributes:
        reason: why it is rejected; "" where it is valid.
        width: pixels; 0 where unknown.
        height: pixels; 0 where unknown.
        motion_px: mean length of the optical flow, pixels per frame; 0 where rejected.
        brightness: mean grey level of all frames, 0..255; 0 where rejected.
        digest: SHA-256 over the files' bytes; "" where a file is missing.
    """

    reason: str
    width: Count = 0
    height: Count = 0
    motion_px: float = 0.0
    brightness: float = 0.0
    digest: str = ""


class RejectedError(Exception):
    """Why a clip is rejected; it never leaves this module."""


def inspect_clip(frames: Frames, clip: str, limits: Limits) -> Inspection:
    """Open every frame of a clip and measure it; a fault is a reason in the result, not an error.

    Valid means: seven files im1.png … im7.png, all 8-bit RGB PNG that decode to the end, of one
    size within the limits that the scale of 4 divides, and not all black. The size is read from
    the header and checked before anything is decoded.

    Args:
        frames: where the clip's files are read from.
        clip: name such as "00001/0266".
        limits: what sizes and what darkness are allowed.
    """
    cv2.setNumThreads(1)
    size = (0, 0)
    try:
        contents = _read_files(frames, clip)
        size = _checked_size(contents[0], limits)
        images = [_decoded(number, content, size) for number, content in enumerate(contents, 1)]
        if max(int(image.max()) for image in images) <= limits.black_level:
            raise RejectedError(f"all black (no value above {limits.black_level})")
    except RejectedError as fault:
        return Inspection(str(fault), width=size[1], height=size[0])
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    return Inspection(
        reason="",
        width=size[1],
        height=size[0],
        motion_px=round(_motion([np.asarray(grey, np.uint8) for grey in greys]), 3),
        brightness=round(float(np.mean([grey.mean() for grey in greys])), 3),
        digest=hashlib.sha256(b"".join(contents)).hexdigest(),
    )


def _read_files(frames: Frames, clip: str) -> list[bytes]:
    missing = frames.missing(clip)
    if len(missing) == SEPTUPLET:
        raise RejectedError("the list names it, but its frames are missing")
    if missing:
        names = ", ".join(f"im{number}.png" for number in missing)
        raise RejectedError(f"{SEPTUPLET - len(missing)} of {SEPTUPLET} frames: {names} missing")
    return [_read(frames, clip, number) for number in FRAMES]


def _read(frames: Frames, clip: str, number: int) -> bytes:
    try:
        return frames.read(clip, number)
    except FrameError as fault:
        raise RejectedError(f"im{number}.png: {fault}") from None


def _checked_size(content: bytes, limits: Limits) -> tuple[int, int]:
    """(H, W) from the header of the first frame."""
    if len(content) < 24 or content[:8] != png.SIGNATURE:
        raise RejectedError("im1.png: not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    least, most = limits.smallest_side, limits.largest_side
    if not (least <= width <= most and least <= height <= most):
        raise RejectedError(f"{width}x{height} pixels; allowed: {least} to {most} on each side")
    if width % SCALE or height % SCALE:
        raise RejectedError(f"{width}x{height} pixels; both sides must be multiples of {SCALE}")
    return height, width


def _decoded(number: int, content: bytes, size: tuple[int, int]) -> UInt8Image:
    """(H, W, 3) RGB."""
    try:
        return png.decode(content, size)
    except (ValueError, struct.error) as error:
        raise RejectedError(f"im{number}.png: {error}") from None


def _motion(greys: list[UInt8Image]) -> float:
    """Mean length of the DIS optical flow over all pixels of three steps, in pixels per frame."""
    height, width = greys[0].shape
    small_width = min(FLOW_WIDTH, int(width))
    small = (small_width, max(32, round(small_width * height / width)))
    greys = [
        np.asarray(cv2.resize(grey, small, interpolation=cv2.INTER_AREA), np.uint8)
        for grey in greys
    ]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths: list[float] = []
    for before, after in FLOW_PAIRS:
        start = np.zeros((small[1], small[0], 2), np.float32)
        vectors = flow.calc(greys[before], greys[after], start)
        lengths.append(float(np.linalg.norm(vectors, axis=-1).mean()))
    return float(np.mean(lengths) * width / small_width)
