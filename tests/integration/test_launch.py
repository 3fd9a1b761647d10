"""`stvsr train` and `stvsr tune` as a user runs them: real processes, a real local Ray cluster."""

import gzip
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

import stvsr as stvsr_package
from stvsr.artifact import TrainingFacts, load_artifact
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.history import read_history
from stvsr.training.run import card_of, read_run
from tests.support.projects import (
    losses,
    new_mlflow_store,
    newest_step,
    run_folder,
    started,
    stvsr,
    wait_for_step,
)
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.slow

PARAMS = """
model: {name: stdan, preset: small, channels: 8, embedding: 8, deformable_groups: 2, heads: 2,
        reconstruction_groups: 1, blocks_per_group: 1}
train: {steps: STEPS, batch_size: 2, crop: 16, workers: WORKERS, log_every: 1, checkpoint_every: 2,
        validate_every: 4, validate_clips: 1}
loader: {kind: dali, threads: 1}
tune: {trials: 2, steps: 2, grace_steps: 1, report_every: 1, k: [1, 3]}
"""


@pytest.fixture
def project(tmp_path: Path, tiny_sets: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shards").symlink_to(tiny_sets)
    (tmp_path / "mlflow.db").write_bytes(new_mlflow_store())
    write_params(tmp_path)
    return tmp_path


def write_params(project: Path, steps: int = 8, workers: int = 1) -> None:
    text = PARAMS.replace("STEPS", str(steps)).replace("WORKERS", str(workers))
    (project / "params.yaml").write_text(text)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_sets: Path) -> Path:
    """A project in which `stvsr train` ran to its end without being disturbed."""
    project = tmp_path_factory.mktemp("undisturbed")
    (project / "data").mkdir()
    (project / "data" / "shards").symlink_to(tiny_sets)
    write_params(project)
    code, output = stvsr(project, "train", "--data-version", "0123abcd.dir", "--profile")
    assert code == 0, output
    return project


def test_a_run_leaves_a_model_that_loads_with_its_lineage(undisturbed: Path) -> None:
    model, card = load_artifact(undisturbed / "model")
    lineage = json.loads((undisturbed / "data/shards/train/lineage.json").read_text())
    assert card.step == 8
    assert card.data_hash == lineage["data_hash"]
    assert card.degradation["name"] == "bicubic"
    assert not model.training
    header, *rows = (undisturbed / "model/history.csv").read_text().splitlines()
    assert {"step", "loss", "learning_rate"} <= set(header.split(","))
    assert {"val/bicubic_linear_psnr_y_input", "val/psnr_y_input"} <= set(header.split(","))
    assert len(rows) == 8
    facts = TrainingFacts.parse((undisturbed / "model/training.json").read_bytes())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts.began)
    assert (facts.recipe["steps"], facts.machine["gpus"]) == (8, torch.cuda.device_count())
    assert {"python", "torch"} <= facts.libraries.keys()


def test_a_run_is_one_mlflow_run_with_every_step_once(undisturbed: Path) -> None:
    client = MlflowClient(f"sqlite:///{undisturbed / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "stvsr")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 9))
    assert run.info.status == "FINISHED"
    assert run.data.tags["data_version"] == "0123abcd.dir"
    assert run.data.params["model.k"] == "3"
    assert {
        "train.workers",
        "loader.kind",
        "machine.cores",
        "library.ray",
    } <= run.data.params.keys()
    assert run.data.tags["mlflow.source.name"] == "stvsr train"
    assert run.inputs is not None
    assert len(run.inputs.dataset_inputs) == 1
    assert {"learning_rate", "clips_per_second", "val/psnr_y", "val/ssim_y"} <= set(
        run.data.metrics
    )
    pictures = [item.path for item in client.list_artifacts(run.info.run_id, "pictures")]
    assert pictures == ["pictures/before-after.png"]


def test_a_profile_of_a_few_steps_lies_with_the_run(undisturbed: Path) -> None:
    with gzip.open(run_folder(undisturbed) / "trace.json.gz") as trace:
        names = {event.get("name") for event in json.load(trace)["traceEvents"]}
    assert "stvsr::deform_conv2d" in names


def test_a_finished_run_is_written_out_again_without_training(undisturbed: Path) -> None:
    before = (undisturbed / "model/weights.safetensors").read_bytes()
    shutil.rmtree(undisturbed / "model")
    code, output = stvsr(undisturbed, "train")
    assert code == 0, output
    assert "is at step 8, its last" in output
    assert (undisturbed / "model/weights.safetensors").read_bytes() == before


def model_files(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project / "model").iterdir()}


