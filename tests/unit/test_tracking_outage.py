"""Stores that fail in ways of their own: each is one ServiceError, and soon."""

from pathlib import Path

import pytest

from stvsr.core.errors import ParamsError, ServiceError
from stvsr.tracking.mlflow_tracker import MlflowTracker
from stvsr.tracking.store import open_client
from tests.support.ports import held_port


def test_a_database_that_cannot_be_opened_is_refused_without_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slept(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s")

    monkeypatch.setattr("time.sleep", slept)
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(ServiceError, match=r"mlflow\.db failed \(unable to open database file\)"):
        open_client(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_store_whose_client_is_not_installed_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"found 'oracle://x/y'.*allowed: sqlite:///FILE"):
        open_client("oracle://me:secret@x/y")


def test_artifacts_that_cannot_be_stored_are_the_trackers_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with held_port() as port:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        open_client(uri).create_experiment("stvsr", artifact_location="s3://bucket/stvsr")
        tracker = MlflowTracker(uri, "stvsr", "run", tmp_path, tags={})
        with pytest.raises(ServiceError, match="see that its store of artifacts answers") as error:
            tracker.log_picture("picture.png", b"png")
    assert "\n" not in str(error.value)
