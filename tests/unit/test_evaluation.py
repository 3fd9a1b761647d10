"""Scores, crops and the files of an evaluation."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stvsr.core.clip import ClipBatch
from stvsr.core.errors import CheckpointError, ParamsError, ShardError, SourceError
from stvsr.evaluation.config import EvaluateConfig
from stvsr.evaluation.evaluate import evaluate, score_frames
from stvsr.evaluation.pictures import PANELS, before_after, busiest_crop, cut_strips, strip_png
from stvsr.evaluation.scores import (
    FrameScore,
    compare,
    group_scores,
    median_gain_clip,
    read_scores,
    refuse_other_headline,
)
from stvsr.models import BicubicLinear, upscale_bicubic_linear
from tests.support.models import write_tiny_artifact


def frame(
    clip: str = "00001/0001",
    number: int = 1,
    psnr_y: float = 30.0,
    motion: str = "slow",
    bicubic_linear_psnr_y: float = 29.0,
) -> FrameScore:
    return FrameScore(
        clip=clip,
        motion=motion,
        frame=number,
        kind="input" if number % 2 else "interpolated",
        network={"psnr_y": psnr_y, "ssim_y": 0.9},
        bicubic_linear={"psnr_y": bicubic_linear_psnr_y, "ssim_y": 0.8},
    )


def moving_clip(key: str = "00001/0001", seed: int = 0, size: int = 48) -> ClipBatch:
    """A clip of 8-bit noise, smooth in space, that drifts to the right."""
    random = torch.Generator().manual_seed(seed)
    scene = torch.rand(3, size // 4, size // 2, generator=random)
    scene = torch.nn.functional.interpolate(scene[None], scale_factor=4, mode="bilinear")[0]
    hr_clip = torch.stack([scene[..., t : t + size] for t in range(7)])[None]
    hr_clip = hr_clip.mul(255).round().div(255)
    lr_clip = torch.nn.functional.avg_pool2d(hr_clip[0, ::2], 4)[None]
    return ClipBatch(lr_clip, hr_clip, (key,))


class Perfect(torch.nn.Module):
    """A network that knows the truth."""

    def __init__(self, hr_clip: Tensor) -> None:
        super().__init__()
        self.hr_clip = hr_clip

    def forward(self, lr_clip: Tensor) -> Tensor:
        return self.hr_clip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "model"
    write_tiny_artifact(folder)
    return folder


# --- means


def test_frames_are_averaged_first_and_then_clips() -> None:
    long = [frame("00001/0001", number, 30.0) for number in range(1, 8)]
    short = [frame("00001/0002", 1, 40.0)]
    assert compare([*long, *short]).network.psnr_y == pytest.approx(35.0)


def test_input_and_interpolated_frames_are_kept_apart() -> None:
    frames = [frame(number=n, psnr_y=32.0 if n % 2 else 28.0) for n in range(1, 8)]
    scores = group_scores(frames)["all"]
    assert scores.input.network.psnr_y == pytest.approx(32.0)
    assert scores.interpolated.network.psnr_y == pytest.approx(28.0)
    assert scores.all.network.psnr_y == pytest.approx((4 * 32 + 3 * 28) / 7)


def test_a_frame_that_one_method_reproduces_exactly_counts_for_neither() -> None:
    frames = [frame(number=1, psnr_y=math.inf, bicubic_linear_psnr_y=50.0), frame(number=3)]
    compared = compare(frames)
    assert compared.network.psnr_y == pytest.approx(30.0)
    assert compared.bicubic_linear.psnr_y == pytest.approx(29.0)


def test_a_group_without_a_finite_frame_has_no_score() -> None:
    compared = compare([frame(psnr_y=math.inf, bicubic_linear_psnr_y=math.inf)])
    assert compared.network.psnr_y is None
    assert compared.gain_psnr_y is None


def test_only_motion_classes_that_have_clips_are_groups() -> None:
    frames = [frame("00001/0001", motion="fast"), frame("00001/0002", motion="slow")]
    assert list(group_scores(frames)) == ["all", "slow", "fast"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_is_refused_with_its_clip(value: float) -> None:
    clip = moving_clip("00001/0266")
    sr_clip = clip.hr_clip.clone()
    sr_clip[0, 3, 0, 0, :5] = value
    with pytest.raises(CheckpointError, match=r"clip 00001/0266: 5 of \d+ values .* NaN or inf"):
        score_frames(Perfect(sr_clip), [clip], {"00001/0266": "slow"})


def test_the_shown_clip_is_neither_the_best_nor_the_worst() -> None:
    frames = [frame(f"00001/000{n}", psnr_y=30.0 + gain) for n, gain in enumerate((3, 0, 9, 1, 2))]
    assert median_gain_clip(frames) == "00001/0004"


def test_the_lower_of_two_middle_clips_is_shown() -> None:
    frames = [frame(f"00001/000{n}", psnr_y=30.0 + gain) for n, gain in enumerate((3, 0, 9, 1))]
    assert median_gain_clip(frames) == "00001/0003"


# --- scoring clips


def test_the_baseline_against_itself_gains_nothing() -> None:
    clip = moving_clip()
    frames = score_frames(BicubicLinear(), [clip], {"00001/0001": "slow"})
    assert [one.frame for one in frames] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.kind[:5] for one in frames] == ["input", "inter"] * 3 + ["input"]
    assert all(one.network == one.bicubic_linear for one in frames)


def test_a_perfect_network_has_infinite_psnr_and_ssim_one() -> None:
    clip = moving_clip()
    frames = score_frames(Perfect(clip.hr_clip), [clip], {"00001/0001": "slow"})
    assert {one.network["psnr_y"] for one in frames} == {math.inf}
    assert not any(one.is_scored for one in frames)
    assert [one.network["ssim_y"] for one in frames] == pytest.approx([1.0] * 7)


# --- pictures


def test_the_crop_lies_where_detail_moves() -> None:
    before, now, after = (torch.zeros(3, 64, 96, dtype=torch.uint8) for _ in range(3))
    checks = (torch.arange(16) % 2 * 255).to(torch.uint8).expand(3, 16, 16)
    now[:, :16, :16] = checks  # detail that does not move
    before[:, :16, :16] = after[:, :16, :16] = checks
    now[:, 40:56, 72:88] = checks  # detail that does
    before[:, 40:56, 72:88] = 255 - checks
    crop = busiest_crop(before, now, after, 32)
    assert crop.top <= 40
    assert crop.top + 32 >= 56
    assert crop.left <= 72
    assert crop.left + 32 >= 88
    assert crop.top % 4 == crop.left % 4 == 0


def test_strips_of_small_frames_show_what_is_there() -> None:
    strips = cut_strips(BicubicLinear(), moving_clip(size=48), size=112)
    assert strips.crop.size == 48
    assert len(strips.input_panels) == len(PANELS)
    assert strips.input_panels[0].shape == (3, 48, 48)


def test_panels_are_input_bicubic_linear_network_and_truth() -> None:
    clip = moving_clip(size=48)
    strips = cut_strips(Perfect(clip.hr_clip), clip, size=48)
    enlarged, baseline, network, truth = strips.interpolated_panels
    expected = upscale_bicubic_linear(clip.lr_clip)[0, 3].clamp(0, 1).mul(255).round()
    assert strips.interpolated_frame == 4
    assert torch.equal(baseline.float(), expected)
    assert torch.equal(network, truth)
    assert torch.equal(truth.float(), clip.hr_clip[0, 3].mul(255).round())
    assert torch.equal(enlarged[:, ::4, ::4], enlarged[:, 3::4, 3::4])


def test_pictures_are_png_files() -> None:
    clip = moving_clip()
    strips = cut_strips(BicubicLinear(), clip, 32)
    for png in (strip_png(strips.input_panels), before_after(BicubicLinear(), clip)):
        assert png.startswith(b"\x89PNG\r\n")


# --- the whole evaluation


def test_evaluation_writes_scores_tables_and_pictures(
    artifact: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    scores = evaluate(artifact, tiny_shards_folder, out, EvaluateConfig(clips=3, strip_size=64))

    assert read_scores(out) == scores
    assert scores.groups["all"].clips == 3
    assert scores.same_degradation
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["clips"] == 3
    every = scores.groups["all"].all
    assert metrics["gain_psnr_y"] == every.network.psnr_y - every.bicubic_linear.psnr_y  # type: ignore[operator]
    assert len(list(csv.DictReader((out / "clips.csv").open()))) == 3
    assert len(list(csv.DictReader((out / "frames.csv").open()))) == 21
    assert len(list(csv.DictReader((out / "positions.csv").open()))) == 7
    shown = {path.stem for path in (out / "strips").iterdir()}
    assert shown == {f"{m}_{kind}" for m in scores.strips for kind in ("input", "interpolated")}
    assert (out / "before_after.png").exists()


def test_evaluation_is_the_same_twice(
    artifact: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(clips=2)
    for name in ("one", "two"):
        evaluate(artifact, tiny_shards_folder, tmp_path / name, config)
    names = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(names) > 6
    for name in names:  # type: ignore[assignment]
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_network_of_another_degradation_is_scored_and_said_so(
    tiny_shards_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tiny_artifact(tmp_path / "model", degradation="gaussian-bd")
    out = tmp_path / "evaluation"
    scores = evaluate(tmp_path / "model", tiny_shards_folder, out, EvaluateConfig(clips=1))
    assert not scores.same_degradation
    assert json.loads((out / "metrics.json").read_text())["same_degradation"] is False
    assert "trained on gaussian-bd and is scored on bicubic" in caplog.text


def test_the_start_in_a_model_folder_is_scored_on_the_same_frames(
    tiny_shards_folder: Path, tmp_path: Path
) -> None:
    write_tiny_artifact(tmp_path / "model", seed=1)
    start = write_tiny_artifact(tmp_path / "model" / "start", seed=2)
    out, config = tmp_path / "evaluation", EvaluateConfig(clips=1)
    scores = evaluate(tmp_path / "model", tiny_shards_folder, out, config)
    alone = evaluate(tmp_path / "model/start", tiny_shards_folder, tmp_path / "alone", config)

    assert read_scores(out) == scores
    assert scores.start is not None
    assert scores.start.weights_sha256 == start.weights_sha256
    everything = scores.groups["all"].all
    assert everything.start == alone.groups["all"].all.network
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["gain_over_start_psnr_y"] == everything.gain_over_start_psnr_y
    refuse_other_headline(out)
    for name, rows in (("frames.csv", 7), ("clips.csv", 1)):
        table = list(csv.DictReader((out / name).open()))
        assert len(table) == rows
        assert all(row["start_psnr_y"] != row["psnr_y"] for row in table)


def test_a_refused_evaluation_leaves_nothing_behind(
    artifact: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    with pytest.raises(CheckpointError, match="no-model"):
        evaluate(tmp_path / "no-model", tiny_shards_folder, out, EvaluateConfig())
    with pytest.raises(ShardError, match="no-shards"):
        evaluate(artifact, tmp_path / "no-shards", out, EvaluateConfig())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(
    artifact: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParamsError, match=r"evaluate\.device: found 'cuda'.*auto or cpu"):
        evaluate(artifact, tiny_shards_folder, tmp_path / "out", EvaluateConfig(device="cuda"))


def test_scores_that_are_missing_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"scores\.json: no such file; run `stvsr evaluate`"):
        read_scores(tmp_path)
    (tmp_path / "scores.json").write_text('{"format": 1, "model": 3}')
    with pytest.raises(SourceError, match=r"scores.json: damaged \(model"):
        read_scores(tmp_path)
