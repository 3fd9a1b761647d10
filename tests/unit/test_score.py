"""Scores on benchmark sets: the frames that count, beside the baseline, however they were made."""

import csv
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stvsr.artifact import load_artifact
from stvsr.cli import main
from stvsr.core.errors import InputError, ParamsError, ServiceError, SourceError
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.evaluation.config import EvaluateConfig
from stvsr.evaluation.evaluate import evaluate
from stvsr.evaluation.intervals import bootstrap_interval
from stvsr.evaluation.measures import MEASURES, measure_frames
from stvsr.evaluation.methods import Method, NetworkMethod, OutputsMethod
from stvsr.evaluation.protocols import Protocol, Window, find_protocol
from stvsr.evaluation.score import Scoring, score_clip, score_set
from stvsr.evaluation.set_scores import SetScores, read_set_scores, summarise
from stvsr.evaluation.sets import SetClip, open_set
from stvsr.models import BicubicLinear
from tests.support.models import write_tiny_artifact
from tests.support.sets import drifting_frames, save, write_set
from tests.unit.test_evaluation import frame

CLIPS = {"long": 14, "short": 7}


def conditions(protocol: str = "stvsr", lr: str = "", degradation: str = "bicubic") -> Scoring:
    how = DegradationConfig.model_validate({"name": degradation})
    return Scoring(find_protocol(protocol), how, lr, torch.device("cpu"))


def score(method: Method, root: Path, out: Path, scoring: Scoring) -> SetScores:
    opened = open_set(str(root), lr_folder=scoring.lr_folder)
    return score_set("method", method, opened, scoring, out)


