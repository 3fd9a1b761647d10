"""The folder of a run: its record, its checkpoints and its history."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import stvsr
from stvsr.artifact import Card, CodeVersion
from stvsr.core.config import Config, ContentError, Field
from stvsr.core.errors import CheckpointError, TrainingError
from stvsr.core.files import only_writer, write_text_whole
from stvsr.training.tracker import Scalar

logger = logging.getLogger(__name__)

RECORD_FILE = "run.json"

SHOWN_LETTERS = 200
"""Letters of a parameter's value that a refusal shows."""

REMEDY = "put it back, use the version that wrote it, or throw the run away with --fresh"
"""Remedy for a record that cannot be read."""


class RunRecord(Config):
    """The content of run.json: everything that decides a run's weights, and the code it ran on."""

    format: Literal[2] = 2
    """Version of this file."""
    parameters: dict[Annotated[str, Field(max_length=200)], str | int | float | bool | None]
    """By dotted name, as `flatten` makes them."""
    code: tuple[CodeVersion, ...] = Field(min_length=1)
    """Every code the run was trained with, the first from step 0."""
    data_version: str = ""
    """DVC's hash of the shards when the run began; empty where it is not known."""
    start_from: str = ""
    """Name of the network that the run started from; empty: random weights."""
    stvsr_version: str = stvsr.__version__
    """Version of this package when the run began."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run's state, with its record.

    Attributes:
        path: the folder, on storage that all workers share.
        record: what decides its weights.
    """

    path: Path
    record: RunRecord

    @property
    def parameters(self) -> Mapping[str, Scalar]:
        """The deciding parameters by dotted name."""
        return self.record.parameters

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        """The history, a record per logged step."""
        return self.path / "history.jsonl"


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, Scalar]:
    """{"model": {"k": 3}} -> {"model.k": 3}; a list is kept as its JSON text."""
    flat: dict[str, Scalar] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif value is None or isinstance(value, str | int | float | bool):
            flat[name] = value
        else:
            flat[name] = json.dumps(value)
    return flat


def unflatten(flat: Mapping[str, Scalar], prefix: str) -> dict[str, Scalar]:
    """{"model.k": 3}, "model" -> {"k": 3}; a list's JSON text is a list again.

    Args:
        flat: as `flatten` makes it.
        prefix: the part to take, whose values are scalars and lists.
    """
    part = {
        name.removeprefix(f"{prefix}."): value
        for name, value in flat.items()
        if name.startswith(f"{prefix}.")
    }
    return {
        name: json.loads(value) if isinstance(value, str) and value[:1] == "[" else value
        for name, value in part.items()
    }


def fingerprint(parameters: Mapping[str, Scalar]) -> str:
    """Eight hexadecimal digits that tell sets of parameters apart, for run names."""
    text = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_run(
    runs: Path,
    stem: str,
    code: CodeVersion,
    *,
    continue_with_changed_code: bool = False,
    fresh: bool = False,
) -> Path:
    """The folder of the run with these parameters that this code trains.

    It is the one whose newest code is `code`, by fingerprint; where there is none, a new folder
    `STEM-DIGITS`, named by the code.

    Args:
        runs: folder of all runs.
        stem: name of the run without its code: it names the deciding parameters.
        code: the code that would train now.
        continue_with_changed_code: take the one run of other code instead of a new folder.
        fresh: take the folder that is named by the code, whatever it holds.

    Raises:
        TrainingError: the folder's name is taken by a run that was continued with other code; or
            there is not exactly one run to continue.
    """
    own = runs / f"{stem}-{code.fingerprint[:8]}"
    if fresh:
        return own
    found = {path: _record_of(path) for path in sorted(runs.glob(f"{stem}-*"))}
    records = {path: record for path, record in found.items() if record is not None}
    same = [
        path for path, record in records.items() if record.code[-1].fingerprint == code.fingerprint
    ]
    if same:
        return own if own in same else same[0]
    if continue_with_changed_code:
        if len(records) != 1:
            names = ", ".join(path.name for path in records) or "none"
            raise TrainingError(
                f"{runs}: --continue-with-changed-code needs one run with these parameters and "
                f"other code, found {names}; "
                + ("move all but one away" if records else "train without that option")
            )
        return next(iter(records))
    if own in records:
        raise TrainingError(
            f"{own}: this run began with the present code and was continued with other code",
            remedy="resume it with --continue-with-changed-code, or move it away to train anew",
        )
    return own


