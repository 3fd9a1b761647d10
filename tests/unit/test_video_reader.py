"""Awkward videos: the right pixels at the right time, or a sentence that says why not."""

import os
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace, VideoReformatter

from stvsr.video.reader import INTERLACED, Scan, VideoError, VideoReader
from stvsr.video.segments import segments
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

MUXED = [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("mov", "mpeg4")]
MUXED += [("avi", "mpeg4"), ("mpg", "mpeg2video"), ("ts", "libx264"), ("mkv", "ffv1")]
MUXED += [("mkv", "libx265"), ("mp4", "libsvtav1"), ("mov", "prores_ks"), ("avi", "mjpeg")]
OPTIONS = {"libsvtav1": {"crf": "15"}}
PIX_FMT = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
SHORT_GOPS = {"g": "20", "bf": "2", "x264-params": "scenecut=0"}


def scanned(path: Path) -> Scan:
    scan = Scan()
    for _ in VideoReader(path).scan(scan):
        pass
    return scan


def pixels(path: Path, scan: Scan) -> dict[int, np.ndarray]:
    return {frame.number: frame.rgb() for frame in VideoReader(path).frames(scan, 10**6)}


def numbers(path: Path) -> list[list[int]]:
    """The frame numbers drawn into the pixels of each segment."""
    scan = scanned(path)
    images = pixels(path, scan)
    return [[number_in(images[at]) for at in segment.frames] for segment in segments(scan.frames)]


def faults(path: Path) -> Counter[str]:
    return Counter(frame.fault for frame in scanned(path).frames)


def clip(*shown: int) -> list[np.ndarray]:
    return [numbered(number) for number in shown]


def near(colors: list[tuple[int, ...]], expected: list[tuple[int, ...]], levels: int = 6) -> bool:
    return bool(np.abs(np.array(colors) - np.array(expected)).max() <= levels)


@pytest.mark.parametrize(("suffix", "codec"), MUXED, ids="-".join)
def test_every_container_and_codec_gives_all_frames_at_even_times(tmp_path, suffix, codec):
    pix_fmt = PIX_FMT.get(codec, "yuv420p")
    options = OPTIONS.get(codec)
    path = tmp_path / f"v.{suffix}"
    encode(path, clip(*range(40)), codec=codec, pix_fmt=pix_fmt, options=options)
    assert numbers(path) == [list(range(40))]
    times = [frame.time for frame in scanned(path).frames if frame.time is not None]
    assert len(times) == 40
    steps = {round(float(b - a), 3) for a, b in pairwise(times)}
    assert steps == {0.04}


def by_number(path: Path) -> dict[int, np.ndarray]:
    """The frames that are used, by the number drawn into them."""
    return {number_in(image): image for image in pixels(path, scanned(path)).values()}


