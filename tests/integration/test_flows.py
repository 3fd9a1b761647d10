"""The deployments of prefect.yaml with a real server and worker, on a tiny project's stages."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from stvsr.models import MODEL_NAMES
from tests.support.dvc import (
    PARAMS,
    PROGRAMS,
    REPOSITORY,
    STAGES,
    assert_stands_still,
    dvc,
    environment,
    is_counting,
    lock_is_free,
    make_project,
)
from tests.support.movies import Movie, frame_times, picture
from tests.support.ports import held_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SHARDS = """\
  shard:
    foreach: [train, test]
    do:
      cmd: mkdir -p shards/${item} && echo ${item} > shards/${item}/000000.tar
      outs:
        - shards/${item}
"""

PATIENCE_S = 600
"""How long a server, a worker or a run may take on a busy machine."""


@dataclass
class Line:
    """A project, and the environment in which `prefect` finds its server."""

    project: Path
    env: dict[str, str]
    server: "Service"
    worker: "Service"

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAMS / "prefect", "--no-prompt", *arguments],
            cwd=self.project,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def submit(self, deployment: str, *parameters: str) -> str:
        """Submit a run as a user would; its id."""
        given = [word for parameter in parameters for word in ("--param", parameter)]
        done = self.prefect("deployment", "run", deployment, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"UUID: ([0-9a-f-]{36})", done.stdout)
        assert found, done.stdout
        return found[1]

    def run(self, deployment: str, *parameters: str) -> dict[str, Any]:
        """Submit a run and wait for its last state."""
        flow_run = self.submit(deployment, *parameters)
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        wait_until("the flow run's end", lambda: self.state(flow_run)["type"] in final)
        return self.state(flow_run) | {"flow_run": flow_run}

    def state(self, flow_run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._get(f"flow_runs/{flow_run}").json()["state"]
        return state

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"deployments/name/{name}").json()
        return found

    def resume(self, flow_run: str, answer: dict[str, Any]) -> None:
        """Answer what a paused run asks for."""
        self._post(f"flow_runs/{flow_run}/resume", {"run_input": answer})

    def log(self, flow_run: str) -> list[str]:
        found = self._post("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})
        return [record["message"] for record in found.json()]

    def artifact(self, key: str) -> str:
        return str(self._get(f"artifacts/{key}/latest").json()["data"])

    def answers(self) -> bool:
        """True if the server is healthy."""
        try:
            return httpx.get(f"{self.env['PREFECT_API_URL']}/health", timeout=10).is_success
        except httpx.TransportError:
            return False

    def behave(self, behaviour: str) -> None:
        """Say how the stage behaves from now on, and let it be out of date."""
        (self.project / "behaviour").write_text(behaviour)
        shutil.rmtree(self.project / "out", ignore_errors=True)

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.env['PREFECT_API_URL']}/{path}", timeout=60).raise_for_status()

    def _post(self, path: str, content: dict[str, Any]) -> httpx.Response:
        url = f"{self.env['PREFECT_API_URL']}/{path}"
        return httpx.post(url, json=content, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """What the README's commands set up, for a tiny project in place of this one."""
    folder = tmp_path_factory.mktemp("prefect")
    project = make_project(folder / "project", stages=STAGES + SHARDS)
    shutil.copy(REPOSITORY / "prefect.yaml", project)
    shutil.copytree(REPOSITORY / "pipelines", project / "pipelines")
    write(project / "evaluation" / "metrics.json", '{"input": {"psnr_y": 31.23456}}')
    write(project / "registration" / "version.json", '{"name": "stdan", "version": 7}')
    with held_port() as port:
        env = environment(
            PREFECT_HOME=str(folder / "home"),
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            PREFECT_WORKER_QUERY_SECONDS="1",
        )
        server = Service(folder, env, "server", "start", "--host", "127.0.0.1", "--port", str(port))
        worker = Service(folder, env, "worker", "start", "--pool", "local", "--limit", "1")
        with running(server, worker):
            yield deployed(Line(project, env, server, worker))


