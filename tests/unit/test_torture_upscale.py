"""The torture set: what `stvsr upscale` makes of each kind of awkward file.

Each row says: every frame's time, sound and subtitles byte for byte, the four corners' colors, or
this sentence.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stvsr.core.errors import StvsrError
from stvsr.inference.video import VideoRequest, upscale_video
from stvsr.models import BicubicLinear
from stvsr.video.coding import to_rgb
from stvsr.video.geometry import Geometry, upright
from stvsr.video.mux import display_matrix
from stvsr.video.reader import VideoReader
from stvsr.video.scans import CodedScan
from stvsr.video.segments import REPEATED
from tests.support.movies import (
    HEIGHT,
    WIDTH,
    Movie,
    beside,
    duration,
    frame_times,
    packets,
    picture,
    tags,
    tick,
)
from tests.support.videos import invert
from tests.support.videos import packets as video_packets

MPEG2 = {"b": "4000000", "g": "12"}


def tagged(matrix: int, transfer: int, primaries: int, color_range: int = 1) -> dict[str, int]:
    names = ("colorspace", "color_trc", "color_primaries", "color_range")
    return dict(zip(names, (matrix, transfer, primaries, color_range), strict=True))


def turned(transposed: bool, flip_rows: bool, flip_columns: bool) -> list[int]:
    geometry = Geometry(0, 0, Fraction(1), transposed, flip_rows, flip_columns)
    return display_matrix(geometry, WIDTH, HEIGHT)


@dataclass(frozen=True)
class Row:
    """One kind of file.

    Attributes:
        name: of the row.
        suffix: of the input.
        movie: how it is made.
        out: suffix of the output; the input's where empty.
        tags: what the output's frames say of their colors; the input's where empty.
        said: words of each line that is logged.
        refusal: words of the one line that refuses it.
        change: what is done to the file.
        frames: input frames that are used; all where negative.
        sounds: streams beside the video that are copied; all where negative.
        space: scale.
    """

    name: str
    suffix: str
    movie: Movie
    out: str = ""
    tags: dict[str, int] = field(default_factory=dict)
    said: Sequence[str] = ()
    refusal: str = ""
    change: Callable[[Path], object] | None = None
    frames: int = -1
    copied: int = -1
    space: int = 4


def jittered() -> Movie:
    return Movie(times=(0, 40, 120, 160, 280, 300), rate=Fraction(1000))


def break_a_packet(path: Path) -> None:
    """Overwrite a predicted packet of the second group of pictures."""
    at, size, _, _ = next(p for p in video_packets(path)[14:20] if not p[3])
    invert(path, at + size // 3, size // 2)


def join_another_size(path: Path) -> None:
    small = [picture(n, 32, 32) for n in range(6)]
    other = Movie(frames=small, options=GOPS).write(path.with_name(f"other{path.suffix}"))
    path.write_bytes(path.read_bytes() + other.read_bytes())


def cut_in_two(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


LONG = [picture(n) for n in range(24)]
CUTS = [picture(n, scene=n // 5) for n in range(15)]
GOPS = {"crf": "1", "g": "12", "bf": "0", "x264-params": "scenecut=0:keyint=12"}
ROWS = [
    Row("vfr", ".mp4", jittered()),
    Row("vfr", ".mkv", jittered()),
    Row("vfr to another container", ".mkv", jittered(), ".mp4"),
    Row("24000-1001", ".mp4", Movie(rate=Fraction(24000, 1001))),
    Row("24000-1001", ".mkv", Movie(rate=Fraction(24000, 1001))),
    Row("10 bit", ".mkv", Movie(pix_fmt="yuv420p10le", tags=tagged(1, 1, 1))),
    Row("bt601", ".mp4", Movie(tags=tagged(6, 6, 6))),
    Row("bt709", ".mp4", Movie(tags=tagged(1, 1, 1))),
    Row("bt2020", ".mkv", Movie(tags=tagged(9, 14, 9))),
    Row("untagged", ".mp4", Movie(), tags=tagged(6, 2, 2), said=["BT.601 is assumed"]),
    Row("full range", ".mp4", Movie(tags=tagged(1, 1, 1, 2))),
    Row("full range", ".webm", Movie(codec="libvpx-vp9", options={"crf": "4", "b": "0"})),
    Row("pq", ".mkv", Movie(tags=tagged(9, 16, 9)), said=["HDR (PQ): passed through"]),
    Row("hlg", ".mp4", Movie(tags=tagged(9, 18, 9)), said=["HDR (HLG): passed through"]),
    Row("rotated", ".mp4", Movie(matrix=turned(True, False, True))),
    Row("rotated to another container", ".mp4", Movie(matrix=turned(True, False, True)), ".mkv"),
    Row("mirrored", ".mov", Movie(matrix=turned(False, False, True))),
    Row("non-square pixels", ".mkv", Movie(aspect=Fraction(16, 11))),
    Row(
        "non-square and rotated",
        ".mp4",
        Movie(aspect=Fraction(4, 3), matrix=turned(True, True, False)),
        ".mkv",
    ),
    Row(
        "interlaced",
        ".mpg",
        Movie(codec="mpeg2video", options={**MPEG2, "flags": "+ildct+ilme"}),
        ".mp4",
        refusal="interlaced: convert it to progressive frames first; such as by `ffmpeg",
    ),
    Row(
        "odd sizes",
        ".mp4",
        Movie(frames=[picture(n, 33, 31) for n in range(5)], pix_fmt="yuv444p"),
    ),
    Row(
        "odd sizes, time alone",
        ".mp4",
        Movie(frames=[picture(n, 33, 31) for n in range(5)], pix_fmt="yuv444p"),
        space=1,
    ),
    Row("two sound tracks", ".mkv", Movie(sounds=("aac", "libopus")), copied=2),
    Row("pcm", ".mov", Movie(sounds=("pcm_s16le",)), copied=1),
    Row(
        "opus",
        ".webm",
        Movie(codec="libvpx-vp9", options={"crf": "4", "b": "0"}, sounds=("libopus",)),
        copied=1,
    ),
    Row("ac-3", ".mp4", Movie(sounds=("ac3",)), copied=1),
    Row("aac", ".mp4", Movie(sounds=("aac",)), ".mkv", copied=1),
    Row("srt and ass", ".mkv", Movie(texts=("srt", "ass")), copied=2),
    Row(
        "srt to mp4",
        ".mkv",
        Movie(texts=("srt",)),
        ".mp4",
        said=["left out: stream 1, subtitle srt (eng): .mp4 does not hold it; .mkv does"],
        copied=0,
    ),
    Row("chapters", ".mp4", Movie(has_chapters=True, sounds=("aac",)), copied=1),
    Row("chapters to mkv", ".mp4", Movie(has_chapters=True), ".mkv"),
    Row("attachments", ".mkv", Movie(has_attachment=True)),
    Row("cover picture first", ".mp4", Movie(cover="mjpeg"), copied=1),
    Row("cover picture first", ".mp4", Movie(cover="png"), ".mkv", copied=1),
    Row("a track of time codes", ".mov", Movie(timecode="01:00:00:00", sounds=("pcm_s16le",))),
    Row(
        "a track of time codes to mkv",
        ".mov",
        Movie(timecode="01:00:00:00"),
        ".mkv",
        said=["left out: stream 1, data (eng): .mkv does not hold it"],
    ),
    Row("a cut every five frames", ".mp4", Movie(frames=CUTS)),
    Row(
        "damaged packets",
        ".mkv",
        Movie(frames=LONG, options=GOPS),
        said=["damaged at 0.", "kept up to there"],
        change=break_a_packet,
        frames=14,
    ),
    Row(
        "cut short",
        ".mkv",
        Movie(frames=LONG, options=GOPS),
        said=["its header promises about 24 frames"],
        change=cut_in_two,
        frames=-2,
    ),
    Row(
        "a change of resolution",
        ".h264",
        Movie(frames=LONG, options=GOPS),
        ".mp4",
        change=join_another_size,
        refusal="upscale each part on its own, with --start and --end",
    ),
    Row("mpeg-ts", ".ts", Movie(), ".mp4"),
    Row("avi with reordered frames", ".avi", Movie(codec="mpeg4", options=MPEG2), ".mp4"),
]


def load(_: str) -> tuple[BicubicLinear, None]:
    return BicubicLinear(), None


def shown(path: Path) -> list[NDArray[np.float32]]:
    """The frames as a player shows them, RGB (3, H, W)."""
    reader = VideoReader(path)
    with reader.opened() as (_, stream):
        scan = CodedScan(stream.codec_context.name)
    list(reader.scan(scan))
    faults = frozenset({"", REPEATED})
    return [
        upright(to_rgb(frame.decoded, scan.codings[frame.number]), frame.geometry)
        for frame in reader.frames(scan, len(scan.frames), faults=faults)
    ]


def aspect(path: Path) -> float:
    """Width of the picture that is shown over its height."""
    reader = VideoReader(path)
    scan = CodedScan("")
    list(reader.scan(scan))
    geometry = scan.frames[0].geometry
    assert geometry is not None
    width, height = geometry.square_size
    return width / height


def corners(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean color of the inner part of each corner."""
    height, width = image.shape[-2:]
    size = min(height, width) // 3
    places = [slice(size // 4, size * 5 // 8), slice(-size * 5 // 8, -size // 4)]
    return np.array(
        [image[:, rows, columns].mean(axis=(1, 2)) for rows in places for columns in places]
    )


def _guessed(found: dict[str, int]) -> dict[str, int]:
    """What is written where the file says nothing: BT.601 for such small frames, studio range."""
    guesses = {"colorspace": 6, "color_range": 1}
    unknown = {"colorspace": (2,), "color_range": (0,)}
    return {key: guess for key, guess in guesses.items() if found[key] in unknown[key]}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}{row.suffix}{row.out}")
def test_these_times_and_colours_or_this_sentence(
    row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = row.movie.write(tmp_path / f"in{row.suffix}")
    clean = shown(path)
    if row.change:
        row.change(path)
    out = tmp_path / f"out{row.out or row.suffix}"
    request = VideoRequest(
        input=str(path), output=out, model="bicubic_linear", crf=2, space=row.space
    )
    caplog.set_level(logging.INFO)
    if row.refusal:
        with pytest.raises(StvsrError) as refusal:
            upscale_video(request, load)
        assert row.refusal in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert not out.exists()
        return
    upscale_video(request, load)
    for words in row.said:
        assert words in caplog.text

    # times
    found = frame_times(out)
    times = frame_times(path) if row.change is None else [Fraction(n, 25) for n in range(24)]
    used = len(times) if row.frames == -1 else (len(found) + 1) // 2
    assert used == row.frames or row.frames < 0
    assert len(found) == 2 * used - 1
    if row.suffix == ".avi":
        times = sorted(times)
    at = max(tick(out), tick(path) if row.change else Fraction(0))
    for place, time in enumerate(found):
        before, after = times[place // 2], times[(place + 1) // 2]
        assert abs(time - (before + after) / 2) <= at
    if row.change is None and duration(path) > times[-1]:
        assert abs(duration(out) - duration(path)) <= 2 * at

    # colors: of every input frame, and of those between
    images = shown(out)
    assert len(images) == len(found)
    for place, image in enumerate(images):
        first, second = clean[place // 2], clean[(place + 1) // 2]
        assert image.shape[-2:] == tuple(row.space * side for side in first.shape[-2:])
        difference = np.abs(corners(image) - (corners(first) + corners(second)) / 2)
        assert difference.max() * 255 <= 1
    assert tags(out) == (row.tags or {**tags(path), **_guessed(tags(path))})
    assert aspect(out) == pytest.approx(aspect(path), rel=0.01)

    # everything else
    assert beside(out) == beside(path)
    if row.copied >= 0:
        assert len(packets(out)) == row.copied
    if row.copied > 0:
        kinds = ("audio", "subtitle", "video")
        assert packets(out) == [part for part in packets(path) if part[0] in kinds]