@pytest.mark.parametrize("packet", [25, 27, 33])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_from_damage_to_the_next_key_frame_nothing_is_used(tmp_path, suffix, packet):
    """Packet 20 is the second key frame, and 40 the third."""
    path = encode(tmp_path / f"v.{suffix}", clip(*range(60)), options=SHORT_GOPS)
    clean = by_number(path)
    assert len(clean) == 60
    at, size, _, _ = packets(path)[packet]
    invert(path, at + size // 3, size // 2)
    used = by_number(path)
    assert set(range(20)) | set(range(42, 60)) <= set(used)
    assert all(np.array_equal(image, clean[number]) for number, image in used.items())


def notices(path: Path) -> bool:
    """Whether the decoder marks or refuses anything."""
    try:
        with av.open(path) as container:
            return any(frame.is_corrupt for frame in container.decode(video=0))
    except av.FFmpegError:
        return True


def test_no_frame_predicted_from_damage_that_the_decoder_notices_is_used(tmp_path):
    """One byte of the second packet at a time; a few leave a valid stream, unnoticeably."""
    path = encode(tmp_path / "v.mp4", clip(*range(24)), options={"g": "12", "bf": "2"})
    clean = pixels(path, scanned(path))
    content = path.read_bytes()
    at, size, _, _ = packets(path)[1]
    noticed = 0
    for offset in range(14, size, size // 12):
        path.write_bytes(content)
        invert(path, at + offset)
        if notices(path):
            noticed += 1
            used = pixels(path, scanned(path))
            assert len(used) >= 13
            assert all(np.array_equal(image, clean[n]) for n, image in used.items())
    assert noticed >= 8


def test_a_gap_and_an_uneven_step_end_a_segment(tmp_path):
    times = [*range(10), *range(15, 25), *(25 + 3 * n for n in range(10))]
    path = encode(tmp_path / "v.mkv", clip(*range(30)), times)
    assert numbers(path) == [list(range(10)), list(range(10, 21)), list(range(21, 30))]


def test_repeated_frames_are_dropped_and_the_rest_is_even(tmp_path):
    """25 pictures a second in 50."""
    path = encode(tmp_path / "v.mp4", [f for f in clip(*range(20)) for _ in "ab"], rate=50)
    assert numbers(path) == [list(range(20))]
    assert faults(path)["repeated"] == 20


def test_a_small_object_before_a_still_background_repeats_nothing(tmp_path):
    """A drawn picture in which 8x8 pixels move, in 160x96."""
    frames = [np.full((96, 160, 3), 200, np.uint8) for _ in range(20)]
    for number, frame in enumerate(frames):
        frame[40:48, 20 + 3 * number : 28 + 3 * number] = 120
    assert faults(encode(tmp_path / "v.mp4", frames)) == {"": 20}


def test_a_drawing_on_twos_is_used_at_half_the_rate(tmp_path):
    """Drawn 12 times a second, shown 24 times."""
    path = encode(tmp_path / "v.mp4", [f for f in clip(*range(16)) for _ in "ab"], rate=24)
    assert numbers(path) == [list(range(16))]
    assert faults(path) == {"": 16, "repeated": 16}


def test_a_pixel_format_that_cannot_be_converted_is_named(tmp_path, monkeypatch):
    def refuse(frame: av.VideoFrame) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("stvsr.video.reader.luma", refuse)
    path = encode(tmp_path / "v.mp4", clip(*range(3)))
    assert faults(path) == {"pixel format yuv420p: convert it to yuv420p first": 3}


def test_telecine_gives_no_segment_as_long_as_a_clip(tmp_path):
    """Four film frames in five: one in four is shown twice, so steps are uneven."""
    shown = [n for n in range(24) for _ in range(2 if n % 4 == 0 else 1)]
    path = encode(tmp_path / "v.mp4", clip(*shown), rate=30)
    assert max(len(segment) for segment in numbers(path)) < 7


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_by_name(tmp_path, transfer, name):
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}
    path = encode(
        tmp_path / "v.mkv", clip(*range(8)), codec="libx265", pix_fmt="yuv420p10le", tags=tags
    )
    assert faults(path) == {f"HDR ({name}): convert it to standard dynamic range first": 8}


def test_a_wide_gamut_is_refused_by_name(tmp_path):
    tags = {"color_trc": 14, "color_primaries": 9, "colorspace": 9}
    path = encode(tmp_path / "v.mkv", clip(*range(8)), tags=tags)
    assert faults(path) == {"wide-gamut color primaries: convert it to BT.709 first": 8}


TURNS = {
    (1, 0, 0, 1): (0, 1, 2, 3),
    (-1, 0, 0, 1): (1, 0, 3, 2),
    (1, 0, 0, -1): (2, 3, 0, 1),
    (-1, 0, 0, -1): (3, 2, 1, 0),
    (0, 1, -1, 0): (2, 0, 3, 1),
    (0, -1, 1, 0): (1, 3, 0, 2),
    (0, 1, 1, 0): (0, 2, 1, 3),
    (0, -1, -1, 0): (3, 1, 2, 0),
}
"""Display matrix (a, b, c, d): which stored corner is shown in each corner."""


@pytest.mark.parametrize("matrix", TURNS, ids=str)
def test_the_display_matrix_turns_and_mirrors(tmp_path, matrix):
    path = encode(tmp_path / "v.mp4", clip(*range(3)))
    scan = scanned(set_display_matrix(path, *matrix))
    image = pixels(path, scan)[0]
    assert image.shape == ((96, 160, 3) if matrix[0] else (160, 96, 3))
    assert near(corners_of(image), [CORNERS[corner] for corner in TURNS[matrix]])


def test_a_turn_by_five_degrees_is_refused(tmp_path):
    path = encode(tmp_path / "v.mp4", clip(*range(3)))
    set_display_matrix(path, 0.9962, 0.0872, -0.0872, 0.9962)
    assert faults(path) == {"turned by an angle that is no multiple of 90 degrees": 3}


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(64, 45), (160, 67.5)), (Fraction(8, 9), (160 * 8 / 9, 96)), (None, (160, 96))],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_pixels_that_are_not_square(tmp_path, suffix, aspect, size):
    path = encode(tmp_path / f"v.{suffix}", clip(*range(3)), aspect=aspect)
    geometry = scanned(path).frames[0].geometry
    assert geometry is not None
    assert geometry.square_size == pytest.approx(size)


