"""The store's database is made and upgraded whole or not at all."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.db import commands
from mlflow.store.tracking.dbmodels.initial_models import Base as FirstTables

from stvsr.tracking.database import DatabaseState, prepare_database, read_state
from stvsr.tracking.store import open_client, open_experiment
from tests.support.forks import Forks


def make_first(database: Path) -> None:
    """A store of the first MLflow, with one experiment in it."""
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    FirstTables.metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "values (0, 'from-before', '/artifacts', 'active')"
        )


PREPARE = "stvsr.tracking.database:prepare_database"
MLFLOW_MAKES = f"{__name__}:mlflow_makes"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("stvsr.tracking.database", "mlflow.store.db.utils", __name__) as forks:
        yield forks


def experiments(database: Path) -> set[str]:
    client = open_client(f"sqlite:///{database}")
    open_experiment(client, "stvsr")
    return {experiment.name for experiment in client.search_experiments()}


def leftovers(database: Path) -> list[str]:
    return [path.name for path in database.parent.iterdir() if "partial" in path.name]


def test_processes_that_use_a_new_store_at_once_all_get_it(forks: Forks, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    processes = [forks.start(PREPARE, database) for _ in range(3)]
    assert [forks.status_of(process) for process in processes] == [0, 0, 0]
    assert experiments(database) == {"Default", "stvsr"}
    assert leftovers(database) == []


def test_an_older_store_is_upgraded_and_kept_as_it_was(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    make_first(database)
    database.chmod(0o600)
    before = database.read_bytes()
    assert experiments(database) == {"from-before", "stvsr"}
    assert database.stat().st_mode & 0o777 == 0o600
    (kept,) = tmp_path.glob("mlflow.db.before-mlflow-*")
    assert kept.read_bytes()[100:] == before[100:]


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    make_first(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table experiment_tags (name text)")
    before = database.read_bytes()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="experiment_tags already exists"):
        prepare_database(database)
    assert database.read_bytes() == before
    assert leftovers(database) == []


def test_looking_at_a_store_makes_and_changes_nothing(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none.db") is DatabaseState.NEW
    make_first(tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    assert read_state(tmp_path / "old.db") is DatabaseState.OLDER
    assert (tmp_path / "old.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]


def mlflow_makes(database: Path) -> None:
    """What MLflow does by itself at the first use of a store."""
    commands.main(["upgrade", f"sqlite:///{database}"], standalone_mode=False)


def nothing(database: Path) -> None:
    """No store yet."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "work", "names"),
    [
        (nothing, PREPARE, {"Default", "stvsr"}),
        (nothing, MLFLOW_MAKES, {"Default", "stvsr"}),
        (make_first, PREPARE, {"from-before", "stvsr"}),
    ],
    ids=["made", "made by MLflow alone", "upgraded"],
)
def test_a_store_whose_first_use_is_killed_works_at_the_next(
    start: Callable[[Path], None], work: str, names: set[str], forks: Forks, tmp_path: Path
) -> None:
    start(tmp_path / "undisturbed.db")
    began = time.monotonic()
    assert forks.status_of(forks.start(work, tmp_path / "undisturbed.db")) == 0
    whole = time.monotonic() - began
    statuses = []
    for part in range(1, 4):
        database = tmp_path / f"{part}" / "mlflow.db"
        database.parent.mkdir()
        start(database)
        process = forks.start(work, database)
        time.sleep(whole * part / 4)
        os.kill(process, signal.SIGKILL)  # a process that has ended is not yet waited for
        statuses.append(forks.status_of(process))
        assert experiments(database) == names
        assert leftovers(database) == []
    assert -signal.SIGKILL in statuses