def deployed(line: Line) -> Line:
    """Start the server, make the deployments, and start the worker."""
    line.server.start()
    wait_until("the server", line.answers)
    for command in ("work-pool create local --type process", "deploy --all"):
        done = line.prefect(*command.split())
        assert done.returncode == 0, done.stdout + done.stderr
    line.worker.start()
    return line


class Service:
    """A `prefect` service that a test starts, kills and starts again."""

    def __init__(self, folder: Path, env: dict[str, str], *arguments: str) -> None:
        self._folder, self._env, self._arguments = folder, env, arguments
        self._started: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / f"{self._arguments[0]}.log").open("ab") as log:
            self._started = subprocess.Popen(
                [PROGRAMS / "prefect", *self._arguments],
                cwd=self._folder,
                env=self._env,
                stdout=log,
                stderr=log,
            )

    def kill(self, *, alone: bool = False) -> None:
        """Kill the service and, unless it dies alone, all that it started."""
        if self._started is None:
            return
        parent = psutil.Process(self._started.pid)
        for process in [*([] if alone else parent.children(recursive=True)), parent]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._started.wait()
        self._started = None


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Services that are gone when the block ends, whoever started them."""
    try:
        yield
    finally:
        for service in reversed(services):
            service.kill()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def processes_of(flow_run: str) -> list[psutil.Process]:
    """The processes that run a flow; one that ends meanwhile is none."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "prefect.engine" in (process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                    found.append(process)
    return found


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("steps=abc", "field 'steps'. Failure reason: 'abc' is not valid"),
        ("k=2", "field 'k'. Failure reason: 2 is not one of [1, 3, 5]"),
        ("stepps=3", "specified but not found on the deployment: 'stepps'"),
    ],
)
def test_a_wrong_parameter_is_refused_at_submission(line: Line, parameter: str, says: str) -> None:
    refused = line.prefect("deployment", "run", "train-stdan/local", "--param", parameter)
    assert refused.returncode == 1
    assert says in " ".join((refused.stdout + refused.stderr).split())


def test_train_stdan_runs_the_graph_with_its_parameters_and_shows_the_results(line: Line) -> None:
    state = line.run("train-stdan/local", "steps=2", "learning_rate=0.00005")
    assert state["type"] == "COMPLETED", state["message"]
    # It sends its last lines as it ends.
    wait_until("the end of the flow's processes", lambda: not processes_of(state["flow_run"]))
    log = line.log(state["flow_run"])
    assert "train.learning_rate = 5e-05 for this run" in log
    assert "step 2 of 2" in log
    assert "step 3 of 3" not in log
    assert (line.project / "after.txt").exists()
    assert (line.project / "params.yaml").read_text() == PARAMS
    shown = line.artifact("train-stdan")
    assert "| input psnr_y | 31.23 |" in shown
    assert "| version | 7 |" in shown


def test_parameters_that_do_not_fit_together_fail_the_run_in_one_line(line: Line) -> None:
    state = line.run("train-stdan/local", "k=1", "T_top=5")
    assert state["type"] == "FAILED"
    assert re.search(
        r"params.yaml: model.T_top: found 5 with k = 1: only .* 1 points", state["message"]
    )
    assert "\n" not in state["message"]


def test_prepare_data_makes_the_shards_and_shows_their_versions(line: Line) -> None:
    state = line.run("prepare-data/local")
    assert state["type"] == "COMPLETED", state["message"]
    assert (line.project / "shards" / "train" / "000000.tar").exists()
    assert re.search(r'"shard@test", "md5": "[0-9a-f]{32}.dir"', line.artifact("data-versions"))


def test_a_video_is_upscaled_by_a_run(line: Line) -> None:
    Movie(frames=[picture(number) for number in range(3)]).write(line.project / "in.mp4")
    state = line.run("upscale/local", "video=in.mp4", "out=out.mkv")
    assert state["type"] == "COMPLETED", state["message"]
    assert len(frame_times(line.project / "out.mkv")) == 5