def write_outputs(folder: Path, root: Path, clips: dict[str, int] = CLIPS, shift: int = 4) -> Path:
    """Frames that others made: the ground truth, a little brighter."""
    for clip in clips:
        for path in sorted((root / "GT" / clip).iterdir()):
            image = np.asarray(Image.open(path)).astype(int) + shift
            save(folder / clip / path.name, np.clip(image, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), CLIPS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "model"
    write_tiny_artifact(folder)
    return folder


@pytest.fixture(scope="module")
def baseline(model: Path) -> NetworkMethod:
    """The baseline's network, behind a card."""
    _, card = load_artifact(model)
    return NetworkMethod(BicubicLinear(), card)


# --- what is scored


@pytest.mark.parametrize("protocol", ["stvsr", "zsm", "rstt", "vsr-centre"])
def test_the_baseline_as_a_network_gains_nothing(
    baseline: NetworkMethod, benchmark: Path, tmp_path: Path, protocol: str
) -> None:
    scores = score(baseline, benchmark, tmp_path / "out", conditions(protocol))
    part = scores.groups["all"].parts["all"]
    assert part.network == part.bicubic_linear
    assert {estimate.mean for estimate in part.gain.values()} == {0.0}
    assert set(part.network) == set(MEASURES)


@pytest.mark.parametrize(
    ("protocol", "frames", "inputs"),
    [("stvsr", 21, 12), ("zsm", 20, 11), ("rstt", 21, 12), ("vsr-centre", 21, 21)],
)
def test_a_result_counts_the_frames_of_its_protocol(
    baseline: NetworkMethod,
    benchmark: Path,
    tmp_path: Path,
    protocol: str,
    frames: int,
    inputs: int,
) -> None:
    scores = score(baseline, benchmark, tmp_path / "out", conditions(protocol))
    parts = scores.groups["all"].parts
    assert (scores.clips, scores.frames, parts["input"].frames) == (2, frames, inputs)


def test_lr_frames_that_are_read_give_what_those_that_are_made_give(
    model: Path, benchmark: Path, tmp_path: Path
) -> None:
    method = NetworkMethod(*load_artifact(model))
    made = score(method, benchmark, tmp_path / "made", conditions())
    read = score(method, benchmark, tmp_path / "read", conditions(lr="BIx4"))
    assert made.groups == read.groups
    assert (made.degradation, read.degradation) == ("bicubic", "read from BIx4")


def test_another_degradation_gives_another_score(
    baseline: NetworkMethod, benchmark: Path, tmp_path: Path
) -> None:
    one = score(baseline, benchmark, tmp_path / "one", conditions())
    other = score(baseline, benchmark, tmp_path / "other", conditions(degradation="gaussian-bd"))
    assert other.degradation == "gaussian-bd (sigma 1.6)"
    assert one.groups != other.groups


def test_a_set_and_the_pipelines_shards_of_it_score_alike(
    model: Path, tiny_source: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    evaluated = evaluate(
        model, tiny_shards_folder, tmp_path / "evaluation", EvaluateConfig(clips=1)
    )
    names = {row["clip"] for row in rows(tmp_path / "evaluation" / "clips.csv")}
    for name in names:
        shutil.copytree(tiny_source / "sequences" / name, tmp_path / "set" / name)
    scored = score(
        NetworkMethod(*load_artifact(model)), tmp_path / "set", tmp_path / "out", conditions()
    )
    for part in ("all", "input", "interpolated"):
        compared = getattr(evaluated.groups["all"], part)
        found = scored.groups["all"].parts[part]
        assert found.network["psnr_y"].mean == pytest.approx(compared.network.psnr_y, abs=1e-9)
        assert found.network["ssim_y"].mean == pytest.approx(compared.network.ssim_y, abs=1e-9)
        assert found.bicubic_linear["psnr_y"].mean == pytest.approx(
            compared.bicubic_linear.psnr_y, abs=1e-9
        )


# --- frames that others made


def test_frames_of_others_are_scored_as_they_are(benchmark: Path, tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark, shift=0)
    image = np.asarray(Image.open(outputs / "short" / "0003.png")).copy()
    image[0, 0] ^= 64
    save(outputs / "short" / "0003.png", image)
    rows_ = score_clip(
        OutputsMethod(outputs), open_set(str(benchmark)).clips[1], conditions(), None
    )
    truth = torch.tensor(np.asarray(Image.open(benchmark / "GT/short/0003.png"))).permute(2, 0, 1)
    expected = measure_frames(torch.tensor(image).permute(2, 0, 1)[None], truth[None])[0]
    assert rows_[3].network == expected
    assert [math.isinf(row.network["psnr_y"]) for row in rows_] == [n != 3 for n in range(7)]


def test_outputs_may_be_those_frames_alone_that_a_protocol_scores(
    benchmark: Path, tmp_path: Path
) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    whole = score(OutputsMethod(outputs), benchmark, tmp_path / "whole", conditions("zsm"))
    (outputs / "long" / "0013.png").unlink()
    fewer = score(OutputsMethod(outputs), benchmark, tmp_path / "fewer", conditions("zsm"))
    assert fewer.groups == whole.groups
    with pytest.raises(SourceError, match="long: found 13 frames, expected 14"):
        score(OutputsMethod(outputs), benchmark, tmp_path / "refused", conditions("stvsr"))


def test_a_border_that_a_protocol_crops_changes_nothing(benchmark: Path, tmp_path: Path) -> None:
    write_outputs(tmp_path / "outputs", benchmark)
    once = score(
        OutputsMethod(tmp_path / "outputs"), benchmark, tmp_path / "a", conditions("vsr-centre")
    )
    path = tmp_path / "outputs/short/0000.png"
    image = np.asarray(Image.open(path)).copy()
    image[:8], image[:, -8:] = 0, 0
    save(path, image)
    again = score(
        OutputsMethod(tmp_path / "outputs"), benchmark, tmp_path / "b", conditions("vsr-centre")
    )
    assert again.groups == once.groups
    assert again.crop == 8


def test_only_frames_of_others_have_all_nine_times(
    model: Path, benchmark: Path, tmp_path: Path
) -> None:
    root = write_set(tmp_path / "set", {"clip": 17})
    outputs = write_outputs(tmp_path / "outputs", root, {"clip": 17})
    scores = score(OutputsMethod(outputs), root, tmp_path / "out", conditions("videoinr-average"))
    assert scores.frames == 17
    centre = score(OutputsMethod(outputs), root, tmp_path / "c", conditions("videoinr-centre"))
    assert centre.frames == 5
    network = NetworkMethod(*load_artifact(model))
    with pytest.raises(ParamsError, match=r"videoinr-average.*allowed: videoinr-centre"):
        score(network, root, tmp_path / "refused", conditions("videoinr-average"))
    assert score(network, root, tmp_path / "n", conditions("videoinr-centre")).frames == 5


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ({"short": 7}, "long: no such clip"),
        ({"long": 12, "short": 7}, "long: found 12 frames, expected 14"),
    ],
)
def test_outputs_that_are_missing_are_named(
    benchmark: Path, tmp_path: Path, clips: dict[str, int], message: str
) -> None:
    for clip, frames in clips.items():
        for number, image in enumerate(drifting_frames(frames, (48, 32), 0)):
            save(tmp_path / "outputs" / clip / f"{number}.png", image)
    with pytest.raises(SourceError, match=message):
        score(OutputsMethod(tmp_path / "outputs"), benchmark, tmp_path / "out", conditions())
    assert not (tmp_path / "out").exists()


