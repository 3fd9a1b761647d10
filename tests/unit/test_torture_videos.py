"""The torture set: each kind of awkward video in each container and codec that carries it.

Frames have their number and four corner colors drawn in, so which frame is shown when, and which
way up, is read from the pixels. Each row says: these frames, or this sentence.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.stream import VideoStream

from stvsr.core.image import UInt8Image
from stvsr.video.reader import DAMAGED, INTERLACED, TURNED, Scan, VideoError, VideoReader
from stvsr.video.segments import REPEATED, segments
from tests.support.videos import (
    CORNERS,
    corners_of,
    encode,
    invert,
    number_in,
    numbered,
    packets,
    set_display_matrix,
)

Make = Callable[[Path, "Carrier"], Path]


@dataclass(frozen=True)
class Carrier:
    """A container with a codec, and how it is encoded."""

    suffix: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"

    def encode(
        self, path: Path, frames: Iterable[UInt8Image], *args: object, **more: object
    ) -> Path:
        path = path.with_suffix(f".{self.suffix}")
        values = {"codec": self.codec, "options": self.options, "pix_fmt": self.pix_fmt, **more}
        return encode(path, frames, *args, **values)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.suffix}-{self.codec}"


GOP = 12
X264 = {"g": str(GOP), "bf": "2", "x264-params": "scenecut=0:log-level=0"}
X265 = {
    "x265-params": f"hash=1:open-gop=0:keyint={GOP}:min-keyint={GOP}:scenecut=0:"
    "log-level=none:pools=none"
}
MPEG = {"g": str(GOP), "bf": "2", "b": "2000000", "sc_threshold": "1000000000"}
VPX = {"g": str(GOP), "cpu-used": "8", "deadline": "realtime", "b": "1000000"}

MP4 = Carrier("mp4", "libx264", X264)
MOV = Carrier("mov", "mpeg4", MPEG)
MKV = Carrier("mkv", "libx264", X264)
HEVC = Carrier("mkv", "libx265", X265)
WEBM = Carrier("webm", "libvpx-vp9", VPX)
VP8 = Carrier("webm", "libvpx", VPX)
TS = Carrier("ts", "libx264", X264)
MPEG2_TS = Carrier("ts", "mpeg2video", MPEG)
MPG = Carrier("mpg", "mpeg2video", MPEG)
AVI = Carrier("avi", "mpeg4", MPEG)
H264_AVI = Carrier("avi", "libx264", X264)
FLV = Carrier("flv", "libx264", X264)
WMV = Carrier("wmv", "wmv2", {"g": str(GOP), "b": "2000000"})
RAW_H264 = Carrier("h264", "libx264", X264)
RAW_HEVC = Carrier("hevc", "libx265", X265)
RAW_MPEG2 = Carrier("m2v", "mpeg2video", MPEG)
FFV1 = Carrier("mkv", "ffv1")
MJPEG = Carrier("avi", "mjpeg", pix_fmt="yuvj420p")
MXF = Carrier("mxf", "mpeg2video", MPEG)

TIMED = [MP4, MOV, MKV, HEVC, WEBM, VP8, TS, MPG, FLV]
EVEN = [*TIMED, MPEG2_TS, AVI, H264_AVI, WMV, RAW_H264, RAW_HEVC, RAW_MPEG2, FFV1, MJPEG, MXF]
CHAINED = [MP4, MKV, HEVC, TS, MPG, AVI, H264_AVI, RAW_H264, RAW_MPEG2]


def clip(*shown: int) -> list[UInt8Image]:
    return [numbered(number) for number in shown]


# --- how each kind is made


def plain(path: Path, carrier: Carrier) -> Path:
    return carrier.encode(path, clip(*range(30)))


def ntsc(path: Path, carrier: Carrier) -> Path:
    """29.97 frames a second, which containers round to milliseconds or ticks."""
    return carrier.encode(path, clip(*range(30)), rate=Fraction(30000, 1001))


def gap(path: Path, carrier: Carrier) -> Path:
    return carrier.encode(path, clip(*range(20)), [*range(10), *range(14, 24)])


def slower(path: Path, carrier: Carrier) -> Path:
    return carrier.encode(path, clip(*range(20)), [*range(10), *range(11, 31, 2)])


def jittered(path: Path, carrier: Carrier) -> Path:
    """A phone in the dark: steps of 40 ms and of 80 ms in no order."""
    steps = [1, 2, 1, 1, 2, 2, 1, 2, 1, 2, 2, 1, 1, 2]
    return carrier.encode(path, clip(*range(14)), [sum(steps[:n]) for n in range(14)])


def doubled(path: Path, carrier: Carrier) -> Path:
    """25 pictures a second in 50."""
    return carrier.encode(path, [f for f in clip(*range(16)) for _ in "ab"], rate=50)


def telecine(path: Path, carrier: Carrier) -> Path:
    """24 in 30: one picture in four is shown twice."""
    shown = [n for n in range(24) for _ in range(2 if n % 4 == 0 else 1)]
    return carrier.encode(path, clip(*shown), rate=30)


def one_repeat(path: Path, carrier: Carrier) -> Path:
    """24 in 25: one picture a second is shown twice."""
    return carrier.encode(path, clip(*range(12), *range(11, 24)))


def anamorphic(path: Path, carrier: Carrier) -> Path:
    return carrier.encode(path, clip(*range(3)), aspect=Fraction(4, 3))


def mirrored(path: Path, carrier: Carrier) -> Path:
    return set_display_matrix(carrier.encode(path, clip(*range(3))), -1, 0, 0, 1)


def upright_phone(path: Path, carrier: Carrier) -> Path:
    return set_display_matrix(carrier.encode(path, clip(*range(3))), 0, 1, -1, 0)


def tilted(path: Path, carrier: Carrier) -> Path:
    matrix = (0.9962, 0.0872, -0.0872, 0.9962)
    return set_display_matrix(carrier.encode(path, clip(*range(3))), *matrix)


def joined(path: Path, carrier: Carrier) -> Path:
    """Two files of other sizes, one after the other."""
    first = carrier.encode(path.with_name("a"), (numbered(n, 320, 192) for n in range(20)))
    second = carrier.encode(path.with_name("b"), clip(*range(20, 40)))
    path = path.with_suffix(f".{carrier.suffix}")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def combed(path: Path, carrier: Carrier) -> Path:
    options = {**carrier.options, "flags": "+ildct+ilme"}
    return carrier.encode(path, clip(*range(12)), options=options)


def tagged(transfer: int, primaries: int, matrix: int) -> Make:
    tags = {"color_trc": transfer, "color_primaries": primaries, "colorspace": matrix}
    return lambda path, carrier: carrier.encode(path, clip(*range(4)), tags=tags)


def with_cover(path: Path, carrier: Carrier) -> Path:
    """A cover picture that is larger than the video."""
    return _with_another(path, carrier, "mjpeg", (320, 192), 1, Disposition.attached_pic)


def with_preview(path: Path, carrier: Carrier) -> Path:
    """A second, smaller video stream that is not shown by default."""
    return _with_another(path, carrier, carrier.codec, (96, 64), 20, Disposition.forced)


def _with_another(
    path: Path,
    carrier: Carrier,
    codec: str,
    size: tuple[int, int],
    length: int,
    disposition: Disposition,
) -> Path:
    path = path.with_suffix(f".{carrier.suffix}")
    with av.open(path, "w") as container:
        streams: dict[VideoStream, list[UInt8Image]] = {}
        for name in (codec, carrier.codec):
            stream = container.add_stream(name, rate=25)
            assert isinstance(stream, VideoStream)
            width, height = (160, 96) if streams else size
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
            stream.disposition = Disposition.default if streams else disposition
            shown = clip(*range(20)) if streams else [np.zeros((*size[::-1], 3), np.uint8)] * length
            streams[stream] = shown
        for stream, images in streams.items():
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def playlist(path: Path, carrier: Carrier) -> Path:
    """A list of files, by the suffix of a video."""
    carrier.encode(path.with_name("other"), clip(*range(3)))
    path = path.with_suffix(f".{carrier.suffix}")
    path.write_text(f"ffconcat version 1.0\nfile other.{carrier.suffix}\n")
    return path


# --- what is expected


@dataclass(frozen=True)
class Row:
    """One kind of file: the frames of its segments, or the one fault that all frames have."""

    kind: Make
    carriers: Sequence[Carrier]
    frames: Sequence[Sequence[int]] = ()
    step: Fraction = Fraction(1, 25)
    corners: tuple[int, ...] = (0, 1, 2, 3)
    size: tuple[float, float] = (160, 96)
    sentence: str = ""
    tolerance: int = 12


WHOLE = [range(30)]
HDR = "HDR ({}): convert it to standard dynamic range first"
ROWS = [
    Row(plain, EVEN, WHOLE),
    Row(ntsc, [MP4, MKV, WEBM, TS, MPG, AVI, FLV], WHOLE, step=Fraction(1001, 30000)),
    Row(gap, TIMED, [range(10), range(10, 20)]),
    Row(slower, [MP4, MKV, WEBM, TS, FLV], [range(10), range(10, 20)]),
    Row(doubled, TIMED, [range(16)]),
    Row(one_repeat, [MP4, MKV, WEBM, TS, MPG, AVI, H264_AVI], [range(12), range(12, 24)]),
    Row(anamorphic, [MP4, MKV, HEVC, TS, MPG, MOV, AVI], [range(3)], size=(160, 72)),
    Row(mirrored, [MP4, MOV], [range(3)], corners=(1, 0, 3, 2)),
    Row(upright_phone, [MP4, MOV], [range(3)], corners=(2, 0, 3, 1), size=(96, 160)),
    Row(tilted, [MP4, MOV], sentence=TURNED),
    Row(combed, [MPEG2_TS, MPG, RAW_MPEG2], sentence=INTERLACED),
    Row(tagged(16, 9, 9), [MP4, MKV, HEVC, TS, WEBM], sentence=HDR.format("PQ")),
    Row(tagged(18, 9, 9), [MP4, MKV, HEVC, TS, WEBM], sentence=HDR.format("HLG")),
    Row(
        tagged(1, 12, 1),
        [MP4, MKV, HEVC, TS],
        sentence="wide-gamut color primaries: convert it to BT.709 first",
    ),
    Row(
        tagged(1, 1, 8),
        [MP4, MKV, TS],
        sentence="matrix coefficients 8: convert it to BT.709 first",
    ),
    Row(with_cover, [MP4], [range(20)]),
    Row(with_preview, [MP4, MKV], [range(20)]),
]
NAMES = {id(ROWS[at]): name for at, name in [(11, "pq"), (12, "hlg"), (13, "p3"), (14, "ycgco")]}


def scanned(path: Path) -> tuple[VideoReader, Scan]:
    reader, scan = VideoReader(path), Scan()
    for _ in reader.scan(scan):
        pass
    return reader, scan


def pictures(reader: VideoReader, scan: Scan) -> dict[int, UInt8Image]:
    return {frame.number: frame.rgb() for frame in reader.frames(scan, len(scan.frames))}


def stored(image: UInt8Image, row: Row) -> UInt8Image:
    """The picture as it was drawn, so that its number can be read."""
    if row.corners == (2, 0, 3, 1):
        return np.rot90(image)
    return image[:, ::-1] if row.corners == (1, 0, 3, 2) else image


CASES = [
    pytest.param(row, carrier, id=f"{NAMES.get(id(row), row.kind.__name__)}-{carrier}")
    for row in ROWS
    for carrier in row.carriers
]


@pytest.mark.parametrize(("row", "carrier"), CASES)
def test_these_frames_or_this_sentence(tmp_path: Path, row: Row, carrier: Carrier) -> None:
    reader, scan = scanned(row.kind(tmp_path / "v", carrier))
    if row.sentence:
        assert {frame.fault for frame in scan.frames} == {row.sentence}
        return
    assert {frame.fault for frame in scan.frames} <= {"", REPEATED}
    images = pictures(reader, scan)
    found = segments(scan.frames)
    drawn = [[number_in(stored(images[at], row)) for at in segment.frames] for segment in found]
    assert drawn == [list(numbers) for numbers in row.frames]
    for image in images.values():
        expected = [CORNERS[corner] for corner in row.corners]
        assert np.abs(np.subtract(corners_of(image), expected)).max() <= row.tolerance
    frames = [scan.frames[at] for at in found[0].frames]
    steps = [b.time - a.time for a, b in pairwise(frames) if a.time is not None and b.time]
    assert all(abs(step - row.step) <= Fraction(3, 2000) for step in steps)
    geometry = frames[0].geometry
    assert geometry is not None
    assert geometry.square_size == pytest.approx(row.size, rel=0.01)  # MPEG-2 rounds it


@pytest.mark.parametrize("kind", [telecine, jittered], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("carrier", [MP4, MKV, WEBM, TS], ids=str)
def test_uneven_time_gives_no_segment_as_long_as_a_clip(tmp_path, kind, carrier):
    _, scan = scanned(kind(tmp_path / "v", carrier))
    assert max(len(segment.frames) for segment in segments(scan.frames)) < 7


@pytest.mark.parametrize("carrier", [TS, MPEG2_TS, MPG, RAW_H264], ids=str)
def test_a_change_of_size_ends_a_segment(tmp_path, carrier):
    reader, scan = scanned(joined(tmp_path / "v", carrier))
    images = pictures(reader, scan)
    found = segments(scan.frames)
    for segment in found:
        numbers = [number_in(images[at]) for at in segment.frames]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert {images[at].shape for at in segment.frames} == (
            {(192, 320, 3)} if numbers[0] < 20 else {(96, 160, 3)}
        )
    assert sum(len(segment.frames) for segment in found) >= 30


@pytest.mark.parametrize("carrier", CHAINED, ids=str)
def test_damage_in_one_group_of_pictures_leaves_the_others_and_no_wrong_pixel(tmp_path, carrier):
    """The largest predicted packet of the second group of pictures is overwritten.

    VP8, VP9, and HEVC without hashes of its pictures have nothing by which a decoder could tell.
    """
    path = carrier.encode(tmp_path / "v", clip(*range(3 * GOP)))
    clean = {number_in(image): image for image in pictures(*scanned(path)).values()}
    assert sorted(clean) == list(range(3 * GOP))
    candidates = [p for p in packets(path)[GOP + 2 : 2 * GOP - 3] if p[0] and not p[3]]
    at, size, _, _ = max(candidates, key=lambda packet: packet[1])
    invert(path, at + size // 3, size // 2)
    reader, scan = scanned(path)
    used = {number_in(image): image for image in pictures(reader, scan).values()}
    assert set(used) >= {*range(GOP - 2), *range(2 * GOP + 2, 3 * GOP)}
    assert all(np.array_equal(image, clean[number]) for number, image in used.items())
    assert DAMAGED in {frame.fault for frame in scan.frames} or len(used) < len(clean)


@pytest.mark.parametrize("carrier", [MKV, WEBM, TS, MPG, AVI, FLV, RAW_H264], ids=str)
def test_a_file_that_breaks_off_is_used_up_to_there(tmp_path, carrier):
    path = carrier.encode(tmp_path / "v", clip(*range(3 * GOP)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    reader, scan = scanned(path)
    images = pictures(reader, scan)
    for segment in segments(scan.frames):
        used = [number_in(images[at]) for at in segment.frames]
        assert used == list(range(used[0], used[-1] + 1))
    assert GOP - 2 <= len(images) < 3 * GOP


@pytest.mark.parametrize("carrier", [MP4, MKV, TS, MPG], ids=str)
def test_a_playlist_is_no_video(tmp_path, carrier):
    with pytest.raises(VideoError, match="not a readable video"):
        VideoReader(playlist(tmp_path / "v", carrier))