def open_run(
    path: Path,
    parameters: Mapping[str, object],
    code: CodeVersion | None = None,
    *,
    data_version: str = "",
    start_from: str = "",
    fresh: bool = False,
) -> RunFolder:
    """Make a run's folder, or find the one that these parameters started.

    Called once per command, before any worker: a worker that starts again after a fault calls
    `read_run`, so that `fresh` throws nothing away twice.

    Args:
        path: the run's folder.
        parameters: what decides the weights (seed, data, model, recipe), nested or flat.
        code: the code that trains; the record of a run that is there keeps its own.
        data_version: DVC's hash of the shards.
        start_from: name of the network that a new run starts from.
        fresh: remove the state that is there first.

    Raises:
        TrainingError: the folder holds a run with other parameters; the text has a line for each.
        CheckpointError: its run.json is damaged.
        BusyError: another process is training in it.
    """
    wanted = flatten(parameters)
    with only_writer(path):
        if fresh and path.exists():
            logger.info("%s: removed, to start anew", path)
            shutil.rmtree(path)
        if not os.path.lexists(path / RECORD_FILE):
            record = RunRecord(
                parameters=wanted,
                code=(code or CodeVersion(),),
                data_version=data_version,
                start_from=start_from,
            )
            _write(path, record)
    run = read_run(path)
    _refuse_others(run, wanted)
    return run


def continue_run(path: Path, code: CodeVersion, step: int) -> RunFolder:
    """Record the code with which a run resumes at `step`.

    Code of later steps, which are trained again or were never begun, leaves the record.

    Raises:
        CheckpointError: there is no run, or its run.json is damaged.
        BusyError: another process is training in it.
    """
    with only_writer(path):
        record = read_run(path).record
        before = [one for one in record.code if one.step < step]
        if not before or before[-1].fingerprint != code.fingerprint:
            later = [one for one in record.code if one.step >= step]
            known = next((one for one in later if one.fingerprint == code.fingerprint), code)
            before.append(known.model_copy(update={"step": step}))
        if tuple(before) != record.code:
            record = record.model_copy(update={"code": tuple(before)})
            _write(path, record)
            logger.info("%s: trains with code %s from step %d", path, code.fingerprint[:8], step)
    return RunFolder(path, record)


def read_run(path: Path) -> RunFolder:
    """The run whose folder is `path`.

    Raises:
        CheckpointError: there is no run, or its run.json is damaged.
    """
    file = path / RECORD_FILE
    try:
        return RunFolder(path, RunRecord.read(file, CheckpointError, REMEDY))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: no such file on this machine; a run's folder must be on storage that all "
            "workers share, under the same absolute path"
        ) from None


def card_of(run: RunFolder, step: int) -> Card:
    """The card of a run's weights at `step`, from the run's own record.

    Args:
        run: the run.
        step: of the checkpoint.

    Raises:
        CheckpointError: run.json lacks a parameter that a card has, or has an invalid one.
    """
    found, code = run.parameters, run.record.code
    card = {
        "model": unflatten(found, "model"),
        "step": step,
        "steps_total": found.get("train.steps"),
        "seed": found.get("seed"),
        "degradation": unflatten(found, "degradation"),
        "data_hash": found.get("data_hash"),
        "git_commit": code[-1].git_commit,
        "run": run.path.name,
        "code": [version.model_dump() for version in code],
        "start_from": run.record.start_from,
        "start_sha256": found.get("start", ""),
        "stvsr_version": run.record.stvsr_version,
    }
    try:
        return Card.parse(json.dumps(card).encode())
    except ContentError as fault:
        raise CheckpointError(f"{run.path / RECORD_FILE}: {fault}", remedy=REMEDY) from None


def _write(path: Path, record: RunRecord) -> None:
    path.mkdir(parents=True, exist_ok=True)
    write_text_whole(path / RECORD_FILE, record.model_dump_json(indent=1) + "\n")


def _record_of(path: Path) -> RunRecord | None:
    try:
        return read_run(path).record
    except CheckpointError:
        return None


def _refuse_others(run: RunFolder, wanted: Mapping[str, Scalar]) -> None:
    found = run.parameters
    lines = [
        f"{name} was {_shown(found, name)}, now {_shown(wanted, name)}"
        for name in sorted({*found, *wanted})
        if _text(found, name) != _text(wanted, name)
    ]
    if lines:
        raise TrainingError(
            f"{run.path}: holds a run with other parameters ({'; '.join(lines)}); "
            "go back to those, give this run another name, or throw that one away with --fresh"
        )


def _text(parameters: Mapping[str, Scalar], name: str) -> str:
    return json.dumps(parameters[name]) if name in parameters else "absent"


def _shown(parameters: Mapping[str, Scalar], name: str) -> str:
    text = _text(parameters, name)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"
