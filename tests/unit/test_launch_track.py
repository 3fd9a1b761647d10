from importlib.metadata import version
from pathlib import Path

import pytest

from stvsr.cli import main
from stvsr.core.errors import CheckpointError, TrainingError
from stvsr.core.files import only_writer
from stvsr.launch.track import RECORD_FILE, TrackedRun, circumstances, sync_runs
from stvsr.params import Params
from stvsr.tracking.mlflow_tracker import known_runs
from stvsr.tracking.store import open_client
from stvsr.training.run import open_run
from tests.support.projects import new_mlflow_store


def a_run(folder: Path) -> Path:
    open_run(folder, {"seed": 0})
    record = TrackedRun(experiment="stvsr", steps=4, tags={})
    (folder / RECORD_FILE).write_text(record.model_dump_json())
    return folder


def test_a_folder_without_runs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"found no run .*--runs"):
        sync_runs(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_an_experiment_in_a_copy_keeps_runs_and_store_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    (copy / "params.yaml").write_text("seed: 0")
    run = a_run(tmp_path / "runs" / "one")
    (tmp_path / "mlflow.db").write_bytes(new_mlflow_store())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(copy)
    assert main(["track", "sync"]) == 1, "a copy without DVC's variable is a folder as any other"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert main(["track", "sync"]) == 0
    assert known_runs(run).keys() == {f"sqlite:///{tmp_path / 'mlflow.db'}"}
    assert {path.name for path in copy.iterdir()} == {"params.yaml"}


def test_a_run_that_is_training_is_left_alone(tmp_path: Path) -> None:
    with only_writer(a_run(tmp_path / "runs" / "one")):
        sync_runs(tmp_path / "runs", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_damaged_record_is_one_error_with_its_file(tmp_path: Path) -> None:
    (a_run(tmp_path / "runs" / "one") / RECORD_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"tracked.json: damaged"):
        sync_runs(tmp_path / "runs", f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_damaged_run_does_not_keep_the_others_from_the_store(tmp_path: Path) -> None:
    for name in ("one", "three"):
        (a_run(tmp_path / "runs" / name) / RECORD_FILE).write_text("{")
    a_run(tmp_path / "runs" / "two")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(CheckpointError, match=r"one/tracked.json: .*\n.*three/tracked.json: "):
        sync_runs(tmp_path / "runs", uri)
    assert (tmp_path / "runs" / "two" / "mlflow.json").exists()


def test_a_run_records_workers_loader_machine_and_libraries(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs" / "one")
    record = TrackedRun(experiment="stvsr", steps=4, circumstances=circumstances(Params()))
    (folder / RECORD_FILE).write_text(record.model_dump_json())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(new_mlflow_store())
    sync_runs(tmp_path / "runs", uri)
    (run_id,) = known_runs(folder).values()
    params = open_client(uri).get_run(run_id).data.params
    assert params["library.torch"] == version("torch")
    assert params["train.workers"] == str(Params().train.workers)
    assert {"seed", "loader.kind", "machine.cores", "library.python"} <= params.keys()
    assert not [name for name in params if name.startswith("tracking.")]