def test_outputs_of_another_size_are_refused(benchmark: Path, tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    save(outputs / "long" / "0005.png", np.zeros((32, 44, 3), np.uint8))
    for path in (outputs / "short").iterdir():
        save(path, np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(SourceError, match=r"short: found frames of 24x16, expected 48x32"):
        score_clip(OutputsMethod(outputs), open_set(str(benchmark)).clips[1], conditions(), None)
    with pytest.raises(SourceError, match=r"long: found frames of different sizes"):
        score_clip(OutputsMethod(outputs), open_set(str(benchmark)).clips[0], conditions(), None)


# --- clips that cannot be scored


def test_a_clip_shorter_than_a_window_is_named(baseline: NetworkMethod, tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"long": 8, "tiny": 5})
    with pytest.raises(InputError, match="tiny: found 5 frames; protocol stvsr needs at least 7"):
        score(baseline, root, tmp_path / "out", conditions())


def test_frames_of_different_sizes_in_one_clip_are_refused(
    baseline: NetworkMethod, tmp_path: Path
) -> None:
    root = write_set(tmp_path / "set", {"clip": 7})
    save(root / "GT/clip/0004.png", np.zeros((36, 48, 3), np.uint8))
    with pytest.raises(SourceError, match=r"clip: frame 5: found 48x36 pixels, expected 48x32"):
        score(baseline, root, tmp_path / "out", conditions())


def test_a_size_that_is_no_multiple_of_four_is_refused(
    baseline: NetworkMethod, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    for number, image in enumerate(drifting_frames(7, (50, 32), 0)):
        save(root / "clip" / f"{number}.png", image)
    with pytest.raises(SourceError, match=r"clip: frame 1: found 50x32 pixels.*multiples of 4"):
        score(baseline, root, tmp_path / "out", conditions())


# --- means and intervals


def test_clips_are_averaged_per_folder_where_the_protocol_says_so() -> None:
    frames = [
        *(frame(f"00001/000{n}", psnr_y=30.0) for n in range(3)),
        frame("00002/0001", psnr_y=40.0),
    ]
    by_clips = summarise(frames, per_folder=False)["all"].parts["all"].network["psnr_y"]
    by_folders = summarise(frames, per_folder=True)["all"].parts["all"].network["psnr_y"]
    assert by_clips.mean == pytest.approx(32.5)
    assert by_folders.mean == pytest.approx(35.0)


def test_motion_classes_are_groups_of_their_own() -> None:
    frames = [frame("00001/0001", motion="fast"), frame("00001/0002", motion="slow")]
    assert list(summarise(frames, per_folder=False)) == ["all", "slow", "fast"]


def test_an_interval_is_the_same_twice_and_holds_the_mean() -> None:
    values = np.random.default_rng(1).normal(30, 2, 100).tolist()
    interval = bootstrap_interval(values)
    assert interval is not None
    assert interval == bootstrap_interval(values)
    assert interval[0] < np.mean(values) < interval[1]
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * 2 / 10, rel=0.2)


def test_one_clip_has_no_interval() -> None:
    estimate = summarise([frame()], per_folder=False)["all"].parts["all"].gain["psnr_y"]
    assert (estimate.mean, estimate.low, estimate.high) == (1.0, None, None)


# --- resuming


def test_a_score_that_was_interrupted_resumes_with_the_same_bytes(
    benchmark: Path, tmp_path: Path
) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    score(OutputsMethod(outputs), benchmark, tmp_path / "whole", conditions())
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(outputs, at="short"), benchmark, tmp_path / "out", conditions())
    assert not (tmp_path / "out").exists()
    score(Interrupted(outputs, at="long"), benchmark, tmp_path / "out", conditions())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_a_clip_whose_pictures_are_gone_is_scored_again(benchmark: Path, tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    score(OutputsMethod(outputs), benchmark, tmp_path / "whole", conditions())
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(outputs, at="short"), benchmark, tmp_path / "out", conditions())
    shutil.rmtree(tmp_path / ".out.pictures")
    score(OutputsMethod(outputs), benchmark, tmp_path / "out", conditions())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_killed_command_resumes_with_the_same_bytes(benchmark: Path, tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    score(OutputsMethod(outputs), benchmark, tmp_path / "whole", conditions())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(outputs), str(benchmark), str(tmp_path / "out")]
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    score(Interrupted(outputs, at="long"), benchmark, tmp_path / "out", conditions())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("lost", [1, 10, 1000, None])
def test_a_journal_that_ends_early_costs_only_its_last_clip(
    benchmark: Path, tmp_path: Path, lost: int | None
) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    score(OutputsMethod(outputs), benchmark, tmp_path / "whole", conditions())
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(outputs, at="short"), benchmark, tmp_path / "out", conditions())
    (journal,) = tmp_path.glob(".out.*.jsonl")
    journal.write_bytes(journal.read_bytes()[: -lost if lost else 0])
    score(OutputsMethod(outputs), benchmark, tmp_path / "out", conditions())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_what_was_scored_before_holds_only_for_the_same_files_and_conditions(
    benchmark: Path, tmp_path: Path
) -> None:
    outputs = write_outputs(tmp_path / "outputs", benchmark)
    for change in (lambda: None, lambda: (outputs / "long/0000.png").touch()):
        with pytest.raises(KeyboardInterrupt):
            score(Interrupted(outputs, at="short"), benchmark, tmp_path / "out", conditions())
        change()
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(outputs, at="long"), benchmark, tmp_path / "out", conditions())
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(outputs, at="long"), benchmark, tmp_path / "out", conditions("zsm"))


