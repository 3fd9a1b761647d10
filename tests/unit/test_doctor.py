"""`stvsr doctor` looks at what jobs need, and a broken part is a finding, not an error."""

from pathlib import Path

import pytest

from stvsr.doctor import diagnose, print_diagnosis


def test_the_table_names_every_part_and_what_it_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_diagnosis(tmp_path)
    shown = capsys.readouterr().out
    parts = ("Python", "torch", "GPU", "DALI", "Ray", "MLflow", "DVC", "codecs", "Disk")
    assert [part for part in parts if part not in shown] == []
    assert "no DVC project here" in shown
    assert "run this in the project's folder" in shown


def test_a_damaged_store_and_a_dead_server_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be read as one")
    (damaged,) = (f for f in diagnose(tmp_path) if f.subject == "MLflow store")
    assert not damaged.fit
    assert "cannot be read" in damaged.found

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:1")
    (dead,) = (f for f in diagnose(tmp_path) if f.subject == "MLflow store")
    assert not dead.fit
    assert "does not answer" in dead.found
    assert "secret" not in dead.found + dead.remedy


def test_the_store_of_params_yaml_is_the_one_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text("tracking: {uri: 'http://127.0.0.1:1'}")
    (store,) = (f for f in diagnose(tmp_path) if f.subject == "MLflow store")
    assert not store.fit
    assert "http://127.0.0.1:1 does not answer" in store.found


def test_parameters_that_are_refused_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {stepps: 3}")
    (params,) = (f for f in diagnose(tmp_path) if f.subject == "Parameters")
    assert not params.fit
    assert "did you mean train.steps?" in params.remedy
