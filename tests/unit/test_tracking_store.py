"""Finding the MLflow store, and one clear line when it does not answer."""

import os
from pathlib import Path

import pytest

from stvsr.core.errors import ParamsError, ServiceError
from stvsr.tracking.config import RegisterConfig
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
    with pytest.raises(ServiceError, match=r"mlflow\.db failed .*move the file away") as refusal:
        open_experiment(open_client(resolve_uri(None, tmp_path)), "stvsr")
    assert "\n" not in str(refusal.value)
    assert not caplog.records


def test_a_store_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"tracking\.uri: found 'gopher://x'.*sqlite:///FILE"):
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


@pytest.mark.parametrize("alias", ["latest", "v3", "two words", ""])
def test_an_alias_that_mlflow_would_refuse_is_refused(alias: str) -> None:
    with pytest.raises(ValueError, match="alias"):
        RegisterConfig(alias=alias)