def test_a_result_that_could_not_be_recorded_is_whole_and_not_scored_again(
    benchmark: Path, tmp_path: Path
) -> None:
    outputs, opened = write_outputs(tmp_path / "outputs", benchmark), open_set(str(benchmark))
    recorded: list[Path] = []

    def refuse(scores: SetScores, folder: Path) -> None:
        raise ServiceError("no answer")

    def record(scores: SetScores, folder: Path) -> None:
        assert read_set_scores(folder) == scores
        recorded.append(folder)

    method, out = OutputsMethod(outputs), tmp_path / "out"
    with pytest.raises(ServiceError):
        score_set("method", method, opened, conditions(), out, record=refuse)
    first = files_of(out)
    untouched = Interrupted(outputs, at="long")
    score_set("method", untouched, opened, conditions(), out, record=record)
    assert recorded == [out]
    assert files_of(out) == first
    assert not list(tmp_path.glob(".*"))


class Interrupted(OutputsMethod):
    """Frames that others made; a user presses Ctrl-C at one of the clips."""

    def __init__(self, folder: Path, at: str) -> None:
        super().__init__(folder)
        self.at = at

    def predict(self, clip: SetClip, protocol: Protocol, window: Window, lr_clip: Tensor) -> Tensor:
        if clip.name == self.at:
            raise KeyboardInterrupt
        return super().predict(clip, protocol, window, lr_clip)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_score import OutputsMethod, conditions, score

