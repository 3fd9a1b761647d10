"""Runs on a Ray cluster of two `ray start` nodes with token auth, whose parts are killed.

One undisturbed run is what all are compared with: neither workers nor faults decide the weights.
"""

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from stvsr.artifact import load_artifact
from stvsr.core.world import World
from stvsr.launch.job import TrainJob, deciding_parameters, present_code, run_name
from stvsr.launch.train import checked_lineage
from stvsr.launch.worker import build_trainer
from stvsr.params import load_params
from stvsr.training.loop import TrainingInterruptedError
from stvsr.training.run import open_run
from tests.support.projects import (
    losses,
    make_project,
    newest_step,
    started,
    stvsr,
    wait_for_step,
)
from tests.support.ray_nodes import RAY, Nodes, two_nodes
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.multinode]

TRAIN = {
    "steps": 100_000, "batch_size": 2, "crop": 8, "checkpoint_every": 5, "validate_every": 0,
    "learning_rate": 1e-4,
}  # fmt: skip
"""More steps than any test waits for: runs are stopped, not ended."""

DRIFT = 2e-5
"""How much, relative and per step, the losses of one and of two workers may differ.

Their sums are rounded differently, which grows with the steps, and so with what Ray takes its time
for: to 4e-5 at step 170 and 5e-4 at step 540. Other weights change a loss there by 2e-2, a clip
more or less by 1e-1.
"""

FOLDERS = {"shards": "data/shards", "out": "model", "runs": "runs"}

START_TIMEOUT = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15"}
"""An elastic run tries its old size once or twice before it shrinks; a minute each by default."""


class Command:
    """A command under way, with what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(
            f"{text!r} ({times} times)",
            lambda: self.output.count(text) >= times or not self._reader.is_alive(),
        )
        assert self.output.count(text) >= times, self.output

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> int:
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.output += line


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@contextmanager
def training(project: Path, nodes: Nodes, address: str) -> Iterator[Command]:
    environment = nodes.environment | START_TIMEOUT
    with started(project, "train", "--address", address, **environment) as process:
        yield Command(process)


@contextmanager
def running(words: list[str], nodes: Nodes) -> Iterator[Command]:
    """Any other command."""
    process = subprocess.Popen(
        words, env=os.environ | nodes.environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Command(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def goes_further(project: Path) -> None:
    """Wait until the run has saved another checkpoint."""
    wait_for_step(project, newest_step(project) + 1)


class Undisturbed:
    """The same run in one process, without Ray, as far as it has been asked for."""

    def __init__(self, folder: Path, tiny_sets: Path) -> None:
        self._project = make_project(folder, tiny_sets, **TRAIN | {"checkpoint_every": 20})

    def losses(self, steps: int) -> list[float]:
        if newest_step(self._project) < steps:
            train_here(self._project, steps)
        return [metrics["loss"] for _, metrics in losses(self._project)][:steps]


def train_here(project: Path, steps: int, commit: str = "") -> None:
    """Train in this process until a checkpoint at `steps` or later is whole."""
    params, shards = load_params(project / "params.yaml"), str(project / "data" / "shards")
    lineage = checked_lineage(shards, params.loader)
    run = project / "runs" / run_name(params, lineage)
    code = present_code(params.model.name).model_copy(update={"git_commit": commit})
    open_run(run, deciding_parameters(params, lineage), code)
    uri = f"sqlite:///{project / 'mlflow.db'}"
    job = TrainJob(params=params, shards=shards, run=str(run), attempt="here", tracking_uri=uri)
    job.conversation.stop.unlink(missing_ok=True)
    trainer = build_trainer(job, World(), torch.device("cpu"))
    if steps == params.train.steps:
        trainer.run()
        return

    def stop_there() -> None:
        try:
            wait_for_step(project, steps)
        finally:
            job.conversation.stop.touch()

    stopper = threading.Thread(target=stop_there)
    stopper.start()
    with pytest.raises(TrainingInterruptedError):
        trainer.run()
    stopper.join()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_sets: Path) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed") / "project", tiny_sets)


def assert_like(undisturbed: Undisturbed, project: Path) -> None:
    """The run's losses are those of `undisturbed`; its history and MLflow have each step once."""
    ours = losses(project)
    steps = [step for step, _ in ours]
    assert steps == list(range(1, len(ours) + 1))
    expected = undisturbed.losses(len(ours))
    for (step, metrics), loss in zip(ours, expected, strict=True):
        assert metrics["loss"] == pytest.approx(loss, rel=DRIFT * step), f"step {step}"
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "stvsr")
    (run,) = client.search_runs([experiment.experiment_id])
    logged = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert logged == steps[: len(logged)]
    assert len(logged) >= newest_step(project) - TRAIN["checkpoint_every"]  # the rest was under way


