import csv
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import (
    FRAMES,
    SourceRecord,
    frame_path,
    read_clip_list,
    read_record,
    split_list,
)
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.sources.septuplets import plan_clips
from stvsr.data.sources.source import SourceConfig, make_source
from stvsr.video.segments import START, UNEVEN, Segment
from tests.support.videos import encode as numbered_video
from tests.support.videos import numbered

SIZE = (64, 64)


def scene(seed: int, frames: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A smooth coloured pattern that drifts by two pixels a frame."""
    rng = np.random.default_rng(seed)
    mean = rng.integers(60, 200, 3)
    coarse = rng.normal(mean, 35, (height // 8, (width + 2 * frames) // 8 + 1, 3))
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    wide = np.asarray(image.resize((coarse.shape[1] * 8, height), Image.Resampling.BICUBIC))
    return [wide[:, 2 * n : 2 * n + width] for n in range(frames)]


def encode(path: Path, frames: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = frames[0].shape
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def encode_sound(path: Path) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(source: Path, out: Path, **values: object) -> SourceRecord:
    config = {"kind": "videos", "path": str(source), "size": SIZE, **values}
    return make_source(SourceConfig.model_validate(config), 0, out)


def origins(out: Path) -> list[dict[str, str]]:
    with (out / "clips.csv").open() as file:
        return list(csv.DictReader(file))


def why(record: SourceRecord) -> dict[str, str]:
    return {item.what: item.why for item in record.left_out}


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    return encode(folder / "two.mp4", scene(0, 40) + scene(5, 30))


def test_a_single_video_gives_clips_of_seven_frames_in_both_splits(two_scenes, tmp_path):
    record = cut(two_scenes, tmp_path / "source")
    assert (record.train_clips, record.test_clips) == (6, 2)
    for split, count in (("train", 6), ("test", 2)):
        clips = read_clip_list(split_list(tmp_path / "source", split))  # type: ignore[arg-type]
        assert len(clips) == count
        for number in FRAMES:
            with Image.open(frame_path(tmp_path / "source", clips[0], number)) as image:
                assert (image.size, image.mode) == (SIZE, "RGB")
    build_index(tmp_path / "source", tmp_path / "index", IndexConfig())


def test_no_clip_crosses_a_scene_change_and_train_comes_before_test(two_scenes, tmp_path):
    cut(two_scenes, tmp_path / "source")
    rows = origins(tmp_path / "source")
    assert not any(int(row["first_frame"]) < 40 < int(row["first_frame"]) + 7 for row in rows)
    ends = {
        split: [int(row["first_frame"]) for row in rows if row["split"] == split]
        for split in ("train", "test")
    }
    assert max(ends["train"]) + 7 + 7 <= min(ends["test"])


def test_frames_are_the_videos_own_in_order(two_scenes, tmp_path):
    cut(two_scenes, tmp_path / "source", frame_step=2)
    row = origins(tmp_path / "source")[1]
    with av.open(two_scenes) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for number in FRAMES:
        expected = decoded[int(row["first_frame"]) + 2 * (number - 1)][:, 16:80]
        path = frame_path(tmp_path / "source", row["clip"], number)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_larger_frames_are_scaled_down_until_they_cover_the_size(tmp_path):
    left, right = np.zeros((128, 256, 3), np.uint8), np.zeros((128, 256, 3), np.uint8)
    left[:, :128], right[:, 128:] = 255, 255
    frames = [left if n % 2 else right for n in range(70)]
    cut(encode(tmp_path / "flip.mp4", frames), tmp_path / "source")
    (clip, *_) = read_clip_list(split_list(tmp_path / "source", "train"))
    frame = np.asarray(Image.open(frame_path(tmp_path / "source", clip, 1)))
    assert frame.shape == (64, 64, 3)
    assert frame[:, :26].max() < 40  # the middle of the picture, halved: dark left of it,
    assert frame[:, 38:].min() > 215  # light right of it


def test_the_same_videos_give_the_same_bytes(two_scenes, tmp_path):
    cut(two_scenes, tmp_path / "a")
    cut(two_scenes, tmp_path / "b")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert all(
        (tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names
    )


def test_at_most_the_clips_asked_for_are_taken_from_all_of_the_video(two_scenes, tmp_path):
    record = cut(two_scenes, tmp_path / "source", train_clips=2, test_clips=1)
    assert (record.train_clips, record.test_clips) == (2, 1)
    assert [int(row["first_frame"]) for row in origins(tmp_path / "source")][:2] == [0, 21]


def test_what_cannot_serve_is_left_out_with_its_reason_and_the_run_goes_on(two_scenes, tmp_path):
    folder = tmp_path / "in"
    whole = encode(folder / "deep" / "good.MP4", scene(0, 60)).read_bytes()
    encode(folder / "small.mp4", scene(1, 30, width=48, height=48))
    encode(folder / "short.mkv", scene(2, 6))
    encode_sound(folder / "sound.mp4")
    (folder / "text.mp4").write_text("not a video at all\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("passed over")
    record = cut(folder, tmp_path / "source")
    reasons = why(record)
    assert reasons["small.mp4"].startswith("48x48 pixels, less than source.size 64x64")
    assert reasons["short.mkv"] == "6 frames, no segment of the 7 that a clip spans"
    assert reasons["sound.mp4"] == "no video stream"
    assert all("not a readable video" in reasons[f"{n}.mp4"] for n in ("text", "empty", "cut"))
    assert len(reasons) == 6
    assert {row["video"] for row in origins(tmp_path / "source")} == {"deep/good.MP4"}


def test_a_video_that_breaks_off_serves_up_to_there(tmp_path):
    content = encode(tmp_path / "in" / "stream.mkv", scene(0, 90)).read_bytes()
    (tmp_path / "in" / "stream.mkv").write_bytes(content[: len(content) * 2 // 3])
    record = cut(tmp_path / "in", tmp_path / "source")
    assert 5 <= record.train_clips + record.test_clips <= 9


def test_black_still_and_fading_clips_are_left_out(tmp_path):
    noise = np.random.default_rng(1).integers(0, 12, (14, 64, 96, 1), np.uint8)  # no repeats
    black = [np.zeros((64, 96, 3), np.uint8) + grain for grain in noise]
    still = [scene(3, 1)[0] // 2 + grain for grain in noise]
    dark, light = (scene(seed, 7)[0].astype(float) for seed in (8, 9))
    fade = [((dark * (6 - n) + (255 - light / 8) * n) / 6).astype(np.uint8) for n in range(7)]
    moving = scene(0, 70)
    frames = [*black, *moving[:28], *still, *fade, *moving[28:]]
    record = cut(encode(tmp_path / "mixed.mp4", frames), tmp_path / "source", size=(96, 64))
    assert {"black", "nothing moves"} <= set(why(record).values())
    kept = [int(row["first_frame"]) for row in origins(tmp_path / "source")]
    assert not any(first < 14 or 42 <= first <= 49 for first in kept)


def test_videos_too_short_to_split_are_shared_out_whole(tmp_path):
    for number in range(3):
        encode(tmp_path / "in" / f"{number}.mp4", scene(number, 15))
    record = cut(tmp_path / "in", tmp_path / "source")
    assert (record.train_clips, record.test_clips) == (4, 2)
    rows = origins(tmp_path / "source")
    by_split = [{row["video"] for row in rows if row["split"] == s} for s in ("train", "test")]
    assert not by_split[0] & by_split[1]


def test_where_nothing_remains_the_error_names_every_video_and_its_reason(tmp_path):
    encode(tmp_path / "in" / "tiny.mp4", scene(1, 30, width=48, height=48))
    encode_sound(tmp_path / "in" / "sound.mp4")
    with pytest.raises(
        SourceError,
        match=r"gives 0 clips for training and 0 for testing.*sound\.mp4: no video stream; tiny",
    ):
        cut(tmp_path / "in", tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_one_video_too_short_to_split_is_one_error(tmp_path):
    video = encode(tmp_path / "short.mp4", scene(0, 18))
    with pytest.raises(SourceError, match="gives 2 clips for training and 0 for testing; at least"):
        cut(video, tmp_path / "source")


def test_a_folder_without_videos_says_what_it_holds_and_what_is_allowed(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match=r"holds no video \(found: nothing\); allowed.*\.mp4"):
        cut(tmp_path / "in", tmp_path / "source")
    (tmp_path / "in" / "a.txt").write_text("")
    with pytest.raises(SourceError, match=r"found: 1 \.txt"):
        cut(tmp_path / "in", tmp_path / "source")


def test_videos_of_several_sizes_give_clips_and_the_smallest_is_left_out(tmp_path):
    for name, seed, width, height in (("a", 0, 640, 272), ("b", 4, 480, 270), ("c", 9, 176, 144)):
        encode(tmp_path / "in" / f"{name}.mp4", scene(seed, 60, width=width, height=height))
    record = cut(tmp_path / "in", tmp_path / "source", size=(448, 256), train_clips=3, test_clips=2)
    assert (record.train_clips, record.test_clips) == (3, 2)
    assert list(why(record)) == ["c.mp4"]
    assert "640x272, 60 frames, scenes: 1" in record.provenance["a.mp4"]


def test_black_without_noise_is_repeated_frames(tmp_path):
    frames = [*scene(0, 35), *[np.zeros((64, 96, 3), np.uint8)] * 14]
    record = cut(encode(tmp_path / "end.mp4", frames), tmp_path / "source")
    assert why(record) == {"end.mp4, 13 of 49 frames, the first frame 36 at 1.44 s": "repeated"}


def test_where_a_clip_is_from_is_told_in_frames_and_in_seconds(two_scenes, tmp_path):
    cut(two_scenes, tmp_path / "source", frame_step=2)
    rows = [
        (r["first_frame"], r["first_time"], r["time_step"]) for r in origins(tmp_path / "source")
    ]
    assert rows == [("0", "0", "0.08"), ("13", "0.52", "0.08"), ("26", "1.04", "0.08"), *rows[3:]]


def test_no_clip_crosses_a_gap_in_time_which_is_counted_and_named(tmp_path):
    times = [*range(20), *range(30, 70)]
    video = numbered_video(tmp_path / "gap.mkv", (numbered(n) for n in range(60)), times)
    record = cut(video, tmp_path / "source")
    rows = [int(row["first_frame"]) for row in origins(tmp_path / "source")]
    assert rows == [0, 7, 20, 27, 34, 48]
    assert (
        "60 frames, scenes: 1; other ends of segments (uneven time: 1)"
        in (record.provenance["gap.mkv"])
    )
    assert why(record) == {
        "gap.mkv, clips across uneven steps of time (1, the first before frame 20 at 1.2 s)": (
            "a gap, or another step than before"
        )
    }


def test_hidden_side_files_are_passed_over(two_scenes, tmp_path):
    content = two_scenes.read_bytes()
    for name in ("a.mp4", "._a.mp4", ".cache/b.mp4"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    record = cut(tmp_path / "in", tmp_path / "source")
    assert record.left_out == ()
    assert {row["video"] for row in origins(tmp_path / "source")} == {"a.mp4"}


def test_a_name_in_latin_1_is_written_with_an_escape(two_scenes, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(two_scenes.read_bytes())
    (folder / os.fsdecode(b"\xff.mp4")).write_bytes(b"")
    record = cut(folder, tmp_path / "source")
    assert {row["video"] for row in origins(tmp_path / "source")} == {r"caf\xe9.mp4"}
    assert list(why(record)) == [r"\xff.mp4"]
    assert r"caf\xe9.mp4" in read_record(tmp_path / "source").provenance


def test_a_name_that_a_spreadsheet_would_compute_is_text(two_scenes, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "=1+1.mp4").write_bytes(two_scenes.read_bytes())
    cut(tmp_path / "in", tmp_path / "source")
    assert {row["video"] for row in origins(tmp_path / "source")} == {"'=1+1.mp4"}


def test_a_relative_path_with_a_colon_is_a_file(two_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("12:30.mp4").write_bytes(two_scenes.read_bytes())
    assert cut(Path("12:30.mp4"), tmp_path / "source").train_clips == 6


def test_special_files_in_a_folder_are_left_out_by_name(two_scenes, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(two_scenes.read_bytes())
    os.mkfifo(folder / "pipe.mp4")
    (folder / "dangling.mp4").symlink_to("nothing")
    reasons = why(cut(folder, tmp_path / "source"))
    assert reasons["pipe.mp4"] == "not a regular file"
    assert reasons["dangling.mp4"].startswith("cannot be opened (No such file")


def test_pixels_that_are_not_square_become_square(tmp_path):
    """A white square of 32x32 is stored 16 columns wide, and each column is shown twice as wide."""
    frames = [np.full((128, 64, 3), 10 + n % 2 * 30, np.uint8) for n in range(28)]
    for frame in frames:
        frame[48:80, 24:40] = 235
    numbered_video(tmp_path / "wide.mkv", frames, aspect=Fraction(2))
    record = cut(tmp_path / "wide.mkv", tmp_path / "source")
    assert record.provenance["wide.mkv"].startswith("64x64, ")
    (clip, *_) = read_clip_list(split_list(tmp_path / "source", "train"))
    image = np.asarray(Image.open(frame_path(tmp_path / "source", clip, 1)))[..., 1] > 128
    assert image.any(axis=0).sum() == image.any(axis=1).sum() == 16


def test_a_segment_smaller_than_the_clips_is_left_out_and_the_rest_is_used(tmp_path):
    numbered_video(tmp_path / "a.ts", (numbered(n, 320, 192) for n in range(40)))
    numbered_video(tmp_path / "b.ts", (numbered(n) for n in range(40)))
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    record = cut(path, tmp_path / "source", size=(192, 128))
    assert record.train_clips + record.test_clips >= 4
    assert "160x96 pixels, less than source.size 192x128; nothing is enlarged" in (
        why(record).values()
    )


def test_a_long_scene_that_ends_before_a_short_remainder_still_gives_a_test_clip():
    found = [Segment(START, tuple(range(35))), Segment(UNEVEN, (35, 36))]
    plan = plan_clips(found, 1, 0.2)
    assert [clip[0] for clip in plan.train] == [0, 7, 14]
    assert [clip[0] for clip in plan.test] == [28]
