"""A training run in MLflow: no gap and no doubled step, however often it is resumed."""

import json
import shutil
from pathlib import Path

import pytest

from stvsr.core.errors import ServiceError
from stvsr.tracking import mlflow_tracker
from stvsr.tracking.mlflow_tracker import MlflowTracker, tag_weights
from stvsr.tracking.store import open_client
from tests.support.files import replace_by_special

HISTORY = [
    (10, {"loss": 0.5, "learning_rate": 4e-4}),
    (20, {"loss": 0.4, "learning_rate": 3e-4, "val/psnr_y": 30.0}),
    (30, {"loss": 0.3, "learning_rate": 2e-4}),
    (40, {"loss": 0.2, "learning_rate": 1e-4, "val/psnr_y": 31.0}),
]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def track(uri: str, folder: Path, **more) -> MlflowTracker:
    tags = more.pop("tags", {"git_commit": "1234567"})
    return MlflowTracker(uri, "stvsr", "stdan-small-0123abcd", folder, tags=tags, **more)


def steps(uri: str, run_id: str, metric: str) -> list[int]:
    return [point.step for point in open_client(uri).get_metric_history(run_id, metric)]


def assert_complete(uri: str, run_id: str) -> None:
    assert steps(uri, run_id, "loss") == [10, 20, 30, 40]
    assert steps(uri, run_id, "learning_rate") == [10, 20, 30, 40]
    assert steps(uri, run_id, "val/psnr_y") == [20, 40]


def test_the_whole_history_is_uploaded_bit_by_bit(uri: str, tmp_path: Path) -> None:
    tracker = track(uri, tmp_path)
    for end in (1, 1, 3, 4):
        tracker.sync(HISTORY[:end])
    assert_complete(uri, tracker.run_id)


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(uri: str, tmp_path: Path) -> None:
    first = track(uri, tmp_path)
    first.sync(HISTORY[:2])
    first.finish("interrupted")
    second = track(uri, tmp_path)
    assert second.run_id == first.run_id
    assert open_client(uri).get_run(first.run_id).info.status == "RUNNING"
    second.sync(HISTORY)
    assert_complete(uri, first.run_id)


def test_an_upload_cut_in_the_middle_of_a_step_is_completed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "METRICS_PER_REQUEST", 4)
    tracker = track(uri, tmp_path)
    upload, calls = tracker._client.log_batch, []

    def die_in_the_second(run_id, metrics):
        calls.append(metrics)
        if len(calls) == 2:
            raise ConnectionError("the server is gone")
        upload(run_id, metrics=metrics)

    monkeypatch.setattr(tracker._client, "log_batch", die_in_the_second)
    with pytest.raises(ServiceError, match="the server is gone"):
        tracker.sync(HISTORY)
    assert steps(uri, tracker.run_id, "loss") == [10, 20]
    assert steps(uri, tracker.run_id, "val/psnr_y") == []

    track(uri, tmp_path).sync(HISTORY)
    assert_complete(uri, tracker.run_id)


