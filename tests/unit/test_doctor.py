"""`stvsr doctor` looks at what jobs need, and a broken part is a finding, not an error."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stvsr.core.errors import StvsrError
from stvsr.doctor import Finding, _prefect, diagnose, print_diagnosis
from stvsr.tracking.database import prepare_database
from stvsr.tracking.store import open_client, open_experiment, resolve_uri


def test_the_table_names_every_part_and_what_it_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StvsrError, match=r"parts cannot be used: Parameters, DVC; do what"):
        print_diagnosis(tmp_path)
    shown = capsys.readouterr().out
    parts = (
        "Python",
        "torch",
        "GPU",
        "DALI",
        "Ray",
        "MLflow",
        "Git",
        "DVC",
        "codecs",
        "Home",
        "Disk",
    )
    assert [part for part in parts if part not in shown] == []
    assert "no DVC project here" in shown
    assert "run this in the project's folder" in shown


def found(subject: str, project: Path) -> Finding:
    (finding,) = (finding for finding in diagnose(project) if finding.subject == subject)
    return finding


@pytest.fixture
def _only_the_store_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the probes that start other programs."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("stvsr.doctor._run", lambda code: "none")
    monkeypatch.setattr("stvsr.doctor._said_by", lambda *command: ("", ""))


def newer(database: Path) -> None:
    prepare_database(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda path: path.write_text("no database, but as long as one" * 9), "it is no database"),
        (newer, "was written by a newer MLflow"),
        (lambda path: path.mkdir(), "make it a file"),
    ],
    ids=["no database", "newer", "a folder"],
)
def test_a_store_that_a_run_could_not_use_is_a_finding(
    make: Callable[[Path], object], remedy: str, tmp_path: Path
) -> None:
    make(tmp_path / "mlflow.db")
    finding = found("MLflow store", tmp_path)
    assert not finding.fit
    assert "cannot be used" in finding.found
    assert remedy in finding.remedy


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
def test_a_store_is_used_but_not_made(tmp_path: Path) -> None:
    finding = found("MLflow store", tmp_path)
    assert finding.fit
    assert "will be made by the first run" in finding.found
    assert list(tmp_path.iterdir()) == []
    open_experiment(open_client(resolve_uri(None, tmp_path)), "stvsr")
    assert "2 experiments" in found("MLflow store", tmp_path).found


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
def test_the_server_of_params_yaml_is_the_one_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("tracking: {uri: 'http://someone:secret@127.0.0.1:1'}")
    finding = found("MLflow store", tmp_path)
    assert not finding.fit
    assert "http://127.0.0.1:1, mlflow" in finding.found
    assert "start the server" in finding.remedy
    assert "secret" not in finding.found + finding.remedy


def test_a_project_without_git_says_what_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stvsr.doctor._run", lambda code: "none")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: 'true'}}")
    by_subject = {finding.subject: finding for finding in diagnose(tmp_path)}
    assert "not a git repository" in by_subject["Git"].found
    assert "training, evaluation and registration work without" in by_subject["Git"].remedy
    assert "not a git repository" in by_subject["DVC"].found
    assert "dvc config core.no_scm true" in by_subject["DVC"].remedy

    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert found("DVC", tmp_path).fit


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
def test_folders_and_clusters_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("Home", tmp_path).fit
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    by_subject = {finding.subject: finding for finding in diagnose(Path("/proc"))}
    assert "/proc cannot be written" in by_subject["Home"].found
    assert "/proc cannot be written" in by_subject["Disk"].found
    assert "127.0.0.1:1 does not answer" in by_subject["Ray"].found
    assert "see that /proc can be written" in by_subject["MLflow store"].remedy
    assert not any(by_subject[name].fit for name in ("Home", "Disk", "Ray", "MLflow store"))


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
def test_parameters_that_are_refused_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {stepps: 3}")
    (params,) = (f for f in diagnose(tmp_path) if f.subject == "Parameters")
    assert not params.fit
    assert "did you mean train.steps?" in params.remedy


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server whose every answer is the version 2.14.1."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'"2.14.1"')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as serving:
        threading.Thread(target=serving.serve_forever).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_prefect_server_of_another_version_or_none_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for address, fault in {
        "htp://nowhere": "does not answer",
        f"{server}/api": "has version 2.14.1",
    }.items():
        monkeypatch.setenv("PREFECT_API_URL", address)
        finding = _prefect(tmp_path)
        assert not finding.fit
        assert finding.found.endswith(f"server {address} {fault}")
        assert "correct PREFECT_API_URL" in finding.remedy
    flow = [sys.executable, "-m", "pipelines.flows.prepare_data"]
    run = subprocess.run(flow, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"prepare-data: the Prefect server at {server}/api has version")
    assert run.stderr.count("\n") == 1


@pytest.mark.usefixtures("_only_the_store_is_looked_at")
def test_an_address_at_which_something_else_answers_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    for address, fault in {
        server: "this is not a Ray dashboard",
        "ray://127.0.0.1": "that names no HOST:PORT",
        "htp://nowhere": "that names no HOST:PORT",
    }.items():
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = found("Ray", tmp_path)
        assert not finding.fit
        assert f"cluster {address} does not answer ({fault})" in finding.found
