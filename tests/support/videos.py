"""Videos whose frames say who they are: a number in blocks, and four corner colors."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from stvsr.core.image import UInt8Image

WIDTH, HEIGHT = 160, 96
CORNERS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 230, 230))
"""Top left, top right, bottom left, bottom right."""
BITS, BLOCK = 8, 16
RATE = 25


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> UInt8Image:
    """A frame with corners, its number in blocks, and a pattern that moves 2 px a frame."""
    x, y = np.meshgrid(np.arange(width) + 2 * number, np.arange(height))
    grey = 118 + 40 * np.sin(x / 7) * np.cos(y / 9)
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    size = min(width, height) // 4
    for corner, color in enumerate(CORNERS):
        rows = slice(0, size) if corner < 2 else slice(height - size, height)
        columns = slice(0, size) if corner % 2 == 0 else slice(width - size, width)
        image[rows, columns] = color
    top, left = height // 2 - BLOCK // 2, width // 2 - BITS * BLOCK // 2
    for bit in range(BITS):
        block = (slice(top, top + BLOCK), slice(left + bit * BLOCK, left + (bit + 1) * BLOCK))
        image[block] = 235 if number >> bit & 1 else 20
    return image


def number_in(image: UInt8Image) -> int:
    """The number that `numbered` drew into an upright frame of any size with blocks of `BLOCK`."""
    height, width = image.shape[:2]
    row, left = height // 2, width // 2 - BITS * BLOCK // 2
    centers = [int(image[row, left + bit * BLOCK + BLOCK // 2].mean()) for bit in range(BITS)]
    return sum((center > 127) << bit for bit, center in enumerate(centers))


def corners_of(image: UInt8Image) -> list[tuple[int, ...]]:
    """The four corner colors of a frame, a few pixels inside."""
    return [tuple(int(v) for v in image[y, x]) for y in (6, -7) for x in (6, -7)]


def encode(
    path: Path,
    frames: Iterable[UInt8Image],
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = RATE,
    options: Mapping[str, str] | None = None,
    aspect: Fraction | None = None,
    tags: Mapping[str, int] | None = None,
) -> Path:
    """Encode frames (H, W, 3) RGB.

    Args:
        path: its suffix names the container.
        frames: of one size.
        times: presentation time of each frame in units of 1/rate; default 0, 1, 2, …
        codec: FFmpeg's name of the encoder.
        pix_fmt: pixel format.
        rate: frames per second.
        options: of the encoder.
        aspect: sample aspect ratio.
        tags: color_trc, color_primaries, colorspace, color_range of H.273, by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream: VideoStream | None = None
        for number, image in enumerate(frames):
            if stream is None:
                added = container.add_stream(codec, rate=rate, options=dict(options or {}))
                assert isinstance(added, VideoStream)
                stream = added
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
                for name, value in (tags or {}).items():
                    setattr(stream.codec_context, name, value)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode())
    return path


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Write a display matrix into an MP4's track header (16.16 fixed point, 1 is 65536)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    values = (a, b, 0, c, d, 0, 0, 0, 0x4000)
    for place, value in enumerate(values):
        entry = (int(value * 65536) & 0xFFFFFFFF).to_bytes(4, "big")
        content[start + 4 * place : start + 4 * place + 4] = entry
    path.write_bytes(content)
    return path


def packets(path: Path) -> list[tuple[int, int, int, bool]]:
    """(position, size, time stamp, is a key frame) of each video packet, as stored."""
    with av.open(path) as container:
        return [
            (int(packet.pos or 0), packet.size, int(packet.pts or 0), bool(packet.is_keyframe))
            for packet in container.demux(video=0)
            if packet.size
        ]


def invert(path: Path, at: int, count: int = 1) -> Path:
    """Invert `count` bytes from `at` on."""
    content = bytearray(path.read_bytes())
    content[at : at + count] = bytes(byte ^ 0xFF for byte in content[at : at + count])
    path.write_bytes(content)
    return path