def test_a_run_that_was_thrown_away_starts_another_mlflow_run(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = track(uri, folder)
    first.sync(HISTORY)
    shutil.rmtree(folder)
    second = track(uri, folder)
    assert second.run_id != first.run_id
    second.sync(HISTORY[:1])
    assert steps(uri, second.run_id, "loss") == [10]


def test_another_store_gets_the_whole_history(uri: str, tmp_path: Path) -> None:
    track(uri, tmp_path / "run").sync(HISTORY[:3])
    other = f"sqlite:///{tmp_path}/other.db"
    tracker = track(other, tmp_path / "run")
    tracker.sync(HISTORY)
    assert_complete(other, tracker.run_id)


def test_a_store_that_is_spelt_differently_or_comes_back_gets_no_second_run(
    uri: str, tmp_path: Path
) -> None:
    first = track(uri, tmp_path / "run")
    path = Path(uri.removeprefix("sqlite:///"))
    assert (
        track(f"sqlite:///{path.parent}/./x/../mlflow.db", tmp_path / "run").run_id == first.run_id
    )
    other = track(f"sqlite:///{tmp_path}/other.db", tmp_path / "run")
    assert other.run_id != first.run_id
    assert track(uri, tmp_path / "run").run_id == first.run_id
    assert track(f"sqlite:///{tmp_path}/other.db", tmp_path / "run").run_id == other.run_id


def test_a_run_that_an_older_version_logged_is_continued(uri: str, tmp_path: Path) -> None:
    first = track(uri, tmp_path)
    (tmp_path / "mlflow.json").write_text(json.dumps({"uri": uri, "run_id": first.run_id}))
    assert track(uri, tmp_path).run_id == first.run_id


def test_a_run_deleted_in_mlflow_is_made_anew(uri: str, tmp_path: Path) -> None:
    first = track(uri, tmp_path)
    open_client(uri).delete_run(first.run_id)
    second = track(uri, tmp_path)
    second.sync(HISTORY)
    assert second.run_id != first.run_id
    assert_complete(uri, second.run_id)


def test_parameters_keep_their_first_value(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    track(uri, tmp_path).log_params({"train.workers": 1, "model.k": 3, "evaluate.clips": None})
    tracker = track(uri, tmp_path)
    tracker.log_params({"train.workers": 2, "model.k": 3, "train.ema": 0.5})
    assert open_client(uri).get_run(tracker.run_id).data.params == {
        "train.workers": "1",
        "model.k": "3",
        "evaluate.clips": "null",
        "train.ema": "0.5",
    }
    assert "MLflow keeps train.workers=1; now it is 2" in caplog.text


def test_many_parameters_are_logged_in_several_requests(uri: str, tmp_path: Path) -> None:
    tracker = track(uri, tmp_path)
    tracker.log_params({f"p{number}": number for number in range(250)})
    assert len(open_client(uri).get_run(tracker.run_id).data.params) == 250


def test_tags_pictures_and_the_end_are_kept(uri: str, tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    tracker = track(uri, tmp_path, tags={"git_commit": "c0ffee", "data_hash": "abc"})
    tracker.log_picture("before-after.png", png)
    tracker.finish("failed")
    client = open_client(uri)
    run = client.get_run(tracker.run_id)
    assert run.info.run_name == "stdan-small-0123abcd"
    assert run.info.status == "FAILED"
    assert {"git_commit": "c0ffee", "data_hash": "abc"}.items() <= run.data.tags.items()
    local = client.download_artifacts(tracker.run_id, "pictures/before-after.png", str(tmp_path))
    assert Path(local).read_bytes() == png


def test_a_trial_knows_its_search(uri: str, tmp_path: Path) -> None:
    search = track(uri, tmp_path / "search")
    trial = track(uri, tmp_path / "trial", parent=search.run_id)
    tags = open_client(uri).get_run(trial.run_id).data.tags
    assert tags["mlflow.parentRunId"] == search.run_id


def test_weights_are_tagged_where_the_run_was_logged(uri: str, tmp_path: Path) -> None:
    tracker = track(uri, tmp_path / "run")
    tag_weights(uri, tmp_path / "run", "ab" * 32)
    tag_weights(uri, tmp_path / "never-logged", "cd" * 32)
    tags = open_client(uri).get_run(tracker.run_id).data.tags
    assert tags["stvsr.weights_sha256"] == "ab" * 32


@pytest.mark.parametrize(
    "memory",
    ["[", '{"uri": 1, "run_id": "a"}', '{"uri": "", "run_id": "a/../b"}', "[" * 99_999, "\ufeff{}"],
)
def test_a_damaged_memory_of_the_mlflow_run_is_refused(
    uri: str, tmp_path: Path, memory: str
) -> None:
    first = track(uri, tmp_path)
    (tmp_path / "mlflow.json").write_text(memory)
    with pytest.raises(ServiceError, match=r"mlflow\.json: damaged \(.*; remove it, and a new"):
        track(uri, tmp_path)
    (tmp_path / "mlflow.json").unlink()
    assert track(uri, tmp_path).run_id != first.run_id


@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
def test_a_special_file_in_its_place_is_refused_too(uri: str, tmp_path: Path, kind: str) -> None:
    replace_by_special(tmp_path / "mlflow.json", kind)
    with pytest.raises(ServiceError, match=r"mlflow\.json: cannot be read \("):
        track(uri, tmp_path)