def test_a_change_of_size_ends_a_segment(tmp_path):
    big = encode(tmp_path / "a.ts", (numbered(n, 320, 192) for n in range(20)))
    small = encode(tmp_path / "b.ts", clip(*range(20, 40)))
    path = tmp_path / "both.ts"
    path.write_bytes(big.read_bytes() + small.read_bytes())
    scan = scanned(path)
    for segment in segments(scan.frames):
        assert len({scan.frames[at].geometry for at in segment.frames}) == 1
    *_, last = numbers(path)
    assert last == list(range(40 - len(last), 40))
    assert len(last) >= 15


def test_no_flagged_interlaced_frame_is_used(tmp_path):
    progressive = encode(tmp_path / "a.ts", clip(*range(20)), codec="mpeg2video")
    options = {"flags": "+ildct+ilme"}
    combed = encode(tmp_path / "b.ts", clip(*range(20, 40)), codec="mpeg2video", options=options)
    path = tmp_path / "mixed.ts"
    path.write_bytes(progressive.read_bytes() + combed.read_bytes())
    found = numbers(path)
    assert max(n for segment in found for n in segment) < 20
    assert len(found[0]) >= 15
    assert faults(path)[INTERLACED] >= 18


@pytest.mark.parametrize(
    ("height", "matrix"), [(96, 5), (720, 1)], ids=["untagged small is 601", "untagged HD is 709"]
)
def test_an_untagged_matrix_is_what_players_take(tmp_path, height, matrix):
    import av

    image = numbered(0, 1280 if height == 720 else 160, height)
    path = tmp_path / "v.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv444p"
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        target = Colorspace(matrix)
        frame = VideoReformatter().reformat(frame, format="yuv444p", dst_colorspace=target)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        frame.colorspace = 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert near(corners_of(pixels(path, scanned(path))[0]), list(CORNERS), 3)


@pytest.mark.parametrize(
    "name", [b"caf\xe9.mp4", b"12:30.mp4", b"a\nb.mp4", b"-i.mp4", b"%03d.mp4"]
)
def test_any_file_name_is_read(tmp_path, monkeypatch, name):
    content = encode(tmp_path / "v.mp4", clip(*range(5))).read_bytes()
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    path.write_bytes(content)
    assert numbers(path) == [list(range(5))]


def playlists(video: Path) -> dict[str, str]:
    return {
        "concat.mp4": f"ffconcat version 1.0\nfile {video.name}\n",
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{video.name}\n#EXT-X-ENDLIST\n",
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "dash.mp4": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
        f"<Period><AdaptationSet><Representation><BaseURL>{video.name}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>\n",
    }


@pytest.mark.parametrize("name", ["concat.mp4", "hls.mp4", "session.mp4", "dash.mp4"])
def test_a_playlist_opens_no_other_file(tmp_path, name):
    video = encode(tmp_path / "video.ts", clip(*range(5)))
    path = tmp_path / name
    path.write_text(playlists(video)[name])
    with pytest.raises(VideoError, match=rf"{name}: not a readable video \(.+\)"):
        VideoReader(path)


def test_an_unknown_codec_is_named(tmp_path):
    path = encode(tmp_path / "v.mp4", clip(*range(3)))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"v\.mp4: no video stream whose codec is known"):
        VideoReader(path)


def test_special_files_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    expected = {
        "fifo": "not a regular file",
        "zero": "not a regular file",
        "folder": "not a regular file",
        "dangling": r"cannot be opened \(No such file",
        "loop": r"cannot be opened \(Too many levels",
    }
    for name, reason in expected.items():
        with pytest.raises(VideoError, match=rf"{name}\.mp4: {reason}"):
            VideoReader(tmp_path / f"{name}.mp4")


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path):
    path = encode(tmp_path / "v.ts", clip(*range(60)), options=SHORT_GOPS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    found = numbers(path)[0]
    assert found == list(range(len(found)))
    assert 20 <= len(found) < 45
