"""`stvsr tune` on a Ray cluster with token auth, and on this machine beside that cluster.

Each trial's cores must be free for the next one: a search of which one kept them would not end.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.projects import make_project, stvsr
from tests.support.ray_nodes import Nodes, two_nodes

pytestmark = [pytest.mark.slow, pytest.mark.multinode]

TUNE = {"trials": 3, "steps": 2, "grace_steps": 1, "report_every": 1, "k": [1, 3]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture
def project(tmp_path: Path, tiny_sets: Path) -> Path:
    project = make_project(tmp_path / "project", tiny_sets)
    params = json.loads((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(json.dumps(params | {"tune": TUNE}))
    return project


def assert_whole(project: Path) -> None:
    """The search has left its table, its best trial, and one parent with all trials in MLflow."""
    _, *rows = (project / "tune" / "table.csv").read_text().splitlines()
    assert len(rows) == TUNE["trials"]
    assert json.loads((project / "tune" / "best.json").read_text())["psnr_y"] > 0
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "stvsr")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == TUNE["trials"] + 1
    assert all(run.info.status != "RUNNING" for run in runs)


def test_a_search_runs_as_a_job_on_a_cluster(project: Path, cluster: Nodes) -> None:
    address = f"http://127.0.0.1:{cluster.dashboard}"
    code, output = stvsr(project, "tune", "--address", address, **cluster.environment)
    assert code == 0, output
    assert "train it    dvc exp run -S model.k=" in output
    assert_whole(project)


def test_a_search_on_this_machine_is_not_led_astray_by_a_cluster_beside_it(
    project: Path, cluster: Nodes
) -> None:
    code, output = stvsr(project, "tune")
    assert code == 0, output
    assert_whole(project)


def test_a_trial_that_refuses_says_why_and_is_no_result(project: Path, cluster: Nodes) -> None:
    params = json.loads((project / "params.yaml").read_text())
    params["train"]["crop"], params["tune"]["trials"] = 64, 1
    (project / "params.yaml").write_text(json.dumps(params))
    code, output = stvsr(project, "tune", "--address", cluster.address, **cluster.environment)
    assert code == 1
    assert "train.crop: found 64; allowed is 1 to 24" in output
    assert "none of the 1 trials reported a score" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not (project / "tune").exists()
