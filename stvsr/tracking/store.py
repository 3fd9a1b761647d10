"""Finding the MLflow store, speaking to it, and saying in one line when it does not answer."""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from stvsr.core.errors import ParamsError, ServiceError, StvsrError
from stvsr.core.project import project_of
from stvsr.tracking.database import (
    ARTIFACTS,
    OTHER_STORE,
    DatabaseState,
    follow_move,
    prepare_database,
    read_state,
    try_to_write,
)

REQUEST_SECONDS = 10
"""Time limit of one request to a server."""

RETRIES = 2
"""Retries of a request that got no answer."""

_SQLITE = "sqlite:///"

_PORTS = {"http": 80, "https": 443}
"""Servers' schemes, with the ports that need no mention."""

_DATABASE_REMEDIES = {
    "SQLITE_NOTADB": "it is no database: move it away (the next run makes one)",
    "SQLITE_CORRUPT": "it is damaged: put it back from a copy, or move it away",
    "SQLITE_BUSY": "another process is using it: run this again when that has ended",
    "SQLITE_LOCKED": "another process is using it: run this again when that has ended",
    "SQLITE_READONLY": "make the file and its folder writable for this user",
    "SQLITE_CANTOPEN": "make it a file, in a folder, that this user can read and write",
    "SQLITE_PERM": "make it a file, in a folder, that this user can read and write",
    "SQLITE_FULL": "free some space on its disk",
    "SQLITE_IOERR": "see that its disk works and has space",
    "SQLITE_ERROR": "its tables are not as MLflow makes them: put it back from a copy",
}
"""Remedies by sqlite's name of the fault, of which a longer one is a special case."""

_SERVER_REMEDIES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for that server",
    403: "use the name and password of a user who may do this",
    404: "see that this is the address of an MLflow server",
}
"""Remedies by the status of a server's answer."""

_LOUD = {"mlflow": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}
"""MLflow's loggers that say too much, such as a page for a damaged database: the level they get."""


def resolve_uri(uri: str | None, project: Path) -> str:
    """The tracking URI to use: `uri`, else MLFLOW_TRACKING_URI, else sqlite in the project.

    It is spelt in one way, as `normal_uri` does it. A path that is relative is taken from
    `project`, so that the store is the same from every process's working directory; where that is
    the copy of an experiment, from the project itself.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    return normal_uri(chosen, project_of(project))


def normal_uri(uri: str, project: Path = Path()) -> str:
    """`uri` in the one spelling by which a store is known.

    A sqlite or file path is absolute, without `..` and links; a server's scheme and host are in
    lower case, without the scheme's own port and slashes at the end. Names and addresses of one
    host, such as localhost and 127.0.0.1, stay two.
    """
    if uri.startswith(_SQLITE):
        return f"{_SQLITE}{(project / uri.removeprefix(_SQLITE)).resolve()}"
    try:
        parts = urlsplit(uri)
    except ValueError:  # brackets without an address in them; `open_client` refuses it
        return uri
    if parts.scheme == "file":
        return (project / unquote(parts.path)).resolve().as_uri()
    if parts.scheme not in _PORTS:
        return uri
    user, at, host = parts.netloc.rpartition("@")
    host = host.lower().removesuffix(f":{_PORTS[parts.scheme]}")
    return urlunsplit((parts.scheme, user + at + host, parts.path.rstrip("/"), parts.query, ""))


def is_default_uri(uri: str, project: Path) -> bool:
    """True if `uri` is the store that the project has without any setting."""
    return uri == f"{_SQLITE}{(project_of(project) / 'mlflow.db').resolve()}"


def database_of(uri: str) -> Path:
    """The file of a sqlite store."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def is_missing(uri: str) -> bool:
    """True if `uri` is a sqlite store whose file is not there; a server is not asked."""
    return uri.startswith(_SQLITE) and not database_of(uri).is_file()