def test_a_verb_that_refuses_fails_the_run_with_its_own_words(line: Line) -> None:
    state = line.run("tune/local", "trials=1")
    assert state["type"] == "FAILED"
    assert re.match(r"data/shards/train: .*; .*", state["message"])
    assert "\n" not in state["message"]


def test_a_promotion_waits_for_a_person_and_changes_nothing_without_approval(line: Line) -> None:
    run = line.submit("promote/local", "ask=true")
    wait_until("the pause", lambda: line.state(run)["type"] == "PAUSED")
    line.resume(run, {"approve": False, "reason": "not today"})
    wait_until("the run's end", lambda: line.state(run)["type"] == "COMPLETED")
    assert line.state(run)["message"] == "stdan @challenger: not approved; nothing was changed"
    assert not (line.project / "mlflow.db").exists()


def test_every_model_can_be_trained_by_the_flow_and_the_nightly_run_is_off(line: Line) -> None:
    parameters = line.deployment("train/local")["parameter_openapi_schema"]["properties"]
    names = [name for choice in parameters["model"]["anyOf"] for name in choice.get("enum", ())]
    assert sorted(names) == sorted(MODEL_NAMES)
    (nightly,) = line.deployment("train-stdan/nightly")["schedules"]
    assert not nightly["active"]


def test_a_killed_flow_leaves_no_writer_and_a_second_one_waits_its_turn(line: Line) -> None:
    line.behave("endless daemon")
    first = line.submit("train-stdan/local")
    wait_until("a stage that counts", lambda: is_counting(line.project))
    second = line.submit("prepare-data/local")
    wait_until("a second run that is late", lambda: line.state(second)["name"] == "Late")

    (flow,) = processes_of(first)
    flow.kill()

    wait_until("the lock", lambda: lock_is_free(line.project))
    assert_stands_still(line.project / "out" / "count", line.project / "daemon")
    wait_until("the first run's end", lambda: line.state(first)["type"] == "CRASHED")
    wait_until("the second run's end", lambda: line.state(second)["type"] == "COMPLETED")
    line.behave("")
    by_hand = dvc(line.project, "repro")
    assert by_hand.returncode == 0, by_hand.stderr
    assert (line.project / "out" / "count").read_text() == "3"


def test_a_run_outlives_a_restart_of_the_server(line: Line) -> None:
    line.behave("endless")
    run = line.submit("train-stdan/local")
    wait_until("a stage that counts", lambda: is_counting(line.project))
    line.server.kill()
    line.server.start()
    wait_until("the server", line.answers)
    deployment = line.deployment("train-stdan/local")
    assert deployment["global_concurrency_limit"] is None  # a lease, which a restart forgets
    (line.project / "enough").touch()
    wait_until("the run's end", lambda: line.state(run)["type"] == "COMPLETED")
    (line.project / "enough").unlink()


def test_a_flow_killed_with_its_worker_is_reported_and_the_next_one_runs(line: Line) -> None:
    line.behave("endless")
    run = line.submit("train-stdan/local")
    wait_until("a stage that counts", lambda: is_counting(line.project))
    (flow,) = processes_of(run)
    line.worker.kill(alone=True)
    flow.kill()
    wait_until("the run's end", lambda: line.state(run)["type"] == "CRASHED")
    assert line.state(run)["message"] == "The flow's process was killed; a new run resumes."
    line.worker.start()
    wait_until("the lock", lambda: lock_is_free(line.project))
    line.behave("")
    state = line.run("train-stdan/local")
    assert state["type"] == "COMPLETED", state["message"]


def test_a_flow_without_its_server_says_so_in_one_line(tmp_path: Path) -> None:
    with held_port() as port:
        url = f"http://127.0.0.1:{port}/api"
        failed = subprocess.run(
            [sys.executable, "-m", "pipelines.flows.train_stdan"],
            cwd=tmp_path,
            env=environment(PREFECT_API_URL=url, PREFECT_HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert failed.returncode == 1
    assert failed.stderr == (
        f"train-stdan: the Prefect server at {url} does not answer; start it with "
        "`prefect server start`, or correct PREFECT_API_URL\n"
    )
