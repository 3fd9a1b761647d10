"""`stvsr gc` removes what is old, never what is needed, and each thing whole or not at all."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from stvsr.cli import main
from stvsr.tracking.load import load_version
from stvsr.tracking.mlflow_tracker import MlflowTracker
from stvsr.tracking.store import open_client
from tests.support.forks import Forks
from tests.support.models import write_tiny_artifact
from tests.support.projects import new_mlflow_store

BEFORE, CHAMPION, PINNED, OLD, CHALLENGER = "12345"
"""Versions: the champion before, the champion, one with an alias of a user's, one that nobody needs
and the one registered last."""

ALL = ["gc", "--keep-versions", "0", "--keep-runs", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store has versions, runs, a search and a temporary experiment."""
    folder = tmp_path_factory.mktemp("home") / "project"
    (folder / "runs").mkdir(parents=True)
    (folder / "mlflow.db").write_bytes(new_mlflow_store())
    (folder / "params.yaml").write_text("{}")
    client = open_client(uri_of(folder))
    client.create_registered_model("stdan")
    for number in range(1, 6):
        add_version(client, track(folder, f"trained-{number}", "finished"), folder / "files")
    client.set_registered_model_alias("stdan", "pinned", PINNED)
    client.set_registered_model_alias("stdan", "challenger", CHALLENGER)
    track(folder, "unregistered", "finished")
    track(folder, "interrupted", "interrupted")
    track(folder, "running", None)
    search = track(folder, "tune-1", "finished")
    for trial in ("a", "b"):
        track(folder, f"tune-1/trial-{trial}", "interrupted", parent=search)
    track(folder, "tried", "finished", experiment="temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        for version in (BEFORE, CHAMPION):
            assert main(["registry", "promote", "stdan", version, "--force"]) == 0
    shutil.copytree(folder, folder.with_name("pristine"))
    return folder


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as it was, in the place that its store names."""
    pristine = home.with_name("pristine")
    for name in ("runs", "mlartifacts"):
        shutil.rmtree(home / name)
        shutil.copytree(pristine / name, home / name)
    source, target = (sqlite3.connect(each / "mlflow.db") for each in (pristine, home))
    with closing(source), closing(target):
        source.backup(target)  # MLflow keeps the file open
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(home)
    return home


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("tests.unit.test_retention", "stvsr.retention", "stvsr.params") as started:
        yield started


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def add_version(client: MlflowClient, run_id: str, files: Path) -> None:
    """A version as `register` makes one, without the copy of the package."""
    write_tiny_artifact(files / "artifacts" / "model")
    client.log_artifacts(run_id, str(files), "model-0123abcd")
    source = f"{client.get_run(run_id).info.artifact_uri}/model-0123abcd"
    client.create_model_version("stdan", source, run_id)


def track(
    folder: Path, name: str, status: Any, parent: str | None = None, experiment: str = "stvsr"
) -> str:
    """A training run with state in runs/NAME and a picture in MLflow; None: it is running."""
    state = folder / "runs" / name
    state.mkdir()
    (state / "checkpoint").write_bytes(bytes(1_000_000))
    tracker = MlflowTracker(uri_of(folder), experiment, name, state, tags={}, parent=parent)
    tracker.log_picture("picture.png", bytes(500_000))
    if status:
        tracker.finish(status)
    return tracker.run_id


def versions(project: Path) -> list[str]:
    found = open_client(uri_of(project)).search_model_versions("name='stdan'")
    return sorted(str(version.version) for version in found)


def run_names(project: Path, experiment: str = "stvsr") -> set[str]:
    client = open_client(uri_of(project))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], "", ViewType.ACTIVE_ONLY)
    return {str(run.info.run_name) for run in runs}


def folders(project: Path) -> set[str]:
    return {path.name for path in (project / "runs").iterdir() if path.is_dir()}


def files(project: Path) -> set[Path]:
    return {path.relative_to(project) for path in project.rglob("*") if path.is_file()}


def assert_versions_are_whole(project: Path) -> None:
    """All versions load, and no files are left of one that is gone."""
    for number in versions(project):
        load_version(f"models:/stdan/{number}", uri_of(project))


KEPT_RUNS = {"trained-1", "trained-2", "trained-3", "trained-5", "interrupted", "running"}


def test_only_what_nobody_needs_goes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ALL) == 0
    assert versions(project) == [BEFORE, CHAMPION, PINNED, CHALLENGER]
    assert run_names(project) == KEPT_RUNS
    assert folders(project) == {*KEPT_RUNS, "tried"}
    assert_versions_are_whole(project)
    placed = [path.parent.name for path in project.glob("mlartifacts/stvsr/*/*/model-*")]
    assert len(placed) == 4
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:-2] for line in lines[:-1]] == [
        ["version", "stdan", "version", OLD],
        ["run", "trained-4"],
        ["run", "unregistered"],
        ["run", "tune-1"],
    ]
    assert [line.split()[-2:] for line in lines[1:4]] == [
        ["1.5", "MB"],
        ["1.5", "MB"],
        ["4.5", "MB"],
    ]
    assert lines[-1].startswith("removed 4 things, ")
    assert main(ALL) == 0
    assert capsys.readouterr().out == "removed 0 things, 0.0 MB\n"
    assert main(["registry", "rollback", "stdan"]) == 0


def test_a_dry_run_lists_the_same_and_removes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project)
    assert main([*ALL, "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert files(project) - before <= {Path("mlflow.db-journal")}
    assert before <= files(project)
    assert main(ALL) == 0
    removed = capsys.readouterr().out
    assert listed.replace("would remove", "removed") == removed


def test_the_newest_stay(project: Path) -> None:
    assert main(["gc", "--keep-versions", "2", "--keep-runs", "4"]) == 0
    assert OLD in versions(project)
    assert run_names(project) >= {"trained-4", "tune-1", "unregistered"}


def test_a_run_that_is_named_goes_though_it_is_not_finished(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", "interrupted", "running"]) == 0
    assert run_names(project) >= {"trained-1", "trained-4", "unregistered", "tune-1"}
    assert not run_names(project) & {"interrupted", "running"}
    assert not folders(project) & {"interrupted", "running"}
    for name, text in (
        ("trained-2", "trained-2: stdan version 2 has its files there, so it stays; nothing was"),
        ("trained-9", "trained-9: no such run in experiment stvsr"),
    ):
        assert main(["gc", "unregistered", name]) == 1
        assert text in capsys.readouterr().err
    assert "unregistered" in run_names(project)


def test_a_temporary_experiment_goes_whole_and_the_own_one_never(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_names(project)
    assert main(["gc", "--experiment", "temporary"]) == 0
    assert "tried" not in folders(project)
    assert run_names(project) == before
    assert main(["gc", "--experiment", "stvsr"]) == 1
    assert "is the project's own" in capsys.readouterr().err
    assert main(["gc", "--experiment", "temporary"]) == 1
    assert "temporary: no such experiment in MLflow" in capsys.readouterr().err
    assert main(["gc", "--model", "stdna"]) == 1
    assert "stdna: no such registered model; did you mean stdan?" in capsys.readouterr().err


def killed_after(count: int) -> Callable[..., None]:
    """An audit hook that ends the process at a change of files or of the store."""
    left = [count]

    def hook(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def collect_and_die(point: Path) -> None:
    """`stvsr gc` in the folder above `point`, killed at the call that its name says."""
    os.chdir(point.parent)
    when, name, count = point.name.split(",")
    die = killed_after(int(count))
    owner: Any = MlflowClient if hasattr(MlflowClient, name) else os
    call = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        if when == "before":
            die()
        answer = call(*arguments, **more)
        if when == "after":
            die()
        return answer

    setattr(owner, name, dying)
    main(ALL)


@pytest.mark.parametrize(
    "point",
    [
        "before,delete_model_version,1",
        "after,unlink,9",
        "after,delete_run,1",
        "after,delete_run,5",
        "after,rename,1",
    ],
)
def test_killed_it_leaves_whole_versions_and_resumes(
    project: Path, forks: Forks, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stvsr.tracking.versions.STALE_SECONDS", 0.2)
    assert (
        forks.status_of(forks.start("tests.unit.test_retention:collect_and_die", project / point))
        == -9
    )
    assert_versions_are_whole(project)
    assert main(ALL) == 0
    assert versions(project) == [BEFORE, CHAMPION, PINNED, CHALLENGER]
    assert run_names(project) == KEPT_RUNS
    assert folders(project) == {*KEPT_RUNS, "tried"}
    placed = list(project.glob("mlartifacts/stvsr/*/*/model-*"))
    assert len(placed) == 4
    assert len(list(project.glob("mlartifacts/stvsr/*/*/pictures"))) == len(KEPT_RUNS)