def refuse_missing_store(uri: str) -> None:
    """Refuse a sqlite store that is not there, which opening it would make.

    Raises:
        ServiceError: there is no such file.
    """
    if is_missing(uri):
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
    if re.match("https?:", uri) and not _has_host(uri):
        raise _no_store(uri)
    with retrying(uri):
        if uri.startswith(_SQLITE):
            prepare_database(database_of(uri))
            follow_move(database_of(uri))
        try:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        except (MlflowException, ImportError) as error:
            reason = f" ({_first_line(error)})" if isinstance(error, ImportError) else ""
            raise _no_store(uri, reason) from None


def _has_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _no_store(uri: str, reason: str = "") -> ParamsError:
    return ParamsError(
        f"tracking.uri or MLFLOW_TRACKING_URI: found {hide_password(uri)!r}, which is not an "
        f"MLflow store{reason}; allowed: sqlite:///FILE, http://HOST:PORT or https://HOST, or none"
    )


def try_store(uri: str) -> str:
    """Use a store as a run would, except that nothing is made, upgraded or changed.

    Returns:
        What was found, such as "3 experiments".

    Raises:
        ParamsError: MLflow has no store of that kind.
        ServiceError: a run could not use it.
    """
    with retrying(uri):
        if uri.startswith(_SQLITE):
            state = read_state(database_of(uri))
            try_to_write(database_of(uri))
            if state is DatabaseState.NEW:
                return "will be made by the first run"
            if state is DatabaseState.OLDER:
                return "of an older MLflow, will be upgraded by the next run"
        return f"{len(open_client(uri).search_experiments())} experiments"


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
    return re.sub(r"//[^/\s]*@", "//", uri)


def _no_answer(uri: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"MLflow at {hide_password(uri)} failed ({_first_line(error)}); {_remedy(uri, error)}"
    )


def _remedy(uri: str, error: Exception) -> str:
    """Remedy for an error: a database's cause decides before a system's and MLflow's."""
    causes = list(_causes(error))
    kinds = (sqlite3.Error, OSError, MlflowException)
    found = (cause for kind in kinds for cause in causes if isinstance(cause, kind))
    is_sqlite = uri.startswith(_SQLITE)
    match next(found, None):
        case sqlite3.Error() as cause:
            return f"{_database_remedy(cause)}, or {OTHER_STORE}"
        case OSError(filename=str(path), strerror=reason) if is_sqlite:
            return f"see that {path} can be written ({reason}), or {OTHER_STORE}"
        case MlflowException() if is_sqlite:
            return "change what MLflow names there, and run this again"
        case OSError() | MlflowException() if not is_sqlite:
            return _server_remedy(causes)
        case _:
            return "see that its store of artifacts answers"


def _server_remedy(causes: Sequence[BaseException]) -> str:
    """Remedy for a server that is not there, or that answers with an error."""
    gone = [cause for cause in causes if isinstance(cause, OSError)]
    # requests' RetryError: the server answered each time, with a fault of its own
    if gone and not any(type(cause).__name__ == "RetryError" for cause in gone):
        return "start the server, or point MLFLOW_TRACKING_URI or tracking.uri elsewhere"
    answer = next((cause for cause in causes if isinstance(cause, MlflowException)), None)
    status = answer.get_http_status_code() if answer else 500  # type: ignore[no-untyped-call]
    return _SERVER_REMEDIES.get(status, "see the server's own log for the reason")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _database_remedy(error: sqlite3.Error) -> str:
    fault = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    return next(
        (remedy for name, remedy in _DATABASE_REMEDIES.items() if fault.startswith(name)),
        _DATABASE_REMEDIES["SQLITE_ERROR"],
    )


def _first_line(error: Exception) -> str:
    """The first line of an error's text, without its details."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    cause = re.search(r"Caused by \w+\(['\"]?(?:\S+\([^)]*\): )?(.+?)['\"]?\)+$", text)
    return hide_password(cause[1] if cause else text)


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Location of a new experiment's artifacts; None leaves it to the server."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).parent / ARTIFACTS / experiment).as_uri()
