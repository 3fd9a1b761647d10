"""`stvsr upscale`: what is made, what is refused, and what is left after an interruption."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stvsr.cli import main
from stvsr.core.errors import StvsrError
from stvsr.inference.memory import needed, parse_size, tile_for
from stvsr.inference.upscale import Upscaling
from stvsr.models import BicubicLinear, upscale_bicubic_linear
from stvsr.video.coding import Coding, coding_of, from_rgb, make_frame, to_rgb
from stvsr.video.encoding import Coded, Encoder, Format
from stvsr.video.images import read_image
from stvsr.weights import load_shipped
from tests.support.models import write_tiny_artifact
from tests.support.movies import Movie, beside, duration, frame_times, packets, picture, tags
from tests.support.waiting import wait_until

BASELINE = ("--model", "bicubic_linear")


def lossless(frames: Sequence[NDArray[np.uint8]], pix_fmt: str = "bgr0") -> Movie:
    return Movie(frames=frames, pix_fmt=pix_fmt, codec="ffv1", options={})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upscale(*arguments: object) -> int:
    return main(["upscale", *map(str, arguments), *BASELINE])


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "stvsr upscale: " in line]
    assert len(lines) == 1
    return lines[0].removeprefix("stvsr upscale: ")


def write_sequence(folder: Path, count: int = 4, mode: str = "RGB") -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(picture(number)).convert(mode).save(folder / f"f_{number:04d}.png")
    return folder


# --- what is made


def test_the_last_line_and_the_metadata_say_what_was_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie(sounds=("aac",)).write(folder / "in.mp4")
    card = write_tiny_artifact(folder / "model")
    arguments = ["upscale", "in.mp4", "out.mkv", "--model", "model", "--space", "2"]
    assert main(arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith("out.mkv: 48x32 → 96x64, 25 → 50 frames/s, h264 crf 18 8-bit, ")
    assert card.weights_sha256[:12] in line
    with av.open("out.mkv") as container:
        comment = container.metadata["COMMENT"]
    assert comment.startswith("stvsr ")
    assert f"weights {card.weights_sha256[:12]}" in comment
    assert sorted(path.name for path in folder.iterdir()) == ["in.mp4", "model", "out.mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
@pytest.mark.parametrize(("space", "time"), [(4, 2), (2, 1), (1, 2)])
def test_every_container_has_the_scales_that_were_asked_for(
    folder: Path, suffix: str, space: int, time: int
) -> None:
    Movie(frames=[picture(n) for n in range(3)]).write(folder / "in.mp4")
    assert upscale("in.mp4", f"out{suffix}", "--space", space, "--time", time) == 0
    with av.open(f"out{suffix}") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 2 * time + 1
    assert {(frame.width, frame.height) for frame in frames} == {(48 * space, 32 * space)}


def test_ten_bits_stay_ten_bits_and_444_stays_444(folder: Path) -> None:
    frames = [picture(n, 64, 64) for n in range(3)]
    lossless(frames, "yuv444p10le").write(folder / "in.mkv")
    for out, codec, pix_fmt in [
        ("out.mp4", "hevc", "yuv444p10le"),
        ("out.webm", "av1", "yuv420p10le"),
    ]:
        assert upscale("in.mkv", out) == 0
        with av.open(out) as container:
            context = container.streams.video[0].codec_context
            assert context.name in (codec, f"lib{codec}", "libdav1d")
            assert context.pix_fmt == pix_fmt


def write_coded(path: Path, rgb: NDArray[np.float32], coding: Coding) -> None:
    """Three frames of a coding, lossless."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = rgb.shape[1:]
        stream.pix_fmt = "yuv420p" if coding.bits == 8 else "yuv420p10le"
        stream.codec_context.colorspace = coding.matrix
        stream.codec_context.color_range = 2 if coding.is_full else 1
        for number in range(3):
            frame = make_frame(from_rgb(rgb, coding), stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_a_grey_ramp_and_colour_bars_have_no_tint_and_no_range_error(
    folder: Path, matrix: int, is_full: bool, bits: int
) -> None:
    rgb = np.empty((3, 32, 64), np.float32)
    rgb[:, :16] = np.linspace(0, 1, 64)
    for at in range(8):
        color = [0.75 * (at >> bit & 1) for bit in range(3)]
        rgb[:, 16:, 8 * at : 8 * at + 8] = np.array(color)[:, None, None]
    write_coded(folder / "in.mkv", rgb, Coding(bits=bits, matrix=matrix, is_full=is_full))
    assert upscale("in.mkv", "out.mkv", "--crf", 2) == 0
    with av.open("out.mkv") as container:
        frame = next(container.decode(video=0))
    coding = coding_of(frame, "h264")
    assert (coding.bits, coding.matrix, coding.is_full) == (bits, matrix, is_full)
    found = to_rgb(frame, coding)
    with av.open("in.mkv") as container:
        read = to_rgb(next(container.decode(video=0)), coding).clip(0, 1)
    ideal, plain = enlarged(rgb), enlarged(read)  # without and with the input's own reduced chroma
    ramp, bars, middles = np.s_[:, :56], np.s_[:, 72:], np.s_[:, 80:120, 16::32]
    assert mean_difference(found[ramp], ideal[ramp]) <= 1
    assert mean_difference(found[bars], plain[bars]) <= 1
    assert mean_difference(found[middles], ideal[middles]) <= 1


def enlarged(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """By the plain bicubic path."""
    clip = torch.from_numpy(rgb)[None, None].repeat(1, 2, 1, 1, 1)
    return np.asarray(upscale_bicubic_linear(clip)[0, 0].clamp(0, 1))


def mean_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Of the channel that differs most, in 8-bit levels."""
    means = [image.reshape(3, -1).mean(axis=1) * 255 for image in (found, expected)]
    return float(np.abs(means[0] - means[1]).max())


def test_a_part_has_its_own_sound_and_begins_at_0(folder: Path) -> None:
    frames = [picture(n) for n in range(10)]
    Movie(frames=frames, sounds=("aac",)).write(folder / "in.mp4")
    assert upscale("in.mp4", "out.mp4", "--start", "0.08", "--end", "0.2") == 0
    assert frame_times(folder / "out.mp4") == [Fraction(n, 50) for n in range(5)]
    assert duration(folder / "out.mp4") == Fraction(3, 25)
    (_, part), (_, whole) = packets(folder / "out.mp4")[0], packets(folder / "in.mp4")[0]
    assert 0 < len(part) < len(whole)
    assert "".join(part) in "".join(whole)


def test_the_chapters_of_a_part_begin_and_end_with_it(folder: Path) -> None:
    Movie(frames=[picture(n) for n in range(10)], has_chapters=True).write(folder / "in.mp4")
    assert upscale("in.mp4", "out.mkv", "--start", "0.08", "--end", "0.2") == 0
    chapters = [(0.0, 0.02, "Chapter 1"), (0.02, 0.12, "Chapter 2")]
    assert beside(folder / "out.mkv")["chapters"] == chapters


def test_a_static_clip_stays_static_and_a_cut_is_not_blended(folder: Path) -> None:
    still = [picture(0)] * 4 + [255 - picture(0)] * 4
    lossless(still).write(folder / "in.mkv")
    assert upscale("in.mkv", "out") == 0
    images = [np.asarray(Image.open(path)) for path in sorted((folder / "out").glob("*.png"))]
    assert len(images) == 15
    assert all((image == images[0]).all() for image in images[:8])
    assert all((image == images[-1]).all() for image in images[8:])


def test_images_of_8_and_16_bits_keep_their_levels(folder: Path) -> None:
    write_sequence(folder / "in")
    assert upscale("in/f_%04d.png", "out/g_%03d.png", "--space", 1) == 0
    for number in range(4):
        before = np.asarray(Image.open(f"in/f_{number:04d}.png"))
        assert (np.asarray(Image.open(f"out/g_{2 * number + 1:03d}.png")) == before).all()
    record = json.loads((folder / "out" / "stvsr.json").read_text())
    assert record["seconds"] == [0.02 * n for n in range(7)]
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    (folder / "deep").mkdir()
    for number in range(2):
        Image.fromarray(ramp).save(folder / "deep" / f"{number}.png")
    assert upscale("deep", "out16", "--space", 1) == 0
    rgb, coding, _ = read_image(folder / "out16" / "000001.png")
    assert coding.bits == 16
    assert (np.round(rgb[0] * 65535) == ramp).all()


def test_images_of_a_palette_are_read_and_written_again(folder: Path) -> None:
    write_sequence(folder / "in", mode="P")
    assert upscale("in", "out", "--space", 1) == 0
    assert upscale("in", "out", "--space", 1) == 0
    before = np.asarray(Image.open("in/f_0000.png").convert("RGB"))
    assert (np.asarray(Image.open("out/000001.png")) == before).all()


def test_images_become_a_video_of_the_rate_that_is_named(folder: Path) -> None:
    write_sequence(folder / "in")
    assert upscale("in", "out.mp4", "--rate", "24000/1001") == 0
    assert frame_times(folder / "out.mp4") == [n * Fraction(1001, 48000) for n in range(7)]
    assert tags(folder / "out.mp4")["colorspace"] == 1


def test_a_preview_is_a_strip_of_both(folder: Path) -> None:
    Movie().write(folder / "in.mp4")
    assert upscale("in.mp4", "out.mp4", "--preview", 2) == 0
    assert not (folder / "out.mp4").exists()
    strip = np.asarray(Image.open("out.png"))
    assert strip.shape == (2 * 128, 2 * 192 + 4, 3)
    assert np.abs(strip[:, :192].astype(int) - strip[:, 196:]).mean() < 2


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_network_runs_in_both_precisions(folder: Path, precision: str) -> None:
    Movie(frames=[picture(n) for n in range(2)]).write(folder / "in.mp4")
    write_tiny_artifact(folder / "model")
    arguments = ["upscale", "in.mp4", "out.mp4", "--model", "model", "--precision", precision]
    assert main(arguments) == 0
    assert len(frame_times(folder / "out.mp4")) == 3


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (48, 32)])
def test_few_frames_and_few_pixels_are_enough(
    folder: Path, frames: int, size: tuple[int, int]
) -> None:
    images = [np.full((*size, 3), 90, np.uint8)] * frames
    lossless(images).write(folder / "in.mkv")
    for out in ("out.mp4", "out.webm"):
        assert upscale("in.mkv", out) == 0
        assert len(frame_times(folder / out)) == 2 * frames - 1


def test_sound_before_the_first_frame_is_kept_where_only_the_end_is_named(folder: Path) -> None:
    Movie(times=range(3, 9), sounds=("aac",)).write(folder / "in.mp4")
    assert upscale("in.mp4", "out.mkv", "--end", "0.3") == 0
    assert packets(folder / "out.mkv") == packets(folder / "in.mp4")
    assert frame_times(folder / "out.mkv")[0] == Fraction(3, 25)


def test_sound_that_breaks_off_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Movie(frames=[picture(n) for n in range(2)], sounds=("aac",)).write(folder / "whole.mp4")
    fast = {"movflags": "+faststart"}
    with (
        av.open("whole.mp4") as whole,
        av.open("in.mp4", "w", container_options=fast) as container,
    ):
        streams = [container.add_stream_from_template(stream) for stream in whole.streams]
        for packet in whole.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    os.truncate("in.mp4", Path("in.mp4").stat().st_size - 2500)
    assert upscale("in.mp4", "out.mp4") == 0
    assert "left out: stream 1, audio aac (und): what follows 0.043 s" in capsys.readouterr().err


# --- what is refused


def sound_alone(path: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])


def transparent(path: Path) -> None:
    Movie(pix_fmt="bgra", codec="png", options={}).write(path)


REFUSED: list[tuple[Callable[[Path], object], str, Sequence[object], str]] = [
    (sound_alone, ".mp4", (), "no video stream"),
    (lambda path: path.write_text("hello"), ".mp4", (), "not a readable video"),
    (lambda path: None, ".mp4", (), "cannot be opened (No such file or directory)"),
    (Movie().write, ".mp4", ("--codec", "vp8"), "for .mkv expected h264, h265, vp9, av1"),
    (Movie().write, ".mp4", ("--crf", "90"), "--crf: found 90; for h264 expected 0..51"),
    (Movie().write, ".mp4", ("--space", "3"), "space: found 3; expected one of 4, 2, 1"),
    (Movie().write, ".mp4", ("--start", "9"), "no frame between --start and --end"),
    (Movie().write, ".mp4", ("--memory", "9MB"), "--memory: found 8 MiB; expected at least"),
    (Movie().write, ".mp4", ("--rate", "25"), "--rate: found a video"),
    (Movie().write, ".mp4", ("--codec", "h265", "--space", "1"), "expected at least 64"),
    (Movie(rate=Fraction(150)).write, ".mp4", ("--codec", "av1"), "found av1 for 275 frames/s;"),
]


@pytest.mark.parametrize(
    ("make", "suffix", "options", "text"), REFUSED, ids=[row[3][:30] for row in REFUSED]
)
def test_what_cannot_be_upscaled_is_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    suffix: str,
    options: Sequence[object],
    text: str,
) -> None:
    make(folder / f"in{suffix}")
    assert upscale(f"in{suffix}", "out.mkv", *options) == 1
    assert text in only_line(capsys)
    assert not (folder / "out.mkv").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: (f / "f_0002.png").unlink(), "missing between 0 and 3: image 2;"),
        (lambda f: shutil.copy(f / "f_0001.png", f / "g_1.png"), "found twice: image 1;"),
        (lambda f: (f / "f_0001.png").rename(f / "frame.png"), "no number before the suffix"),
        (lambda f: Image.new("RGB", (9, 9)).save(f / "f_0003.png"), "found 9x9 pixels"),
        (lambda f: Image.new("RGBA", (48, 32)).save(f / "f_0001.png"), "transparent pixels"),
        (lambda f: (f / "f_0001.png").write_bytes(b"x" * 99), "not a readable image"),
    ],
)
def test_images_that_make_no_sequence_are_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    text: str,
) -> None:
    change(write_sequence(folder / "in"))
    assert upscale("in", "out.mp4") == 1
    assert text in only_line(capsys)


def test_files_of_others_are_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie().write(folder / "in.mp4")
    Movie().write(folder / "holiday.mp4")
    (folder / "album").mkdir()
    (folder / "album" / "a.txt").write_text("mine")
    for output, text in [
        ("in.mp4", "which is INPUT"),
        ("holiday.mp4", "which would be lost"),
        ("album", "which would be lost"),
        ("album/f_%d.png", "which would be lost"),
        ("out.avi", "found .avi; expected .mp4"),
        ("out.png", "one image; expected a folder"),
    ]:
        assert upscale("in.mp4", output) == 1
        assert text in only_line(capsys)
    assert upscale("in.mp4", "out.mp4") == 0
    assert upscale("in.mp4", "out.mp4") == 0


def test_a_folder_is_replaced_only_where_nothing_else_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Movie().write(folder / "in.mp4")
    for _ in range(2):
        assert upscale("in.mp4", "out/a_%04d.png", "--space", 1) == 0
    capsys.readouterr()
    for given, output, text in [
        ("in.mp4", "out/b_%04d.png", "found out/a_0001.png, which would be lost"),
        ("in.mp4", "out", "found out/a_0001.png, which would be lost"),
        ("out", "out/a_%04d.png", "which holds INPUT"),
        ("out/a_%04d.png", "out", "which holds INPUT"),
        ("in.mp4", "f_%04d.png", "is the current one"),
        ("in.mp4", ".", "is the current one"),
    ]:
        assert upscale(given, output, "--space", 1) == 1
        assert text in only_line(capsys)
    shutil.copy("in.mp4", "out/clip.mp4")
    assert upscale("in.mp4", "out/a_%04d.png", "--space", 1) == 1
    assert "found out/clip.mp4, which would be lost" in only_line(capsys)
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    assert upscale("../in.mp4", "f_%04d.png") == 1
    assert "is the current one" in only_line(capsys)


def test_a_preview_replaces_a_preview_and_no_other_picture(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie().write(folder / "in.mp4")
    (folder / "photo.png").write_bytes(b"mine")
    assert upscale("in.mp4", "photo.mp4", "--preview", 1) == 1
    assert "photo.png, which stvsr did not write" in only_line(capsys)
    assert upscale("in.mp4", ".", "--preview", 1) == 1
    assert "expected a name" in only_line(capsys)
    assert upscale("in.mp4", "strip.png", "--preview", 1) == 0
    assert upscale("in.mp4", "strip.png", "--preview", 1) == 0
    assert Image.open("strip.png").info["Comment"].startswith("stvsr ")


def test_a_pipe_in_the_place_of_the_output_is_not_waited_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie().write(folder / "in.mp4")
    os.mkfifo(folder / "out.mp4")
    assert upscale("in.mp4", "out.mp4") == 1
    assert "which stvsr did not write" in only_line(capsys)


def test_a_name_with_a_colon_is_a_file(folder: Path) -> None:
    Movie().write(folder / "in.mp4")
    assert upscale("in.mp4", "Alien:.mp4") == 0
    assert len(frame_times((folder / "Alien:.mp4").absolute())) == 11


def test_the_number_of_an_image_stands_where_the_pattern_says(folder: Path) -> None:
    (folder / "in").mkdir()
    for number in (2, 10, 9, 3, 8, 7, 6, 5, 4):
        name = f"in/f_{number}_v2.png"
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(name)
    assert upscale("in/f_%d_v2.png", "out", "--time", 1) == 0
    levels = [np.asarray(Image.open(path)).max() for path in sorted(Path("out").glob("*.png"))]
    assert levels == [20 * number for number in range(2, 11)]


def test_an_encoder_that_fails_at_a_frame_is_named_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingContext:
        def encode(self, _: av.VideoFrame | None) -> list[av.Packet]:
            raise av.error.ExternalError(542398533, "Generic error in an external library")

    Movie().write(folder / "in.mp4")
    opened = Encoder.__init__

    def open_failing(encoder: Encoder, form: Format) -> None:
        opened(encoder, form)
        encoder._context = FailingContext()  # type: ignore[assignment]

    monkeypatch.setattr(Encoder, "__init__", open_failing)
    assert upscale("in.mp4", "out.mp4") == 1
    assert "found h264, whose encoder failed at a frame (Generic error" in only_line(capsys)
    assert not (folder / "out.mp4").exists()


def test_the_network_that_ships_is_the_default(folder: Path) -> None:
    Movie(frames=[picture(n) for n in range(2)]).write(folder / "in.mp4")
    assert main(["upscale", "in.mp4", "out.mkv"]) == 0
    with av.open(folder / "out.mkv") as container:
        comment = container.metadata["COMMENT"]
    assert f"weights {load_shipped('stvsr/small')[1].weights_sha256[:12]}" in comment


def test_a_model_that_does_not_exist_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie().write(folder / "in.mp4")
    assert main(["upscale", "in.mp4", "out.mp4", "--model", "nowhere"]) == 1
    assert "nowhere" in only_line(capsys)


# --- memory


def test_a_tile_follows_from_the_memory() -> None:
    how, model = Upscaling(), BicubicLinear()
    tiles = [tile_for(size << 20, model, how, (1920, 1080)) for size in (9000, 12000, 24000)]
    assert tiles == sorted(tiles)
    assert needed(model, how, (1920, 1080), tiles[0]) <= 9000 << 20
    assert parse_size("1.5GiB") == 3 << 29
    assert parse_size("2GB") == 2 * 10**9


MEASURED = """
import re, sys
from stvsr.cli import main
status = main(sys.argv[1:])
# its own peak: that of getrusage begins at the parent's
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10)
sys.exit(status)
"""


@pytest.mark.slow
def test_no_more_memory_is_used_than_was_named(folder: Path) -> None:
    frames = [picture(n, 320, 180) for n in range(8)]
    Movie(frames=frames).write(folder / "in.mp4")
    arguments = ["upscale", "in.mp4", "out.mp4", "--memory", "650MiB", *BASELINE]
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout.splitlines()[-1]) <= 650 << 20


# --- interruptions

SLOW = """
import sys, time
import stvsr.inference.video as video
class Slow(video.Encoder):
    def encode(self, rgb, pts):
        time.sleep(0.02)
        return super().encode(rgb, pts)
video.Encoder = Slow
from stvsr.cli import main
sys.exit(main(sys.argv[1:]))
"""
KILLS = int(os.environ.get("STVSR_TEST_KILLS", "5"))


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, "upscale", "in.mp4", "out.mp4", "--segment", "7"]
    return subprocess.Popen(
        [*command, "--model", "model", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )


def segments(folder: Path) -> int:
    return len(list((folder / ".out.mp4.stvsr").glob("*/0*.json")))


def await_segments(folder: Path, run: subprocess.Popen[str], count: int) -> None:
    wait_until("segments or the end", lambda: segments(folder) >= count or run.poll() is not None)


@pytest.fixture
def clip(folder: Path) -> Path:
    Movie(frames=[picture(n) for n in range(24)], sounds=("aac",)).write(folder / "in.mp4")
    write_tiny_artifact(folder / "model")
    return folder


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_resumes_to_the_same_file(clip: Path) -> None:
    """STVSR_TEST_KILLS=20 kills it more often."""
    assert start(clip).wait() == 0
    undisturbed = (clip / "out.mp4").read_bytes()
    (clip / "out.mp4").unlink()
    chance, most, resumed = random.Random(0), 0, 0
    for _ in range(KILLS):
        run = start(clip)
        await_segments(clip, run, min(most + 1, 6))
        time.sleep(chance.uniform(0, 0.2))
        run.send_signal(signal.SIGKILL)
        run.wait()
        found = segments(clip)
        resumed += found > 0
        assert found >= most or (clip / "out.mp4").exists()
        most = found
        assert not (clip / "out.mp4").exists() or (clip / "out.mp4").read_bytes() == undisturbed
    assert resumed
    assert start(clip).wait() == 0
    assert (clip / "out.mp4").read_bytes() == undisturbed
    assert sorted(path.name for path in clip.iterdir()) == ["in.mp4", "model", "out.mp4"]


def test_ctrl_c_is_one_line_and_the_same_command_resumes(clip: Path) -> None:
    run = start(clip)
    wait_until("a segment", lambda: segments(clip) >= 1)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate()
    assert run.returncode == 130
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("stvsr upscale: ")]
    assert lines == ["stvsr upscale: interrupted; run the same command again to resume"]
    run = start(clip)
    _, errors = run.communicate()
    assert run.returncode == 0
    assert "resumes after" in errors


@pytest.mark.parametrize("limit", [3000, 20000])
def test_a_full_disk_is_one_line_and_leaves_no_output(clip: Path, limit: int) -> None:
    """A segment does not fit, or the whole file does not."""

    def restrict() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    shutil.rmtree(clip / "model")
    code = "import sys; from stvsr.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["upscale", "in.mp4", "out.mp4", "--segment", "7", *BASELINE]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=clip,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        preexec_fn=restrict,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("stvsr upscale: ")]
    assert "File too large" in line
    assert not (clip / "out.mp4").exists()
    assert main(["upscale", "in.mp4", "out.mp4", "--segment", "7", *BASELINE]) == 0


def test_a_folder_that_cannot_be_made_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Movie().write(folder / "in.mp4")
    (folder / "file").write_text("")
    assert upscale("in.mp4", "file/out.mp4") == 1
    assert "Not a directory" in only_line(capsys)


def test_other_options_do_not_take_up_the_segments(clip: Path) -> None:
    run = start(clip)
    wait_until("a segment", lambda: segments(clip) >= 1)
    run.kill()
    run.wait()
    run = start(clip, "--crf", "30")
    _, errors = run.communicate()
    assert run.returncode == 0
    assert "resumes" not in errors


def test_a_refused_command_leaves_the_segments_of_another(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(clip)
    wait_until("a segment", lambda: segments(clip) >= 1)
    run.kill()
    run.wait()
    before = segments(clip)

    def refuse(form: object) -> None:
        raise StvsrError("refused")

    monkeypatch.setattr("stvsr.inference.video.Encoder", refuse)
    assert main(["upscale", "in.mp4", "out.mp4", "--model", "model", "--crf", "30"]) == 1
    assert only_line(capsys) == "refused"
    assert segments(clip) == before
    assert upscale("in.mp4", "other.mp4") == 1
    assert not (clip / ".other.mp4.stvsr").exists()


def test_an_input_that_changes_while_it_is_read_makes_no_output(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Movie().write(folder / "in.mp4")
    finish = Encoder.finish

    def change(encoder: Encoder) -> Iterator[Coded]:
        with (folder / "in.mp4").open("ab") as file:
            file.write(b"more")
        return finish(encoder)

    monkeypatch.setattr(Encoder, "finish", change)
    assert upscale("in.mp4", "out.mp4") == 1
    assert "it changed while it was read" in only_line(capsys)
    assert not (folder / "out.mp4").exists()
