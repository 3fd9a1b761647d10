"""Finding the MLflow store, speaking to it, and saying in one line when it does not answer."""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from stvsr.core.errors import ParamsError, ServiceError, StvsrError

REQUEST_SECONDS = 10
"""Time limit of one request to a server."""

RETRIES = 2
"""Retries of a request that got no answer."""

_SQLITE = "sqlite:///"

_OF_A_DATABASE = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
"""Errors that MLflow raises for a damaged sqlite file."""

_LOUD = {"mlflow": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}
"""MLflow's loggers that say too much, such as a page for a damaged database: the level they get."""


def resolve_uri(uri: str | None, project: Path) -> str:
    """The tracking URI to use: `uri`, else MLFLOW_TRACKING_URI, else sqlite in the project.

    A sqlite path that is relative is taken from `project` and made absolute, so that the store is
    the same from every process's working directory.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    if not chosen.startswith(_SQLITE):
        return chosen
    return f"{_SQLITE}{(project / chosen.removeprefix(_SQLITE)).resolve()}"


def is_default_uri(uri: str, project: Path) -> bool:
    """True if `uri` is the store that the project has without any setting."""
    return uri == f"{_SQLITE}{(project / 'mlflow.db').resolve()}"


def refuse_missing_store(uri: str) -> None:
    """Refuse a sqlite store that is not there, which opening it would make.

    Raises:
        ServiceError: there is no such file.
    """
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        raise ServiceError(
            f"MLflow at {uri}: no such file; run this in the project's folder, or name the store "
            "in MLFLOW_TRACKING_URI"
        )


def open_client(uri: str) -> MlflowClient:
    """A client for tracking and registry at `uri`, as `resolve_uri` gives it.

    Raises:
        ParamsError: MLflow has no store of that kind.
        ServiceError: the sqlite file cannot be opened.
    """
    with retrying(uri):
        if uri.startswith(_SQLITE):
            _check_database(Path(uri.removeprefix(_SQLITE).partition("?")[0]))
        try:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        except (MlflowException, ImportError) as error:
            raise ParamsError(
                f"tracking.uri: found {hide_password(uri)!r} ({_first_line(error)}); allowed: "
                "sqlite:///FILE, http://HOST:PORT or https://HOST, or null"
            ) from None


def open_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, made where it is missing.

    Beside a sqlite store, artifacts go to `mlartifacts/NAME` in the database's folder, given as
    an absolute path: a later `mlflow ui` finds them from wherever it is started.

    Raises:
        ServiceError: the store does not answer, or the experiment was deleted there.
    """
    uri = client.tracking_uri
    with retrying(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return client.create_experiment(
                    name, artifact_location=_artifact_location(uri, name)
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise ServiceError(
            f"MLflow at {hide_password(uri)}: experiment {name!r} is deleted; restore it with "
            "`mlflow experiments restore`, or choose another name in tracking.experiment"
        )
    return str(experiment.experiment_id)


def _check_database(database: Path) -> None:
    """Raise at once where the file cannot be opened; MLflow would try for more than a minute."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


@contextmanager
def retrying(uri: str) -> Iterator[None]:
    """Run calls to the store with short time limits, and turn what it raises into ServiceError.

    MLflow alone would try a dead server for minutes. What it raises may be of any kind: behind it
    are a database and a store of artifacts, each with a client of its own.
    """
    settings = {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(RETRIES),
    }
    before = {key: os.environ.get(key) for key in settings}
    levels = {log: log.level for log in map(logging.getLogger, _LOUD)}
    os.environ.update({key: before[key] or value for key, value in settings.items()})
    for log in levels:
        log.setLevel(_LOUD[log.name])
    try:
        yield
    except StvsrError:
        raise
    except Exception as error:
        raise _no_answer(uri, error) from None
    finally:
        for log, level in levels.items():
            log.setLevel(level)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)


def hide_password(uri: str) -> str:
    """`uri` without a user's name and password, for messages and files."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _no_answer(uri: str, error: Exception) -> ServiceError:
    if uri.startswith(_SQLITE) and not isinstance(error, _OF_A_DATABASE):
        remedy = "see that its store of artifacts answers"
    elif uri.startswith(_SQLITE):
        remedy = "move the file away (the next run makes a new one), or make it writable"
    else:
        remedy = "start the server, or point MLFLOW_TRACKING_URI or tracking.uri elsewhere"
    return ServiceError(f"MLflow at {hide_password(uri)} failed ({_first_line(error)}); {remedy}")


def _first_line(error: Exception) -> str:
    """The first line of an error's text, without its details."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    cause = re.search(r"Caused by \w+\(['\"]?(?:\S+\([^)]*\): )?(.+?)['\"]?\)+$", text)
    return hide_password(cause[1] if cause else text)


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Location of a new experiment's artifacts; None leaves it to the server."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).parent / "mlartifacts" / experiment).as_uri()
