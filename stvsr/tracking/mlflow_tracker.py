"""MlflowTracker: a training run's numbers and pictures in MLflow. It fits `training.tracker`."""

import getpass
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException

from stvsr.core.config import Config, Field, model_validator
from stvsr.core.errors import ServiceError, StvsrError
from stvsr.core.files import write_text_whole
from stvsr.tracking.store import (
    hide_password,
    normal_uri,
    open_client,
    open_experiment,
    retrying,
)

logger = logging.getLogger(__name__)

WEIGHTS_TAG = "stvsr.weights_sha256"
"""Tag by which a registration finds the run that trained a network, and its version."""

MEMORY_FILE = "mlflow.json"
"""File in a training run's folder with its `KnownRuns`."""

METRICS_PER_REQUEST = 1000
"""MLflow's limit for one log_batch."""

DIGEST_LENGTH = 36
"""MLflow's limit for the digest of a dataset."""

PARAMS_PER_REQUEST = 100
"""MLflow's limit for one log_batch."""


class KnownRuns(Config):
    """The MLflow runs of one training run: the content of mlflow.json."""

    runs: dict[str, Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]] = Field(
        default_factory=dict
    )
    """Id of its MLflow run by the store's URI, without a password."""

    @model_validator(mode="before")
    @classmethod
    def _take_the_one_store_of_older_files(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.keys() == {"uri", "run_id"}:
            return {"runs": {given["uri"]: given["run_id"]}}
        return given


_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowTracker:
    """One MLflow run for one training run, however often that one is resumed.

    The id of the MLflow run in each store is in `MEMORY_FILE` in the training run's folder, so a
    resumed run continues the same one, and a run started afresh (its folder thrown away) gets a
    new one. If the store no longer has that run, a new one is made and gets the whole history.

    Raises (every method): ServiceError, the store does not answer or refuses, or `MEMORY_FILE` is
    damaged.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run_name: str,
        run_folder: Path,
        *,
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> None:
        """Open the run of `run_folder`, or make one.

        Args:
            uri: the store, as `store.resolve_uri` gives it.
            experiment: name of the experiment, made where it is missing.
            run_name: name of the run.
            run_folder: folder of the training run's state.
            tags: what the run was made from, such as git_commit and data_hash.
            parent: MLflow id of the run this one is a trial of.
        """
        self._client = open_client(uri)
        self._uri = uri
        self.run_id = _open_run(self._client, experiment, run_name, run_folder, tags, parent)
        self._last_steps: dict[str, int] = {}
        logger.info("MLflow run %s (%s) at %s", run_name, self.run_id, hide_password(uri))

    def log_params(self, params: Mapping[str, str | int | float | bool | None]) -> None:
        """Log parameters; one that a resumed run has with another value keeps its first value."""
        with retrying(self._uri):
            known = self._client.get_run(self.run_id).data.params
            texts = {key: "null" if value is None else str(value) for key, value in params.items()}
            for key in texts.keys() & known.keys():
                if texts[key] != known[key]:
                    logger.info("MLflow keeps %s=%s; now it is %s", key, known[key], texts[key])
            new = [Param(key, text) for key, text in texts.items() if key not in known]
            for chunk in _chunks(new, PARAMS_PER_REQUEST):
                self._client.log_batch(self.run_id, params=chunk)

    def sync(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Upload what MLflow does not have yet of (step, metrics), steps ascending.

        What it has is asked per metric, so an upload that was cut in the middle leaves neither a
        gap nor a doubled step.
        """
        with retrying(self._uri):
            for name in {name for _, metrics in history for name in metrics}:
                if name not in self._last_steps:
                    self._last_steps[name] = self._last_step(name)
            now = int(time.time() * 1000)
            new = [
                Metric(name, value, now, step)
                for step, metrics in history
                for name, value in metrics.items()
                if step > self._last_steps[name]
            ]
            for chunk in _chunks(new, METRICS_PER_REQUEST):
                self._client.log_batch(self.run_id, metrics=chunk)
                self._last_steps.update({metric.key: metric.step for metric in chunk})

    def log_picture(self, name: str, png: bytes) -> None:
        """Keep a PNG file's bytes under `pictures/NAME`."""
        with retrying(self._uri), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_bytes(png)
            self._client.log_artifact(self.run_id, str(file), "pictures")

    def finish(self, status: Literal["finished", "interrupted", "failed"]) -> None:
        """Close the MLflow run; a later resume opens it again."""
        with retrying(self._uri):
            self._client.set_terminated(self.run_id, _STATUS[status])

    def _last_step(self, metric: str) -> int:
        """The newest step that MLflow has of a metric; -1 where it has none."""
        points = self._client.get_metric_history(self.run_id, metric)
        return max((point.step for point in points), default=-1)


def tag_weights(uri: str, run_folder: Path, weights_sha256: str) -> None:
    """Tag the MLflow run of `run_folder` with its network's weights; a registration looks for it.

    Nothing happens where the training run was never logged to this store.

    Raises:
        ServiceError: the store does not answer or refuses, or `MEMORY_FILE` is damaged.
    """
    run_id = known_run(uri, run_folder)
    if run_id is not None:
        client = open_client(uri)
        with retrying(uri):
            client.set_tag(run_id, WEIGHTS_TAG, weights_sha256)


def _open_run(
    client: MlflowClient,
    experiment: str,
    run_name: str,
    run_folder: Path,
    tags: Mapping[str, str],
    parent: str | None,
) -> str:
    """The id of the MLflow run that belongs to `run_folder` in this store."""
    uri = client.tracking_uri
    known = known_run(uri, run_folder)
    if known is not None and _is_alive(client, known):
        with retrying(uri):
            client.update_run(known, status="RUNNING")
            for key, value in tags.items():
                client.set_tag(known, key, value)
        return known
    experiment_id = open_experiment(client, experiment)
    links = {"mlflow.parentRunId": parent} if parent else {}
    origin = origin_tags("stvsr train", tags.get("git_commit", ""))
    with retrying(uri):
        run = client.create_run(experiment_id, run_name=run_name, tags={**origin, **tags, **links})
        run_id = str(run.info.run_id)
        log_data(client, run_id, tags.get("data_hash", ""), tags.get("data_version", ""))
    memory = KnownRuns(runs={**known_runs(run_folder), _key(uri): run_id})
    write_text_whole(run_folder / MEMORY_FILE, memory.model_dump_json(indent=2) + "\n")
    return run_id


def origin_tags(source: str, git_commit: str) -> dict[str, str]:
    """MLflow's own tags of a run: the command, the user and the commit.

    Args:
        source: the command, such as "stvsr train".
        git_commit: the commit; or empty.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid-{os.getuid()}"
    commit = {"mlflow.source.git.commit": git_commit} if git_commit else {}
    return {
        "mlflow.user": user,
        "mlflow.source.name": source,
        "mlflow.source.type": "LOCAL",
        **commit,
    }


def log_data(client: MlflowClient, run_id: str, data_hash: str, data_version: str) -> None:
    """Log the training shards as MLflow's dataset input of a run; nothing where they are unknown.

    Args:
        client: the store's.
        run_id: the run.
        data_hash: SHA-256 over the shards; MLflow's digest is its first 36 digits.
        data_version: DVC's hash of them; or empty.
    """
    if not data_hash:
        return
    source = json.dumps({"data_hash": data_hash, "data_version": data_version})
    shards = Dataset("training shards", data_hash[:DIGEST_LENGTH], "stvsr", source)
    context = InputTag("mlflow.data.context", "training")
    client.log_inputs(run_id, [DatasetInput(shards, [context])])


def known_run(uri: str, run_folder: Path) -> str | None:
    """The MLflow run that an earlier process made for `run_folder` in this store."""
    return known_runs(run_folder).get(_key(uri))


def known_runs(run_folder: Path, error: type[StvsrError] = ServiceError) -> dict[str, str]:
    """The MLflow runs of `run_folder` by store; none where the file is missing.

    Raises:
        error: the file is damaged, so that it is not known which runs are its own.
    """
    remedy = "remove it, and a new MLflow run is made"
    try:
        known = KnownRuns.read(run_folder / MEMORY_FILE, error, remedy)
    except FileNotFoundError:
        return {}
    return {_key(uri): run_id for uri, run_id in known.runs.items()}


def _key(uri: str) -> str:
    """The store's name in `MEMORY_FILE`, the same however the URI is spelt."""
    return hide_password(normal_uri(uri))


def _is_alive(client: MlflowClient, run_id: str) -> bool:
    with retrying(client.tracking_uri):
        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return False


Item = TypeVar("Item")


def _chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
