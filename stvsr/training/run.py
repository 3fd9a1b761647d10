"""The folder of a run: what it was started with, its checkpoints and its history."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.errors import CheckpointError, TrainingError
from stvsr.core.files import only_writer, write_text_whole
from stvsr.training.tracker import Scalar

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of run.json."""


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps its state, and the parameters that decide its weights.

    Attributes:
        path: the folder, on storage that all workers share.
        parameters: by dotted name, as `flatten` makes them.
    """

    path: Path
    parameters: Mapping[str, Scalar]

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


def fingerprint(parameters: Mapping[str, Scalar]) -> str:
    """Eight hexadecimal digits that tell sets of parameters apart, for run names."""
    text = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def open_run(path: Path, parameters: Mapping[str, object], *, fresh: bool = False) -> RunFolder:
    """Make a run's folder, or find the one that these parameters started.

    Called once per command, before any worker: a worker that starts again after a fault calls
    `read_run`, so that `fresh` throws nothing away twice.

    Args:
        path: the run's folder.
        parameters: what decides the weights (seed, data, model, recipe), nested or flat.
        fresh: remove the state that is there first.

    Raises:
        TrainingError: the folder holds a run with other parameters; the text has a line for each.
        CheckpointError: its run.json is damaged.
        StvsrError: another process is training in it.
    """
    wanted = flatten(parameters)
    with only_writer(path):
        if fresh and path.exists():
            logger.info("%s: removed, to start anew", path)
            shutil.rmtree(path)
        if not (path / "run.json").exists():
            content = {"format": FORMAT, "parameters": wanted}
            write_text_whole(path / "run.json", json.dumps(content, indent=1, sort_keys=True))
    run = read_run(path)
    _refuse_others(run, wanted)
    return run


def read_run(path: Path) -> RunFolder:
    """The run whose folder is `path`.

    Raises:
        CheckpointError: there is no run, or its run.json is damaged.
    """
    file = path / "run.json"
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{file}: format {content['format']}, this version reads {FORMAT}; "
                "use the version of stvsr that wrote it, or train with --fresh"
            )
        return RunFolder(path, dict(content["parameters"]))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: no such file on this machine; a run's folder must lie on storage that all "
            "workers share, under the same absolute path"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise CheckpointError(
            f"{file}: damaged; put it back, or throw the run away with --fresh"
        ) from None


def _refuse_others(run: RunFolder, wanted: Mapping[str, Scalar]) -> None:
    found = run.parameters
    lines = [
        f"{name} was {_shown(found, name)}, now {_shown(wanted, name)}"
        for name in sorted({*found, *wanted})
        if _shown(found, name) != _shown(wanted, name)
    ]
    if lines:
        raise TrainingError(
            f"{run.path}: holds a run with other parameters ({'; '.join(lines)}); "
            "go back to those, give this run another name, or throw that one away with --fresh"
        )


def _shown(parameters: Mapping[str, Scalar], name: str) -> str:
    return json.dumps(parameters[name]) if name in parameters else "absent"