def test_the_card_is_the_runs_own_record_whatever_is_checked_out_now(undisturbed: Path) -> None:
    before = model_files(undisturbed)
    card = json.loads(before["model.json"])
    record = json.loads((run_folder(undisturbed) / "run.json").read_text())
    assert card["code"] == record["code"]
    assert card["run"] == run_folder(undisturbed).name
    assert card["git_commit"] == record["code"][0]["git_commit"]
    code, output = stvsr(undisturbed, "train", STVSR_GIT_COMMIT="abcdef0")
    assert code == 0, output
    assert model_files(undisturbed) == before


def test_a_model_that_was_pulled_without_its_run_is_not_trained_again(
    project: Path, undisturbed: Path
) -> None:
    shutil.copytree(undisturbed / "model", project / "model")
    before = model_files(project)
    code, output = stvsr(project, "train")
    assert code == 0, output
    assert "is the model of this run already" in output
    assert model_files(project) == before
    assert not (project / "runs").exists()


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """A copy of the package with a change in losses.py, as the environment that imports it."""

    def change(old: str, new: str) -> dict[str, str]:
        package = Path(stvsr_package.__file__).parent
        copied = tmp_path / "changed" / "stvsr"
        shutil.copytree(package, copied, dirs_exist_ok=True)
        text = (copied / "losses.py").read_text()
        assert old in text
        (copied / "losses.py").write_text(text.replace(old, new))
        return {"PYTHONPATH": str(copied.parent)}

    return change


def test_changed_code_is_another_run_unless_it_is_said_to_continue(
    project: Path, changed: Callable[[str, str], dict[str, str]]
) -> None:
    write_params(project, steps=4)
    code, output = stvsr(project, "train")
    assert code == 0, output
    old, first = run_folder(project), model_files(project)

    code, output = stvsr(
        project, "train", **changed("Keeps the square root", "It keeps the square root")
    )
    assert code == 0, output
    assert "is at step 4, its last" in output
    assert model_files(project) == first

    code, output = stvsr(project, "train", **changed("EPSILON = 1e-6", "EPSILON = 1e-2"))
    assert code == 0, output
    assert "starts at step 0 of 4" in output
    second = model_files(project)
    assert second["weights.safetensors"] != first["weights.safetensors"]
    new_card = json.loads(second["model.json"])
    assert new_card["run"] != old.name
    assert read_history(old / "history.jsonl")[-1].step == 4
    code, output = stvsr(project, "train")
    assert code == 0, output
    assert model_files(project) == first


def test_a_long_run_continues_with_mended_code_and_its_card_lists_both(
    project: Path, changed: Callable[[str, str], dict[str, str]]
) -> None:
    write_params(project, steps=400)
    with started(project, "train") as process:
        wait_for_step(project, 2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    run, mended = run_folder(project), changed("EPSILON = 1e-6", "EPSILON = 1e-2")
    begun = newest_step(project)
    for options in (["--continue-with-changed-code"], []):  # the second start knows it by itself
        step = newest_step(project)
        with started(project, "train", *options, **mended) as process:
            wait_for_step(project, step + 1)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE_S)
        assert run_folder(project) == run
        first, second = json.loads((run / "run.json").read_text())["code"]
        assert (first["step"], second["step"]) == (0, begun)
        assert first["fingerprint"] != second["fingerprint"]


