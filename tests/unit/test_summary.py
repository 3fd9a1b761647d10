"""`stvsr summary` tells of the MLflow store that commands here use, and of no other."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from stvsr.core.errors import StvsrError
from stvsr.summary import print_summary
from stvsr.tracking.config import TrackingConfig
from stvsr.tracking.registration import REGISTRATION_FILE, Registration
from tests.unit.test_report import some_scores

WEIGHTS = "ab" * 32
OTHER = "http://user:secret@mlflow.example:5000"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has run to its end, with its own store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    scores = some_scores()
    model = scores.model.model_copy(update={"weights_sha256": WEIGHTS})
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(store)
    run = client.create_run(client.create_experiment("stdan"))
    client.create_registered_model("stdan")
    for _ in range(3):
        client.create_model_version("stdan", run.info.artifact_uri, run.info.run_id)
    registration = Registration(
        name="stdan",
        version="3",
        alias="champion",
        uri="models:/stdan@champion",
        load_line='import stvsr; model = stvsr.load("models:/stdan@champion")',
        tracking_uri=None,
        run_id=run.info.run_id,
        weights_sha256=WEIGHTS,
    )
    files = {
        "report/index.html": "",
        "evaluation/scores.json": scores.model_copy(update={"model": model}).model_dump_json(),
        f"registration/{REGISTRATION_FILE}": registration.model_dump_json(),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def summary(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    print_summary(project, TrackingConfig())
    return capsys.readouterr().out


def test_the_version_in_the_projects_own_store_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = summary(project, capsys)
    assert "registered  stdan version 3, models:/stdan@champion" in said
    assert "load it" in said


@pytest.mark.parametrize(
    "case", ["another store", "no store", "a store of other runs", "no registration"]
)
def test_where_the_store_has_no_version_the_line_says_what_to_do(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    where = f"sqlite:///{project / 'mlflow.db'}"
    match case:
        case "another store":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", OTHER)
            where = "http://mlflow.example:5000"
        case "no store":
            (project / "mlflow.db").unlink()
        case "a store of other runs":
            MlflowClient(where).delete_registered_model("stdan")
        case "no registration":
            (project / "registration" / REGISTRATION_FILE).unlink()
    said = summary(project, capsys)
    assert f"registered  not in {where} yet; run `stvsr register`" in said
    assert "+1.25 dB" in said
    assert "load it" not in said
    assert "version 3" not in said


def test_a_registration_of_other_weights_is_refused(project: Path) -> None:
    path = project / "registration" / REGISTRATION_FILE
    path.write_text(path.read_text().replace(WEIGHTS, "cd" * 32))
    with pytest.raises(StvsrError, match=r"cdcdcdcdcdcd…, evaluation scores abab.*stvsr register"):
        print_summary(project, TrackingConfig())
