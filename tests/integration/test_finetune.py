"""`stvsr finetune` on a small video: killed and resumed to its end, and without a gain."""

import csv
import json
import re
from pathlib import Path

import pytest

from stvsr.artifact import load_artifact, read_card
from stvsr.evaluation.scores import read_scores
from tests.support.models import write_tiny_artifact
from tests.support.projects import new_mlflow_store, newest_step, started, stvsr
from tests.support.videos import encode, numbered
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a video, a network to start from and an MLflow store."""
    write_tiny_artifact(tmp_path / "start", seed=5)
    encode(tmp_path / "clip.mp4", (numbered(n) for n in range(35)))
    (tmp_path / "mlflow.db").write_bytes(new_mlflow_store())
    return tmp_path


def folders(project: Path) -> list[Path]:
    return list(project.glob("finetune/clip-????????"))


def test_a_killed_run_resumes_to_its_end_and_registers_what_it_gained(project: Path) -> None:
    command = ["finetune", "clip.mp4", "--model", "start", "--size", "64x64", "--register", "mine"]
    command += ["--steps", "60", "--learning-rate", "0.001"]
    with started(project, *command) as process:
        wait_until("the run's folder", lambda: bool(folders(project)))
        (folder,) = folders(project)
        wait_until("a checkpoint", lambda: newest_step(folder) >= 50)
        process.kill()
    code, text = stvsr(project, *command)
    assert code == 0, text
    assert "finding scenes" not in text
    assert "gained +" in text
    assert f"model: finetune/{folder.name}/model" in text
    assert re.search("registered  models:/mine@(champion|challenger)$", text, re.M)
    assert folders(project) == [folder]

    card = read_card(folder / "model")
    assert card.step == 60
    assert read_card(folder / "model" / "start").weights_sha256 == card.start_sha256
    everything = read_scores(folder / "evaluation").groups["all"].all
    assert everything.start is not None
    assert (everything.gain_over_start_psnr_y or 0) > 0
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert metrics["gain_over_start_psnr_y"] == everything.gain_over_start_psnr_y
    with (folder / "evaluation" / "frames.csv").open() as file:
        assert all(float(row["start_psnr_y"]) > 0 for row in csv.DictReader(file))
    assert "Over start" in (folder / "report" / "index.html").read_text()


def test_without_a_gain_the_start_is_recommended_and_nothing_is_registered(project: Path) -> None:
    command = ["finetune", "clip.mp4", "--model", "start", "--size", "64x64", "--out", "mine"]
    steps = ["--steps", "1", "--learning-rate", "1e-7"]
    code, text = stvsr(project, *command, *steps, "--register", "mine")
    assert code == 0, text
    assert "nothing was gained: " in text
    assert "keep " in text.splitlines()[-1]
    assert not (project / "mine" / "registration").exists()
    files = [path for path in (project / "mine" / "model").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    scored = (project / "mine" / "evaluation" / "scores.json").stat().st_mtime_ns
    weights = load_artifact(project / "mine" / "model")[1].weights_sha256

    code, text = stvsr(project, *command, *steps)
    assert code == 0, text
    assert "nothing was gained: " in text
    assert "is at step 1, its last" in text
    assert {path: path.read_bytes() for path in files} == before
    assert (project / "mine" / "evaluation" / "scores.json").stat().st_mtime_ns == scored

    code, text = stvsr(project, *command, "--steps", "2")
    assert code == 1
    assert "mine: holds the run of other steps, learning_rate; give another folder" in text
    assert read_card(project / "mine" / "model").weights_sha256 == weights
