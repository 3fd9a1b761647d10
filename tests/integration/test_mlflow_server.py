"""What `mlflow ui` shows, and what a server takes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import torch

from stvsr.artifact import load_artifact
from stvsr.tracking.config import RegisterConfig, TrackingConfig
from stvsr.tracking.load import load_version
from stvsr.tracking.mlflow_tracker import MlflowTracker, tag_weights
from stvsr.tracking.registry import register
from stvsr.tracking.store import open_client, resolve_uri
from stvsr.tracking.versions import RegisteredModel, model_names
from tests.support.clean_venv import base_installation
from tests.support.models import write_tiny_artifact, write_tiny_evaluation
from tests.support.ports import held_port

pytestmark = pytest.mark.slow

HISTORY = [(10, {"loss": 0.5}), (20, {"loss": 0.4, "val/psnr_y": 30.0})]
PNG = b"\x89PNG\r\n\x1a\n"

PATIENCE_S = 600
"""How long a server or a process may take on a busy machine."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a run and a registration, in the default store."""
    folder = tmp_path_factory.mktemp("project")
    card = write_tiny_artifact(folder / "model")
    write_tiny_evaluation(folder / "evaluation", folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri = resolve_uri(None, folder)
        train(uri, folder / "run", card.weights_sha256)
        register_in(folder, None)
    return folder


def train(uri: str, folder: Path, weights_sha256: str) -> str:
    tracker = MlflowTracker(uri, "stvsr", "stdan-small-0123abcd", folder, tags={})
    tracker.log_params({"model.k": 3})
    tracker.sync(HISTORY)
    tracker.log_picture("before-after.png", PNG)
    tracker.finish("finished")
    tag_weights(uri, folder, weights_sha256)
    return tracker.run_id


def register_in(project: Path, uri: str | None) -> str:
    registered = register(
        project / "model",
        project / "evaluation",
        RegisterConfig(),
        TrackingConfig(uri=uri),
        project / "registration",
        project=project,
    )
    return registered.run_id


def serve(*arguments: str, folder: Path) -> Iterator[str]:
    """Run mlflow's server in `folder` until the test is over."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with held_port() as port, (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "mlflow", *arguments]
        server = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield wait_until_healthy(f"http://127.0.0.1:{port}", server, folder / "server.log")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_until_healthy(uri: str, server: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{uri}/health", timeout=30):
                return uri
        except (URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def ui(project: Path) -> Iterator[str]:
    """`mlflow ui`, started in the project's folder as a user would."""
    yield from serve("ui", folder=project)


def get(uri: str, endpoint: str, **query: str) -> bytes:
    with urlopen(f"{uri}/{endpoint}?{urlencode(query)}", timeout=PATIENCE_S) as answer:
        return answer.read()


def test_the_ui_shows_runs_curves_pictures_and_versions(ui: str, project: Path) -> None:
    (run_id,) = json.loads((project / "run" / "mlflow.json").read_text())["runs"].values()
    run = json.loads(get(ui, "api/2.0/mlflow/runs/get", run_id=run_id))["run"]
    assert {"key": "model.k", "value": "3"} in run["data"]["params"]
    history = get(ui, "api/2.0/mlflow/metrics/get-history", run_id=run_id, metric_key="loss")
    assert [point["step"] for point in json.loads(history)["metrics"]] == [10, 20]

    assert get(ui, "get-artifact", run_id=run_id, path="pictures/before-after.png") == PNG
    scores = get(ui, "get-artifact", run_id=run_id, path="evaluation/metrics.json")
    assert json.loads(scores)["psnr_y"] == 30.5

    alias = get(ui, "api/2.0/mlflow/registered-models/alias", name="stdan", alias="challenger")
    version = json.loads(alias)["model_version"]
    assert (version["version"], version["run_id"]) == ("1", run_id)


def test_a_server_takes_what_the_file_takes(ui: str, project: Path, tmp_path: Path) -> None:
    card = write_tiny_artifact(tmp_path / "model", seed=5)
    write_tiny_evaluation(tmp_path / "evaluation", tmp_path / "model")
    run_id = train(ui, tmp_path / "run", card.weights_sha256)
    assert register_in(tmp_path, ui) == run_id
    registered = json.loads((tmp_path / "registration" / "version.json").read_text())
    assert registered["tracking_uri"] == ui

    lr_clip = torch.rand(1, 2, 3, 8, 8)
    expected, _ = load_artifact(tmp_path / "model")
    loaded = load_version(f"models:/stdan/{registered['version']}", ui)
    with torch.inference_mode():
        assert torch.equal(loaded(lr_clip), expected(lr_clip))

    code = f"import stvsr; print(stvsr.load('models:/stdan/{registered['version']}', {ui!r}).scale)"
    assert base_installation(tmp_path / "venv").run(code, tmp_path).split() == ["4"]


def test_changes_of_a_model_at_a_server_are_made_one_at_a_time(
    ui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The threads share these, which each call sets and puts back.
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

    def count_up(_: int) -> None:
        client = open_client(ui)
        with RegisteredModel(client, "stdan").only_change():
            tags = client.get_registered_model("stdan").tags
            client.set_registered_model_tag("stdan", "count", str(int(tags.get("count", 0)) + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(8)))
    client = open_client(ui)
    assert client.get_registered_model("stdan").tags["count"] == "8"
    assert model_names(client) == ["stdan"]
