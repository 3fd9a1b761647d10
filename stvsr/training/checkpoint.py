"""Checkpoints: all of a run's state, whole or not at all, and found again by checksum.

A checkpoint is a folder `step-00000200` with the weights, the optimizer's moments and the moving
average as safetensors, and `state.json`, which holds the counters and every file's checksum. The
schedule, the data's position and all randomness are functions of the step, so the step is all
that has to be kept of them; nothing in it depends on the number of workers.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor, nn

from stvsr.artifact import WEIGHTS_FILE, read_tensors, tensors_to_bytes
from stvsr.core.config import Config, ContentError, Count, Sha256, field_validator
from stvsr.core.errors import CheckpointError
from stvsr.core.files import MIB, read_bytes, whole_folder
from stvsr.training.counters import Counters

logger = logging.getLogger(__name__)

FORMAT: Final = 2
"""Version of the checkpoint's layout."""

OPTIMIZER_FILE = "optimizer.safetensors"
EMA_FILE = "ema.safetensors"
STATE_FILE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """All of a run's state at a step.

    Attributes:
        counters: the step and the running numbers.
        weights: the network's state by name.
        optimizer: by "PARAMETER/KEY", such as "conv.weight/exp_avg".
        ema: the averaged weights by name; empty where the run keeps none.
        score: the validation's score at this very step, higher is better; None where it had none.
        records: of the history, when the checkpoint was saved.
    """

    counters: Counters
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    score: float | None = None
    records: int = 0


class State(Config):
    """The first line of state.json; the second is its checksum."""

    format: Literal[2]
    """`FORMAT` of the writer."""
    counters: Counters
    """The step and the running numbers."""
    files: dict[str, Sha256]
    """Checksum of each file of tensors."""
    score: float | None
    """The validation's score at this step; null where it had none."""
    records: Count = 0
    """Records of the history when the checkpoint was saved; 0 where it is not known."""

    @field_validator("files")
    @classmethod
    def _are_all_there(cls, files: dict[str, str]) -> dict[str, str]:
        if files.keys() != {WEIGHTS_FILE, OPTIMIZER_FILE, EMA_FILE}:
            raise ValueError(f"names {len(files)} files, allowed are the three of tensors")
        return files


class Checkpoints:
    """The checkpoints of a run: the `keep` newest, and the one with the best score.

    Only one process at a time may `save` or `clear_leftovers`; any may `load`.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, newest first, whole or not."""
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint at `step`."""
        return self.folder / f"step-{step:08d}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; then, and only then, remove those that the rule does not keep.

        Raises:
            OSError: the disk is full or the folder cannot be written; all is as it was.
        """
        files = {
            WEIGHTS_FILE: tensors_to_bytes(checkpoint.weights),
            OPTIMIZER_FILE: tensors_to_bytes(checkpoint.optimizer),
            EMA_FILE: tensors_to_bytes(checkpoint.ema),
        }
        state = State(
            format=FORMAT,
            counters=checkpoint.counters,
            files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            score=checkpoint.score,
            records=checkpoint.records,
        )
        with whole_folder(self.path(checkpoint.counters.step)) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            (partial / STATE_FILE).write_text(_with_checksum(state), encoding="utf-8")
        self._prune(checkpoint.counters.step)

    def load(self, step: int) -> Checkpoint:
        """Read the checkpoint at `step` and hold each of its files to its checksum.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        path = self.path(step)
        state = _read_state(path / STATE_FILE)
        if state.counters.step != step:
            raise CheckpointError(
                f"{path}: damaged: its state is that of step {state.counters.step}"
            )
        files = {name: read_tensors(path / name, sha) for name, sha in state.files.items()}
        return Checkpoint(
            state.counters,
            files[WEIGHTS_FILE],
            files[OPTIMIZER_FILE],
            files[EMA_FILE],
            state.score,
            state.records,
        )

    def newest_whole(self) -> Checkpoint | None:
        """The newest checkpoint whose checksums hold; None where there is no checkpoint at all.

        Raises:
            CheckpointError: there are some, and all of them are damaged.
        """
        for step in self.steps():
            try:
                return self.load(step)
            except CheckpointError as error:
                logger.warning("%s is passed over: %s", self.path(step).name, error)
        if self.steps():
            raise CheckpointError(
                f"{self.folder}: all {len(self.steps())} checkpoints are damaged; "
                "put one back from a copy, or start anew with --fresh"
            )
        return None

    def best(self) -> int | None:
        """Step of the checkpoint with the highest score; None where none has a score."""
        scores = {step: self._score(step) for step in self.steps()}
        rated = {step: score for step, score in scores.items() if score is not None}
        return max(rated, key=lambda step: (rated[step], -step), default=None)

    def clear_leftovers(self) -> None:
        """Remove what killed processes left half written or half removed."""
        for leftover in self.folder.glob(".step-*.partial"):
            shutil.rmtree(leftover)

    def _prune(self, newest: int) -> None:
        """Remove old checkpoints; and newer ones, which the run passed over as damaged."""
        older = [step for step in self.steps() if step <= newest]
        kept = {*older[: self.keep], self.best()}
        for step in self.steps():
            if step not in kept or step > newest:
                doomed = self.folder / f".{self.path(step).name}.removed.partial"
                self.path(step).rename(doomed)
                shutil.rmtree(doomed)

    def _score(self, step: int) -> float | None:
        try:
            return _read_state(self.path(step) / STATE_FILE).score
        except CheckpointError:
            return None


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by "PARAMETER/KEY", such as "conv.weight/exp_avg"."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises:
        CheckpointError: the state is that of other parameters.
    """
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        by_parameter.setdefault(parameter, {})[key] = tensor
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if by_parameter and by_parameter.keys() != trained.keys():
        odd = min(by_parameter.keys() ^ trained.keys())
        raise CheckpointError(
            f"{source}: parameter {odd}: found {'moments' if odd in by_parameter else 'none'}, "
            f"expected {'none' if odd in by_parameter else 'moments'}; "
            "the checkpoint is another network's: train with its parameters, or with --fresh"
        )
    is_fused = bool(optimizer.defaults.get("fused"))
    for name, state in by_parameter.items():
        parameter_ = trained[name]
        optimizer.state[parameter_] = {
            key: _laid_out_as(parameter_, tensor, is_fused) for key, tensor in state.items()
        }


def _laid_out_as(parameter: Tensor, tensor: Tensor, is_fused: bool) -> Tensor:
    """`tensor` in the parameter's memory format; a count is where the optimizer's kind has it."""
    if tensor.ndim == 0:
        return tensor.to(parameter.device) if is_fused else tensor
    return torch.empty_like(parameter).copy_(tensor)


def _with_checksum(state: State) -> str:
    """state.json's text: the state on its first line, the checksum of that line on the second."""
    line = state.model_dump_json()
    return f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n"


def _read_state(path: Path) -> State:
    try:
        line, _, checksum = read_bytes(path, MIB).partition(b"\n")
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); a run's folder must be on storage that "
            "all workers share, under the same absolute path"
        ) from None
    if checksum != f"{hashlib.sha256(line).hexdigest()}\n".encode():
        raise CheckpointError(f"{path}: damaged: its text does not have its checksum")
    try:
        return State.parse(line)
    except ContentError as fault:
        raise CheckpointError(
            f"{path}: no state of format {FORMAT} ({fault})",
            remedy="resume with the version of stvsr that wrote it, or start anew with --fresh",
        ) from None