class Killed(OutputsMethod):
    def predict(self, clip, protocol, window, lr_clip):
        if clip.name == "short":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(clip, protocol, window, lr_clip)

outputs, benchmark, out = map(Path, sys.argv[1:])
score(Killed(outputs), benchmark, out, conditions())
"""


def files_of(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# --- the command


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_the_command_scores_a_model(
    model: Path, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["score", str(model), "--set", str(benchmark), "--protocol", "zsm"]
    assert main([*arguments, "--out", str(out), "--name", "tiny"]) == 0
    scores = read_set_scores(out)
    assert (scores.method, scores.protocol, scores.frames) == ("tiny", "zsm", 20)
    assert scores.model is not None
    assert not scores.partial
    assert len(rows(out / "clips.csv")) == 2
    assert len(rows(out / "frames.csv")) == 20
    assert "2 clips, 20 frames, protocol zsm, LR bicubic" in capsys.readouterr().out


def test_a_set_that_is_not_whole_is_scored_only_when_asked(
    model: Path, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    shutil.copytree(benchmark, root)
    (root / "GT/long/0004.png").unlink()
    arguments = ["score", str(model), "--set", str(root), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "long: frame 4 is missing" in capsys.readouterr().err
    assert main([*arguments, "--partial"]) == 0
    scores = read_set_scores(tmp_path / "out")
    assert scores.missing == ("long: frame 4 is missing",)
    assert scores.clips == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "vid4"], "found neither; expected a model's folder, or --outputs FOLDER"),
        (["model", "--outputs", "o"], "found both"),
        (["model", "--name", "../x"], "--name: found '../x'; allowed: a name without '/'"),
        (["model", "--protocol", "zms", "--set", "."], "--protocol: found 'zms'"),
        (["model", "--set", "vidd4"], "--set: found 'vidd4', which is no set"),
        (["model", "--folder", "nowhere"], "nowhere: no such folder; expected the set vid4"),
        (["--outputs", "nowhere", "--set", "clips"], "--outputs: nowhere: no such folder"),
        (["models:/none@champion", "--set", "clips"], "mlflow.db"),
        (["nowhere", "--set", "clips"], "nowhere/model.json: cannot be read"),
    ],
)
def test_bad_arguments_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(drifting_frames(7, (32, 32), 0)):
        save(tmp_path / "clips" / "one" / f"{number}.png", image)
    assert main(["score", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stvsr score: ")
    assert message in line
    assert not list(tmp_path.rglob("scores.json"))


def test_each_way_to_score_has_a_folder_of_its_own(
    benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_outputs(tmp_path / "others", benchmark)
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--lr", "BIx4"], ["--degradation", "pillow"], ["--protocol", "zsm"]):
        assert main(["score", "--outputs", "others", "--set", str(benchmark), *more]) == 0
    name = f"others_{benchmark.name}"
    endings = ("stvsr", "stvsr_BIx4", "stvsr_pillow", "zsm")
    assert {path.parent.name for path in tmp_path.glob("scores/*/scores.json")} == {
        f"{name}_{ending}" for ending in endings
    }


def test_a_score_that_is_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"scores\.json: no such file; run `stvsr score` first"):
        read_set_scores(tmp_path)
    (tmp_path / "scores.json").write_text('{"format": 1}')
    with pytest.raises(SourceError, match=r"scores\.json: damaged \(.*run `stvsr score` again"):
        read_set_scores(tmp_path)
