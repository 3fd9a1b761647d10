"""The sqlite file of an MLflow store: made or upgraded whole, or not at all.

MLflow itself makes its tables in tens of steps, and a process that is killed in between leaves a
file that no later one can open. Here the steps are done on a temporary file beside it.
"""

import functools
import glob
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.db import commands

from stvsr.core.errors import BusyError, ServiceError
from stvsr.core.files import only_writer

logger = logging.getLogger(__name__)

WAIT_SECONDS = 300
"""Time to wait for another process that makes or upgrades the same database."""

LOCKED_SECONDS = 5.0
"""Time to wait for another process's transaction."""

OTHER_STORE = "name another store in tracking.uri or MLFLOW_TRACKING_URI"


ARTIFACTS = "mlartifacts"
"""Folder beside the database with the artifacts of all runs."""

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Tables and columns in which MLflow keeps addresses of artifacts."""


class DatabaseState(Enum):
    """The step that opening a database calls for."""

    NEW = "is made"
    """It is missing, empty, or was left by a process that was killed while it made the tables."""
    CURRENT = "is ready"
    """It has the tables of the installed MLflow."""
    OLDER = "is upgraded"
    """It has those of an older MLflow."""


def prepare_database(database: Path) -> None:
    """Make the store's database, or upgrade it, where that is called for.

    Processes that do so at the same time wait for each other. The file as it was before an
    upgrade is kept beside it.

    Raises:
        ServiceError: it is of a newer MLflow, or another program's.
        sqlite3.Error: it is no database, locked, damaged, or cannot be read or written.
        OSError: its folder cannot be written.
    """
    if read_state(database) is DatabaseState.CURRENT:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with _only_maker(database):
        for leftover in database.parent.glob(f"{glob.escape(database.name)}.*.partial*"):
            leftover.unlink()
        temporary = database.with_name(f"{database.name}.{os.getpid()}.partial")
        try:
            match read_state(database):
                case DatabaseState.NEW:
                    _upgrade(temporary)
                    _replace(temporary, database)
                case DatabaseState.OLDER:
                    _upgrade_copy(database, temporary)
        finally:
            temporary.unlink(missing_ok=True)


def read_state(database: Path) -> DatabaseState:
    """The state of a database; nothing is made or changed.

    Raises:
        ServiceError: it is of a newer MLflow, or another program's.
        sqlite3.Error: it is no database, locked, damaged or cannot be read.
    """
    if not database.exists() or (database.is_file() and database.stat().st_size == 0):
        return DatabaseState.NEW
    with closing(_connect(database)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
        if not tables - {"alembic_version"}:
            return DatabaseState.NEW
        if "experiments" not in tables:
            raise ServiceError(
                f"MLflow at {database}: found the database of another program; {OTHER_STORE}"
            )
        revision = _revision(connection, tables)
        is_used = connection.execute("select 1 from experiments limit 1").fetchone()
    known, newest = _revisions()
    if revision and revision not in known:
        raise ServiceError(
            f"MLflow at {database}: was written by a newer MLflow (schema {revision}) than the "
            f"installed {mlflow.__version__}; install that version, or {OTHER_STORE}"
        )
    if revision == newest:
        return DatabaseState.CURRENT
    return DatabaseState.OLDER if is_used else DatabaseState.NEW


def follow_move(database: Path) -> None:
    """Correct the addresses of artifacts after the project's folder was moved or renamed.

    MLflow keeps absolute ones. Those are changed that begin with a folder `ARTIFACTS` that is no
    longer there, all at once, if an experiment of it is beside the database; no file is touched.

    Raises:
        sqlite3.Error: the database cannot be read or changed.
    """
    here = database.absolute().parent / ARTIFACTS
    if not here.is_dir():
        return
    with closing(_connect(database)) as connection:
        rows = connection.execute("select distinct artifact_location from experiments").fetchall()
        gone = {root for (address,) in rows if (root := _moved_root(address, here))}
        if not gone:
            return
        with connection:
            for old in sorted(gone):
                _change_addresses(connection, f"{old}/", f"{here.as_uri()}/")
    for old in sorted(gone):
        logger.warning("MLflow at %s: artifacts of %s are now %s", database, old, here.as_uri())


def _moved_root(address: str | None, here: Path) -> str:
    """Address of the folder `ARTIFACTS` of an experiment that is now in `here`; empty if it is not.

    An experiment whose folder is in neither place, as on a disk that is not mounted, was not moved.
    """
    root, found, name = (address or "").rpartition(f"/{ARTIFACTS}/")
    if not found or not root.startswith("file:"):
        return ""
    is_gone = not Path(unquote(urlsplit(root).path), ARTIFACTS).exists()
    return f"{root}/{ARTIFACTS}" if is_gone and (here / unquote(name)).is_dir() else ""


def _change_addresses(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _ADDRESSES:
        connection.execute(
            f"update {table} set {column} = ? || substr({column}, ?) "
            f"where substr({column}, 1, ?) = ?",
            (new, len(old) + 1, len(old), old),
        )


def try_to_write(database: Path) -> None:
    """Begin a change of a database and give it up; a file is made beside it and removed.

    Raises:
        sqlite3.Error: the database cannot be changed.
        OSError: its folder cannot be written.
    """
    folder = next(path for path in database.absolute().parents if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise
    if database.exists():
        with closing(_connect(database)) as connection:
            connection.execute("BEGIN IMMEDIATE")


def _connect(database: Path) -> sqlite3.Connection:
    """Open a database that is there; what a killed process left half done in it is undone."""
    address = f"{database.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=LOCKED_SECONDS)


def _revision(connection: sqlite3.Connection, tables: set[str]) -> str:
    """Name of the schema; empty where the tables are the first MLflow's, or half made."""
    if "alembic_version" not in tables:
        return ""
    found = connection.execute("select version_num from alembic_version").fetchone()
    return str(found[0]) if found else ""


@functools.cache
def _revisions() -> tuple[frozenset[str], str]:
    """Names of all schemas that the installed MLflow knows, and that of the newest."""
    folder = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    known, replaced = (
        frozenset(name for text in texts for name in re.findall(pattern, text, re.MULTILINE))
        for pattern in (r'^revision = "(\w+)"', r'^down_revision = "(\w+)"')
    )
    (newest,) = known - replaced
    return known, newest


@contextmanager
def _only_maker(database: Path) -> Iterator[None]:
    """Hold the lock for making or upgrading a database, once nobody else does."""
    end = time.monotonic() + WAIT_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(only_writer(database))
                break
            except BusyError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield


def _upgrade_copy(database: Path, temporary: Path) -> None:
    """Upgrade a copy, with the database closed to writers, and let it take the database's place."""
    with closing(_connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN IMMEDIATE")
        before = database.with_name(f"{database.name}.before-mlflow-{mlflow.__version__}")
        with closing(_connect(database)) as source:
            for path in (before, temporary):
                with closing(sqlite3.connect(path)) as copy:
                    source.backup(copy)
                path.chmod(database.stat().st_mode & 0o777)
        _upgrade(temporary)
        _replace(temporary, database)
    logger.warning(
        "MLflow at %s: upgraded to the tables of MLflow %s; the file as it was is %s",
        database, mlflow.__version__, before,
    )  # fmt: skip


def _upgrade(temporary: Path) -> None:
    """`mlflow db upgrade`, which also makes the tables of an empty database."""
    commands.main(["upgrade", f"sqlite:///{temporary}"], standalone_mode=False)


def _replace(temporary: Path, database: Path) -> None:
    """Rename a finished database; a journal of the file before is not for this one."""
    for suffix in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    temporary.replace(database)
