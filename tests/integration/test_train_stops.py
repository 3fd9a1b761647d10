"""How `stvsr train` leaves: at once, with its state saved, and with a word on how to go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stvsr.launch.job import run_name
from stvsr.launch.train import checked_lineage
from stvsr.params import load_params
from tests.support.ports import held_port
from tests.support.projects import (
    make_project,
    newest_step,
    run_folder,
    started,
    stvsr,
    wait_for_step,
)
from tests.support.ray_nodes import two_nodes
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.slow

LONG = {"steps": 5000, "validate_every": 0}

NO_SPARE_FAILURE = """
import sys
import stvsr.launch.train
from stvsr.cli import main
stvsr.launch.train.MAX_FAILURES = 0
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def project(tmp_path: Path, tiny_sets: Path) -> Path:
    return make_project(tmp_path / "project", tiny_sets, **LONG)


def test_a_sigterm_to_all_of_a_command_saves_and_says_how_to_go_on(project: Path) -> None:
    """As `timeout` and batch systems send it: Ray's own processes get it too."""
    with started(project, "train") as process:
        wait_for_step(project, 2)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    *_, last = output.splitlines()
    assert f"stopped as asked after step {newest_step(project)} of 5000" in last
    assert "run the same command again to resume" in last


def test_a_second_ctrl_c_does_not_wait(project: Path) -> None:
    with started(project, "train") as process:
        wait_for_step(project, 2)
        (worker,) = (
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "ray::RayTrainWorker" in " ".join(child.cmdline())
        )
        worker.suspend()  # so that the first is not answered before the second comes
        try:
            os.killpg(process.pid, signal.SIGINT)
            wait_until("the request to stop", (run_folder(project) / "stop").exists)
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            worker.kill()
    assert "Traceback" not in output
    *_, last = output.splitlines()
    assert last.startswith("stvsr train: ")
    assert "run the same command again to resume" in last
    assert process.returncode == 130


def test_a_stop_while_workers_start_does_not_wait_for_them(project: Path) -> None:
    with started(project, "train", "--fresh") as process:
        wait_until("the run's record", lambda: bool(list(project.glob("runs/*/tracked.json"))))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    *_, last = output.splitlines()
    assert "stopped as asked" in last
    assert "run the same command without --fresh again to resume" in last


def test_what_fresh_would_throw_away_stays_until_training_can_start(project: Path) -> None:
    params = load_params(project / "params.yaml")
    lineage = checked_lineage(str(project / "data" / "shards"), params.loader)
    before = project / "runs" / run_name(params, lineage) / "checkpoints" / "step-00000007"
    before.mkdir(parents=True)
    with held_port() as port:
        code, output = stvsr(project, "train", "--fresh", "--address", f"127.0.0.1:{port}")
    assert code == 1
    assert "cannot be reached" in output
    assert before.exists()


def test_a_token_of_another_cluster_does_not_matter_to_the_one_that_a_run_starts(
    project: Path,
) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(project / "nowhere")}
    with started(project, "train", "--fresh", **token) as process:
        wait_for_step(project, 1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert "stopped as asked" in output


@pytest.mark.multinode
def test_a_node_lost_where_no_failure_is_left_is_waited_for_until_a_stop(
    tmp_path: Path, tiny_sets: Path
) -> None:
    project = make_project(tmp_path / "project", tiny_sets, **LONG, workers=2)
    with two_nodes(tmp_path / "nodes") as nodes:
        process = subprocess.Popen(
            [sys.executable, "-c", NO_SPARE_FAILURE, "train", "--address", nodes.address],
            cwd=project, env=os.environ | nodes.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_for_step(project, 1)
            nodes.lose()
            said = ""
            while "training waits until a node" not in said:
                said += (line := process.stdout.readline())  # type: ignore[union-attr]
                assert line, said
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 1
    assert "stopped as asked while it waited for a node" in rest.splitlines()[-1]