def test_an_elastic_run_outlives_a_worker_and_a_node(
    tmp_path: Path, tiny_sets: Path, cluster: Nodes, undisturbed: Undisturbed
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **TRAIN, workers=2, min_workers=1)
    with training(project, cluster, cluster.address) as command:
        command.wait_for("2 of 2 workers train")
        wait_for_step(project, 1)
        cluster.kill_one(lambda line: line.startswith("ray::RayTrainWorker"))
        command.wait_for("2 of 2 workers train", times=2)

        goes_further(project)
        cluster.lose()
        command.wait_for("training resumes with fewer, and with more when a node joins")
        command.wait_for("1 of 2 workers train")
        goes_further(project)
        cluster.add()
        command.wait_for("2 of 2 workers train", times=3)

        goes_further(project)
        command.signal(signal.SIGINT)
        assert command.end() == 1
        assert "stopped as asked after step" in command.output
    assert_like(undisturbed, project)


def test_a_job_of_fixed_size_waits_for_a_lost_node(
    tmp_path: Path, tiny_sets: Path, cluster: Nodes, undisturbed: Undisturbed
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **TRAIN, workers=2)
    dashboard = f"http://127.0.0.1:{cluster.dashboard}"
    with training(project, cluster, dashboard) as command:
        command.wait_for("its log follows")
        command.signal(signal.SIGINT)
        assert command.end() == 130
        follow, stop = re.findall(r"`(ray job [^`]+)`", command.output)

    with running([RAY, *shlex.split(follow)[1:]], cluster) as follower:
        wait_for_step(project, 1)
        cluster.wait_for(2)
        cluster.lose()
        follower.wait_for("training waits until a node with 1 CPU per worker joins")
        cluster.add()
        follower.wait_for("2 of 2 workers train", times=2)
        goes_further(project)
        cluster.kill_one(lambda line: line.startswith("python -m stvsr.cli"))

    arguments = [f"--{name}={project / path}" for name, path in FOLDERS.items()]
    settings = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(DEADLINE_S),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
    }
    submit = [
        RAY, "job", "submit", f"--address={dashboard}", f"--working-dir={project}",
        f"--runtime-env-json={json.dumps({'env_vars': settings})}", "--submission-id=by-hand",
        "--", "stvsr", "train", *arguments,
    ]  # fmt: skip
    with running(submit, cluster) as submitted:
        submitted.wait_for("resumes at step")
        goes_further(project)
        stop_it = [RAY, "job", "stop", f"--address={dashboard}", "by-hand"]
        with running(stop_it, cluster) as stopped:
            assert stopped.end() == 0
    with running([RAY, "job", "logs", f"--address={dashboard}", "by-hand"], cluster) as whole_log:
        assert whole_log.end() == 0
        assert "stopped as asked after step" in whole_log.output
    assert shlex.split(stop)[:3] == ["ray", "job", "stop"]
    assert_like(undisturbed, project)


def test_a_job_leaves_its_model_with_what_it_was_made_from(
    tmp_path: Path, tiny_sets: Path, cluster: Nodes
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **TRAIN | {"steps": 2})
    train_here(project, 2, commit="fedcba9876543210")
    secret = {"MLFLOW_TRACKING_PASSWORD": "open-sesame"}
    told = {"STVSR_GIT_COMMIT": "0123456789abcdef"}
    address = f"ray://127.0.0.1:{cluster.client}"
    words = ["train", "--address", address, "--data-version", "0123abcd.dir"]
    code, output = stvsr(project, *words, **cluster.environment, **told, **secret)
    assert code == 0, output
    assert "is at step 2, its last" in output
    _, card = load_artifact(project / "model")
    assert card.git_commit == "fedcba9876543210"  # what trained it, not what writes it out
    assert "open-sesame" not in output
    logs = [path for path in (cluster.session() / "logs").rglob("*") if path.is_file()]
    assert logs
    assert not [path for path in logs if b"open-sesame" in path.read_bytes()]


def test_what_a_job_refuses_ends_the_command_that_submitted_it(
    tmp_path: Path, tiny_sets: Path, cluster: Nodes
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **TRAIN)
    address = f"http://127.0.0.1:{cluster.dashboard}"
    words = ["train", "--address", address, "--shards", "elsewhere"]
    code, output = stvsr(project, *words, **cluster.environment)
    assert code == 1
    assert f"stvsr train: {project}/elsewhere/train" in output
    assert "Traceback" not in output


def test_ctrl_c_on_a_terminal_asks_before_it_stops_the_job(
    tmp_path: Path, tiny_sets: Path, cluster: Nodes
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **TRAIN)
    address = f"http://127.0.0.1:{cluster.dashboard}"
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "stvsr.cli", "train", "--address", address],
        cwd=project, env=os.environ | cluster.environment, start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        read_until(ours, "its log follows")
        os.killpg(command.pid, signal.SIGINT)
        read_until(ours, "stop the job too? [y/N]")
        os.write(ours, b"y\n")
        read_until(ours, "stopped as asked; run the same command again to resume")
        assert command.wait(DEADLINE_S) == 1
    finally:
        command.kill()
        command.wait()
        os.close(ours)


def read_until(terminal: int, text: str) -> None:
    said = b""
    while text.encode() not in said:  # in bytes: a read may end within a character
        assert select.select([terminal], [], [], DEADLINE_S)[0], said
        said += os.read(terminal, 4096)
