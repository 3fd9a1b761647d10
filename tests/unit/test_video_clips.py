"""Videos as a set: clips are what lies between cuts, and what is left out is said."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stvsr.cli import main
from stvsr.core.errors import ParamsError, SourceError
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.evaluation.methods import OutputsMethod
from stvsr.evaluation.protocols import find_protocol
from stvsr.evaluation.score import Scoring, score_clip
from stvsr.evaluation.set_scores import read_set_scores
from stvsr.evaluation.sets import open_set, refuse_incomplete
from tests.support.models import write_tiny_artifact
from tests.support.sets import save
from tests.support.videos import encode, invert, number_in, numbered, packets
from tests.unit.test_videos import scene


def lossless(path: Path, frames: list[np.ndarray]) -> Path:
    return encode(path, frames, codec="ffv1", pix_fmt="bgr0")


def two_scenes(path: Path, first: int = 12, second: int = 9) -> Path:
    frames = [*scene(1, first), *(255 - image for image in scene(2, second))]
    return lossless(path, frames)


def test_each_scene_of_each_video_is_a_clip_of_its_own_name(tmp_path: Path) -> None:
    two_scenes(tmp_path / "a.mkv")
    lossless(tmp_path / "more" / "b.mkv", scene(3, 10))
    opened = open_set(str(tmp_path))
    assert {clip.name: len(clip.hr) for clip in opened.clips} == {
        "a.mkv/0001": 12,
        "a.mkv/0002": 9,
        "more/b.mkv/0001": 10,
    }
    assert opened.missing == opened.left_out == ()
    assert opened.name == f"folder {tmp_path.name}"


def test_frames_are_those_of_the_video_in_whatever_order_they_are_read(tmp_path: Path) -> None:
    images = [numbered(n, 160, 96) for n in range(20)]
    (clip,) = open_set(str(lossless(tmp_path / "a.mkv", images))).clips
    for place in (0, 3, 4, 19, 2, 2, 7):
        image = clip.hr.read(place)
        assert number_in(image) == place
        assert np.array_equal(image, images[place])


def test_clips_of_one_video_are_read_side_by_side(tmp_path: Path) -> None:
    two_scenes(tmp_path / "a.mkv")
    first, second = open_set(str(tmp_path)).clips
    truth = [*scene(1, 12), *(255 - image for image in scene(2, 9))]
    for clip, place, number in ((second, 0, 12), (first, 0, 0), (second, 8, 20), (first, 11, 11)):
        assert np.array_equal(clip.hr.read(place), truth[number])


def test_a_size_that_is_no_multiple_of_four_is_cut(tmp_path: Path) -> None:
    images = [image[:, :90] for image in scene(1, 8, 96, 64)]
    (clip,) = open_set(str(lossless(tmp_path / "a.mkv", images))).clips
    assert np.array_equal(clip.hr.read(3), images[3][:, :88])


def test_repeated_frames_and_short_scenes_are_left_out_and_said(tmp_path: Path) -> None:
    first = scene(1, 12)
    frames = [*first[:6], first[5], *first[6:], *(255 - image for image in scene(2, 5))]
    lossless(tmp_path / "a.mkv", frames)
    opened = open_set(str(tmp_path), least=6)
    assert [line.partition(": ")[2] for line in opened.left_out] == [
        "repeated",
        "segments of fewer than 6 frames between cuts, gaps and faults: 1, of 5 frames",
    ]
    assert sum(len(clip.hr) for clip in opened.clips) == 12
    refuse_incomplete(opened)


def test_a_video_that_is_damaged_unreadable_or_without_a_clip_is_missing(tmp_path: Path) -> None:
    lossless(tmp_path / "good.mkv", scene(1, 12))
    lossless(tmp_path / "short.mkv", scene(2, 5))
    (tmp_path / "text.mp4").write_text("no video")
    damaged = encode(tmp_path / "bad.mp4", scene(3, 20), options={"g": "8"})
    at, size, _, _ = next(packet for packet in packets(damaged)[1:] if packet[3])
    invert(damaged, at + size // 4, size // 2)
    opened = open_set(str(tmp_path))
    missing = "\n".join(opened.missing)
    assert "text.mp4: not a readable video" in missing
    assert "short.mkv: segments of fewer than 7 frames" in missing
    assert "bad.mp4, " in missing
    assert "damaged" in missing
    assert "good.mkv/0001" in {clip.name for clip in opened.clips}
    with pytest.raises(SourceError, match="--partial"):
        refuse_incomplete(opened)


def test_videos_beside_frames_are_said_and_lr_frames_of_videos_refused(tmp_path: Path) -> None:
    two_scenes(tmp_path / "a.mkv")
    with pytest.raises(ParamsError, match="videos have no LR frames"):
        open_set(str(tmp_path), lr_folder="BIx4")
    for number, image in enumerate(scene(1, 7)):
        save(tmp_path / "clip" / f"{number}.png", image)
    opened = open_set(str(tmp_path))
    assert [clip.name for clip in opened.clips] == ["clip"]
    assert opened.left_out == ("a.mkv: a video beside clips of frames",)


def test_a_video_scores_as_its_frames_do(tmp_path: Path) -> None:
    images = scene(1, 14)
    lossless(tmp_path / "v" / "a.mkv", images)
    for number, image in enumerate(images):
        save(tmp_path / "f" / "a.mkv" / "0001" / f"{number:04d}.png", image)
        brighter = np.clip(image.astype(int) + 4, 0, 255).astype(np.uint8)
        save(tmp_path / "outputs" / "a.mkv" / "0001" / f"{number:04d}.png", brighter)
    method = OutputsMethod(tmp_path / "outputs")
    how = Scoring(find_protocol("stvsr"), DegradationConfig(), "", torch.device("cpu"))
    video, frames = (open_set(str(tmp_path / name)).clips[0] for name in "vf")
    assert score_clip(method, video, how, None) == score_clip(method, frames, how, None)


def test_the_command_takes_a_video_and_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_artifact(tmp_path / "model")
    video = two_scenes(tmp_path / "a.mkv", second=5)
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "model"), "--set", str(video), "--out", str(out)]) == 0
    scores = read_set_scores(out)
    assert (scores.set, scores.clips, scores.frames) == ("video a.mkv", 1, 12)
    (line,) = scores.left_out
    assert line.endswith("1, of 5 frames")
    assert f"left out: {line}" in capsys.readouterr().err
