"""`stvsr track sync`: upload the metrics that a tracker missed."""

import logging
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from stvsr.artifact import TRAINING_FILE, TrainingFacts
from stvsr.core.config import Config, Count, Field
from stvsr.core.errors import BusyError, CheckpointError, TrainingError
from stvsr.core.files import MIB, only_writer, read_bytes, write_text_whole
from stvsr.launch.job import TrainJob
from stvsr.params import Params
from stvsr.tracking.mlflow_tracker import MlflowTracker, known_runs, tag_weights
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.history import read_history
from stvsr.training.loop import PICTURE
from stvsr.training.run import RunFolder, flatten, read_run
from stvsr.training.tracker import Scalar

logger = logging.getLogger(__name__)

RECORD_FILE = "tracked.json"
"""File in a run's folder with a `TrackedRun`."""

WEIGHTS_FILE = "weights.sha256"
"""File in a run's folder with the checksum of the network that was published from it."""


class TrackedRun(Config):
    """Facts of a run for the tracker, besides parameters and history."""

    experiment: str
    """Name of the experiment."""
    steps: Count
    """Steps of the whole run."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Origin of the run."""
    parent: str | None = None
    """MLflow id of the search that this run is a trial of."""
    began: str = ""
    """When the run began, in UTC; empty where that is not known."""
    circumstances: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Parameters that do not decide the weights, machine and library versions, by dotted name."""


LIBRARIES = ("torch", "numpy", "safetensors", "pillow", "ray", "webdataset", "nvidia-dali-cuda130")
"""Distributions whose versions a run records, where they are installed."""


def circumstances(params: Params) -> dict[str, Scalar]:
    """All parameters but the store's address, this machine, and the versions of the libraries."""
    installed = {name.lower(): version for name, version in _installed(LIBRARIES)}
    return flatten(
        {
            **params.model_dump(mode="json", by_alias=True, exclude={"tracking"}),
            "machine": {
                "system": platform.system(),
                "processor": platform.machine(),
                "cores": len(os.sched_getaffinity(0)),
                "gpus": torch.cuda.device_count(),
            },
            "library": {"python": platform.python_version(), **installed},
        }
    )


def _installed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def tracked(job: TrainJob) -> TrackedRun:
    """Facts of a job's run for the tracker."""
    return TrackedRun(
        experiment=job.params.tracking.experiment,
        steps=job.params.train.steps,
        tags=job.tags,
        parent=job.parent,
        circumstances=circumstances(job.params),
    )


def remember(job: TrainJob) -> None:
    """Write a job's record into its run's folder, for `sync_runs`; its beginning stays."""
    folder = Path(job.run)
    try:
        began = _read_record(folder).began
    except (FileNotFoundError, CheckpointError):
        began = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    record = tracked(job).model_copy(update={"began": began})
    write_text_whole(folder / RECORD_FILE, record.model_dump_json(indent=1) + "\n")


def training_facts(run: RunFolder) -> TrainingFacts | None:
    """Circumstances of a run, for its model folder; None where its record is missing or damaged."""
    try:
        record = _read_record(run.path)
    except (FileNotFoundError, CheckpointError) as error:
        logger.warning("%s; the model folder gets no %s", error, TRAINING_FILE)
        return None
    known = {**record.circumstances, **run.parameters}
    return TrainingFacts(
        began=record.began,
        recipe=_section(known, "train"),
        machine=_section(known, "machine"),
        libraries=_section(known, "library"),
    )


def _section(flat: Mapping[str, Scalar], name: str) -> dict[str, Scalar]:
    """{"train.steps": 3}, "train" -> {"steps": 3}."""
    begin = f"{name}."
    return {key.removeprefix(begin): flat[key] for key in flat if key.startswith(begin)}


def open_tracker(uri: str, run: RunFolder, record: TrackedRun) -> MlflowTracker:
    """The MLflow run of a training run, with the circumstances of its start."""
    tracker = MlflowTracker(
        uri, record.experiment, run.path.name, run.path, tags=record.tags, parent=record.parent
    )
    others = record.circumstances.items()
    tracker.log_params({key: value for key, value in others if key not in run.parameters})
    return tracker


def sync_runs(runs: Path, uri: str) -> None:
    """Upload what MLflow lacks of every run and trial in `runs`; a live one uploads by itself.

    Steps that are there already are passed over, so it may be repeated and interrupted.

    Args:
        runs: folder of all runs' states.
        uri: the store, as `resolve_uri` gives it.

    Raises:
        ServiceError: the store does not answer.
        TrainingError: there is no run.
        CheckpointError: the state of some runs is damaged, a line for each; the others are in.
    """
    records = (*runs.glob(f"[!.]*/{RECORD_FILE}"), *runs.glob(f"[!.]*/trial-*/{RECORD_FILE}"))
    folders = sorted(record.parent for record in records)
    if not folders:
        raise TrainingError(
            f"{runs}: found no run (a folder with {RECORD_FILE}); train one with `stvsr train`, "
            "or name its folder with --runs"
        )
    damaged: list[str] = []
    for folder in folders:
        try:
            with only_writer(folder):
                sync_run(read_run(folder), uri)
        except CheckpointError as error:
            damaged.append(str(error))
        except BusyError:
            logger.info("%s: is training now and uploads by itself", folder)
    if damaged:
        raise CheckpointError(damaged)


def sync_run(run: RunFolder, uri: str) -> None:
    """Upload what MLflow does not have of one run that nobody trains."""
    record = _read_record(run.path)
    known_runs(run.path, CheckpointError)
    history = read_history(run.history)
    last = next(iter(Checkpoints(run.checkpoints).steps()), 0)
    kept: list[tuple[int, Mapping[str, float]]] = [
        (line.step, line.metrics) for line in history if line.step <= last
    ]
    tracker = open_tracker(uri, run, record)
    tracker.log_params(run.parameters)
    tracker.sync(kept)
    if (picture := run.path / PICTURE).is_file():
        tracker.log_picture(PICTURE, read_bytes(picture, 64 * MIB))
    tracker.finish("finished" if last >= record.steps else "interrupted")
    if (weights := run.path / WEIGHTS_FILE).is_file():
        tag_weights(uri, run.path, _read_checksum(weights))
    logger.info("%s: MLflow has it up to step %d of %d", run.path, last, record.steps)


def _read_record(folder: Path) -> TrackedRun:
    remedy = "`stvsr train` with the run's parameters writes it again"
    return TrackedRun.read(folder / RECORD_FILE, CheckpointError, remedy)


def _read_checksum(path: Path) -> str:
    checksum = read_bytes(path, 1024).decode("ascii", "replace").strip()
    if not re.fullmatch("[0-9a-f]{64}", checksum):
        raise CheckpointError(f"{path}: damaged: no SHA-256; `stvsr train` writes it again")
    return checksum
