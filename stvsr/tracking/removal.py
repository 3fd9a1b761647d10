"""Removal of versions and runs with their artifacts, each whole or not at all.

MLflow deletes a row in one step and its artifacts in many. So what is removed is marked first, and
its row is deleted before its files: killed in between, the next `finish_removals` deletes the rest.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from stvsr.core.errors import ParamsError
from stvsr.tracking.store import hide_password, retrying
from stvsr.tracking.versions import RegisteredModel, VersionFacts

logger = logging.getLogger(__name__)

REMOVED_TAG = "stvsr.removed"
"""Tag of a run that is removed, beside MLflow's own stage `deleted`, which users set too."""

REMOVED_FILES = "stvsr.removed."
"""Begin of a run's tags for artifacts of removed versions; the rest is the artifacts' folder."""

FINISHED = "FINISHED"
"""MLflow's status of a run that ended by itself."""

RUNNING = "RUNNING"
"""MLflow's status of a run that did not end, or whose process was killed."""


@dataclass(frozen=True)
class RunFacts:
    """A run in MLflow.

    Attributes:
        run_id: its id.
        name: its name.
        status: MLflow's word, such as RUNNING or FINISHED.
        started: milliseconds since 1970.
        parent: id of the search that it is a trial of; or empty.
        artifacts: address of its artifacts.
        is_removed: it was removed, and files of it may still be there.
        tags: all its tags.
    """

    run_id: str
    name: str
    status: str
    started: int
    parent: str
    artifacts: str
    is_removed: bool
    tags: dict[str, str] = field(repr=False)


def find_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment.

    Raises:
        ParamsError: there is none of this name; names all.
        ServiceError: the store does not answer.
    """
    with retrying(client.tracking_uri):
        names = {found.name: found.experiment_id for found in client.search_experiments()}
    if name not in names:
        raise ParamsError(
            f"{name}: no such experiment in MLflow at {hide_password(client.tracking_uri)}; "
            f"experiments: {', '.join(sorted(names))}"
        )
    return str(names[name])


def list_runs(client: MlflowClient, experiment_id: str) -> list[RunFacts]:
    """All runs of an experiment, the newest first; those that a user deleted are left out."""
    with retrying(client.tracking_uri):
        runs: list[Run] = []
        token = None
        while True:
            page = client.search_runs([experiment_id], "", ViewType.ALL, page_token=token)
            runs += page
            token = page.token
            if not token:
                break
    facts = map(_facts, runs)
    return sorted((run for run in facts if run is not None), key=lambda run: -run.started)


def remove_version(
    model: RegisteredModel, number: str, is_kept: Callable[[list[VersionFacts]], bool]
) -> bool:
    """Remove a version with its files.

    Args:
        model: its model.
        number: its number.
        is_kept: says of the model's versions, as they are once nobody else may change the model,
            that this one stays after all.

    Returns:
        False if it stays.
    """
    client = model.client
    with model.only_change() as refuse_if_lost, retrying(client.tracking_uri):
        versions = {version.number: version for version in model.versions()}
        if number not in versions:
            return True
        if is_kept(list(versions.values())):
            return False
        run_id, folder = versions[number].run_id, _files_of(client, versions[number])
        refuse_if_lost()
        if folder:
            client.set_tag(run_id, f"{REMOVED_FILES}{folder}", number)
        client.delete_model_version(model.name, number)
    if folder:
        _remove_files(client, run_id, folder)
    return True


def remove_run(client: MlflowClient, run: RunFacts) -> None:
    """Remove a run with its artifacts; MLflow keeps its row, as deleted, until `mlflow gc`."""
    with retrying(client.tracking_uri):
        if not run.is_removed:
            client.set_tag(run.run_id, REMOVED_TAG, "true")
            client.delete_run(run.run_id)
        _delete(client, run.artifacts)


def holds_version(client: MlflowClient, run_id: str) -> bool:
    """True if files of a version, of any model, are among a run's artifacts."""
    with retrying(client.tracking_uri):
        return bool(client.search_model_versions(f"run_id='{run_id}'", max_results=1))


def remove_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Delete an experiment of which no run is left."""
    with retrying(client.tracking_uri):
        client.delete_experiment(experiment_id)


def finish_removals(client: MlflowClient, runs: Iterable[RunFacts], kept: set[str]) -> None:
    """Delete the files of versions whose removal ended early.

    Args:
        client: the store's.
        runs: the runs.
        kept: addresses of the files of all versions that exist.
    """
    for run in runs:
        if run.is_removed:
            continue
        for tag in run.tags:
            folder = tag.removeprefix(REMOVED_FILES)
            if folder == tag:
                continue
            if f"{run.artifacts}/{folder}" in kept:
                with retrying(client.tracking_uri):
                    client.delete_tag(run.run_id, tag)
            else:
                _remove_files(client, run.run_id, folder)


def address_of(client: MlflowClient, version: VersionFacts) -> str:
    """Address of a version's files."""
    with retrying(client.tracking_uri):
        return str(client.get_model_version_download_uri(version.name, version.number))


def size_of(client: MlflowClient, address: str) -> int:
    """Bytes of the files at an address; 0 where there are none."""
    parts = urlsplit(address)
    if parts.scheme in ("", "file"):
        return folder_size(Path(unquote(parts.path)))
    with retrying(client.tracking_uri):
        return sum(_sizes(_repository(client, address), None))


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder; links are not followed."""
    return sum(
        (Path(place) / name).lstat().st_size
        for place, _, names in os.walk(folder)
        for name in names
    )


def _facts(run: Run) -> RunFacts | None:
    tags = {str(key): str(value) for key, value in run.data.tags.items()}
    is_removed = REMOVED_TAG in tags and run.info.lifecycle_stage == "deleted"
    if run.info.lifecycle_stage == "deleted" and not is_removed:
        return None
    return RunFacts(
        run_id=str(run.info.run_id),
        name=str(run.info.run_name),
        status=str(run.info.status),
        started=int(run.info.start_time or 0),
        parent=tags.get("mlflow.parentRunId", ""),
        artifacts=str(run.info.artifact_uri),
        is_removed=is_removed,
        tags=tags,
    )


def _files_of(client: MlflowClient, version: VersionFacts) -> str:
    """Folder of a version's files among its run's artifacts; empty if they are elsewhere."""
    if version.run_id in ("", "None"):
        return ""
    with retrying(client.tracking_uri):
        root = client.get_run(version.run_id).info.artifact_uri
    address = address_of(client, version)
    return address.removeprefix(f"{root}/") if address.startswith(f"{root}/") else ""


def _remove_files(client: MlflowClient, run_id: str, folder: str) -> None:
    with retrying(client.tracking_uri):
        run = client.get_run(run_id)
        _delete(client, run.info.artifact_uri, folder)
        client.delete_tag(run_id, f"{REMOVED_FILES}{folder}")


def _delete(client: MlflowClient, address: str, folder: str | None = None) -> None:
    _repository(client, address).delete_artifacts(folder)  # type: ignore[no-untyped-call]


def _repository(client: MlflowClient, address: str) -> ArtifactRepository:
    return get_artifact_repository(address, tracking_uri=client.tracking_uri)


def _sizes(repository: ArtifactRepository, path: str | None) -> Iterator[int]:
    for entry in repository.list_artifacts(path):
        if entry.is_dir:
            yield from _sizes(repository, entry.path)
        else:
            yield int(entry.file_size or 0)
