"""Finding the MLflow store, and one clear line when it does not answer."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stvsr.core.errors import ParamsError, ServiceError
from stvsr.tracking.config import RegisterConfig
from stvsr.tracking.database import prepare_database
from stvsr.tracking.store import (
    hide_password,
    is_default_uri,
    open_client,
    open_experiment,
    resolve_uri,
    retrying,
)
from tests.support.ports import held_port


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_without_any_setting_the_store_is_sqlite_in_the_project(tmp_path: Path) -> None:
    uri = resolve_uri(None, tmp_path)
    assert uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert is_default_uri(uri, tmp_path)


def test_the_environment_names_the_store_and_a_parameter_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert resolve_uri(None, tmp_path) == "http://tracking:5000"
    assert resolve_uri("http://other:5000", tmp_path) == "http://other:5000"


def test_a_relative_sqlite_path_is_the_projects(tmp_path: Path) -> None:
    uri = resolve_uri("sqlite:///stores/m.db", tmp_path)
    assert uri == f"sqlite:///{tmp_path}/stores/m.db"
    assert resolve_uri("sqlite:////data/m.db", tmp_path) == "sqlite:////data/m.db"


def test_a_password_is_not_shown() -> None:
    assert hide_password("https://me:secret@host:1/x") == "https://host:1/x"
    assert hide_password("https://me:se@cret@host:1/x@y") == "https://host:1/x@y"
    assert hide_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_a_dead_server_is_one_line_with_the_uri_and_the_remedy() -> None:
    with held_port() as port:
        uri = f"http://me:secret@127.0.0.1:{port}"
        with pytest.raises(ServiceError) as refusal:
            open_experiment(open_client(uri), "stvsr")
    text = str(refusal.value)
    assert text.startswith(f"MLflow at {hide_password(uri)} failed (")
    assert "refused" in text
    assert "start the server, or point MLFLOW_TRACKING_URI" in text
    assert "secret" not in text
    assert "\n" not in text


def test_a_damaged_database_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(ServiceError, match=r"mlflow\.db failed .*move it away") as refusal:
        open_experiment(open_client(resolve_uri(None, tmp_path)), "stvsr")
    assert "\n" not in str(refusal.value)
    assert not caplog.records


def make_newer(database: Path) -> None:
    prepare_database(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")


def make_foreign(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table invoices (number integer)")


def make_damaged(database: Path) -> None:
    prepare_database(database)
    content = database.read_bytes()
    database.write_bytes(content[:100] + bytes(len(content) - 100))


STORES: dict[str, tuple[Callable[[Path], object], str]] = {
    "of a newer MLflow": (make_newer, "was written by a newer MLflow .*install that version, or"),
    "of another program": (make_foreign, "found the database of another program; name another"),
    "no database": (lambda path: path.write_text("no database" * 10), "it is no database: move"),
    "a folder": (lambda path: path.mkdir(), "make it a file, in a folder, that this user can read"),
    "damaged": (make_damaged, "it is damaged: put it back from a copy"),
}


@pytest.mark.parametrize("kind", STORES)
def test_a_store_that_cannot_be_opened_is_one_line_whose_remedy_fits(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, text = STORES[kind]
    make(tmp_path / "mlflow.db")
    caplog.clear()
    before = (tmp_path / "mlflow.db").is_file() and (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(ServiceError, match=text) as refusal:
        open_client(resolve_uri(None, tmp_path))
    assert "tracking.uri" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert before == ((tmp_path / "mlflow.db").is_file() and (tmp_path / "mlflow.db").read_bytes())
    assert not caplog.records


def test_a_store_that_another_process_holds_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stvsr.tracking.database.LOCKED_SECONDS", 0.1)
    prepare_database(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceError, match=r"is locked\); another process is using it"):
            open_client(resolve_uri(None, tmp_path))


def test_a_store_that_cannot_be_written_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="see that /proc/stores can be written"):
        open_client("sqlite:////proc/stores/mlflow.db")
    prepare_database(tmp_path / "m.db")
    reader = sqlite3.connect(f"file:{tmp_path / 'm.db'}?mode=ro", uri=True)
    with (
        closing(reader),
        pytest.raises(ServiceError, match="make the file and its folder writable"),
        retrying(f"sqlite:///{tmp_path / 'm.db'}"),
    ):
        reader.execute("delete from experiments")


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "use the name and password of a user who may do this"),
        (404, "see that this is the address of an MLflow server"),
        (500, "see the server's own log"),
    ],
)
def test_a_server_s_refusal_has_the_remedy_of_its_status(
    status: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ServiceError, match=remedy) as refusal:
            open_experiment(open_client(f"http://127.0.0.1:{server.server_port}"), "stvsr")
        server.shutdown()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("spelt", "normal"),
    [
        ("http://tracking:5000/", "http://tracking:5000"),
        ("HTTP://Tracking:5000//", "http://tracking:5000"),
        ("http://tracking:80", "http://tracking"),
        ("https://Me:Secret@Tracking:443/a/", "https://Me:Secret@tracking/a"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:///m.db", "sqlite:////project/m.db"),
        ("sqlite:////project/a/../m.db", "sqlite:////project/m.db"),
        ("file:/project/runs/", "file:///project/runs"),
        ("file:runs/../other", "file:///project/other"),
        ("postgresql://me@Host/db", "postgresql://me@Host/db"),
    ],
)
def test_a_store_has_one_spelling(spelt: str, normal: str) -> None:
    assert resolve_uri(spelt, Path("/project")) == normal
    assert resolve_uri(normal, Path("/elsewhere")) == normal


def test_a_store_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"tracking\.uri .*: found 'gopher://x'.*sqlite:///FILE"):
        open_client("gopher://x")


def test_an_experiment_is_made_once_with_artifacts_beside_the_database(tmp_path: Path) -> None:
    client = open_client(resolve_uri(None, tmp_path))
    first = open_experiment(client, "stvsr")
    assert open_experiment(client, "stvsr") == first
    location = client.get_experiment(first).artifact_location
    assert location == (tmp_path / "mlartifacts" / "stvsr").as_uri()

    client.delete_experiment(first)
    with pytest.raises(ServiceError, match=r"'stvsr' is deleted; restore it"):
        open_experiment(client, "stvsr")


def test_the_short_time_limits_end_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with retrying("http://tracking:5000"):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize("alias", ["latest", "v3", "two words", "", "challenger"])
def test_an_alias_that_mlflow_would_refuse_is_refused(alias: str) -> None:
    with pytest.raises(ValueError, match="alias"):
        RegisterConfig(alias=alias)