def test_a_killed_command_goes_on_and_ends_with_the_same_weights(
    project: Path, undisturbed: Path
) -> None:
    with started(project, "train") as process:
        wait_for_step(project, 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (project / "model").exists()
    deadline = time.monotonic() + DEADLINE_S
    code, output = stvsr(project, "train")
    while "is already writing it" in output and time.monotonic() < deadline:
        code, output = stvsr(project, "train")  # Ray's orphans take a moment to notice
    assert code == 0, output
    ours, theirs = (p / "model" / "weights.safetensors" for p in (project, undisturbed))
    assert ours.read_bytes() == theirs.read_bytes()
    assert losses(project) == losses(undisturbed)


def test_ctrl_c_saves_and_says_how_to_go_on(project: Path) -> None:
    write_params(project, steps=5000)
    with started(project, "train") as process:
        wait_for_step(project, 2)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "stopped as asked after step" in output
    assert "run the same command again to resume" in output
    assert "Traceback" not in output
    history = read_history(run_folder(project) / "history.jsonl")
    assert Checkpoints(run_folder(project) / "checkpoints").steps()[0] == history[-1].step


def test_two_workers_see_the_stream_of_one(project: Path, undisturbed: Path) -> None:
    write_params(project, workers=2)
    code, output = stvsr(project, "train")
    assert code == 0, output
    for (step, ours), (same_step, theirs) in zip(losses(project), losses(undisturbed), strict=True):
        assert step == same_step
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_a_crop_larger_than_the_clips_is_one_line(project: Path) -> None:
    text = (project / "params.yaml").read_text().replace("crop: 16", "crop: 64")
    (project / "params.yaml").write_text(text)
    code, output = stvsr(project, "train")
    refusals = [line for line in output.splitlines() if line.startswith("stvsr train:")]
    assert code == 1
    assert "Traceback" not in output
    assert len(refusals) == 1
    assert "train.crop: found 64" in refusals[0]
    assert not (project / "model").exists()


def test_a_dead_ray_address_is_one_line(project: Path) -> None:
    code, output = stvsr(project, "train", RAY_ADDRESS="127.0.0.1:1")
    assert code == 1
    assert "RAY_ADDRESS=127.0.0.1:1: cannot be reached" in output
    assert "Traceback" not in output


def test_what_a_dead_mlflow_server_missed_is_uploaded_later(project: Path) -> None:
    write_params(project, steps=4)
    dead = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    code, output = stvsr(project, "train", **dead)
    assert code == 0, output
    assert "training continues" in output
    _, card = load_artifact(project / "model")

    code, output = stvsr(project, "track", "sync", **dead)
    assert code == 1
    assert "stvsr track: MLflow at http://127.0.0.1:1 failed" in output
    assert "Traceback" not in output

    for _ in range(2):  # the second time there is nothing left to do
        code, output = stvsr(project, "track", "sync")
        assert code == 0, output
        assert "MLflow has it up to step 4 of 4" in output
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "stvsr")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"
    assert run.data.params["model.k"] == "3"
    assert run.data.tags["data_hash"] == card.data_hash
    assert run.data.tags["stvsr.weights_sha256"] == card.weights_sha256
    pictures = [item.path for item in client.list_artifacts(run.info.run_id, "pictures")]
    assert pictures == ["pictures/before-after.png"]


def test_a_search_prints_and_keeps_its_table_under_one_parent(project: Path) -> None:
    code, output = stvsr(project, "tune")
    assert code == 0, output
    header, *rows = (project / "tune/table.csv").read_text().splitlines()
    assert header.startswith("trial,k,T_top,learning_rate,step,psnr_y")
    assert len(rows) == 2
    best = json.loads((project / "tune/best.json").read_text())
    assert 1 <= best["T_top"] <= best["k"] ** 2
    assert f"-S model.k={best['k']}" in output
    (search,) = (project / "runs").glob("tune-*")
    for trial in search.glob("trial-*"):
        card = card_of(read_run(trial), 1)  # ASHA may stop a trial before its first checkpoint
        assert card.data_hash
        assert card.code[-1].fingerprint

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "stvsr")
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    (parent,) = parents - {None}
    assert len(runs) == 3
    assert all(run.info.status != "RUNNING" for run in runs)
    assert parent in {run.info.run_id for run in runs}
