"""The model folder: weights as safetensors beside a card that describes them.

Loading one runs nothing that the file brings along. The same reading and comparing of weights
serves the checkpoints of training.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stvsr.core.config import Config, ContentError, Field
from stvsr.core.errors import CheckpointError
from stvsr.core.files import whole_folder
from stvsr.models import ModelConfig, StvsrModel, build_model

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "model.json"
TRAINING_FILE = "training.json"

START_FOLDER = "start"
"""Folder in a model folder: the model folder of the network that its run started from."""

LARGEST_HEADER = 1 << 20
"""Bytes at most of a card, and of a weights file beside its values."""


LARGEST_WEIGHTS = 8 << 30
"""Bytes at most of a file of tensors whose network is not known; the networks have megabytes."""


class CodeVersion(Config):
    """The code that trained a run from a step on."""

    step: int = Field(default=0, ge=0)
    """Steps that were done before it."""
    fingerprint: str = ""
    """`code_fingerprint` of the modules that decide the weights; empty where it is not known."""
    git_commit: str = ""
    """Commit that was checked out, "-dirty" appended where files differed from it; or empty."""


class Card(Config):
    """Description and origin of a model; the same training gives the same card."""

    format: Literal[2] = 2
    """Version of the folder's layout."""
    model: ModelConfig
    """The network, its preset resolved."""
    step: int = Field(ge=0)
    """Optimizer steps behind the weights."""
    steps_total: int = Field(ge=0)
    """Optimizer steps the run was to have."""
    seed: int
    """Seed of the run."""
    degradation: dict[str, str | int | float | bool]
    """How the training data's LR frames were made: its name and parameters."""
    data_hash: str
    """SHA-256 over the training shards."""
    git_commit: str = ""
    """Commit of the code that did the last steps; empty where it is not known."""
    run: str = ""
    """Name of the run that trained it; empty for an imported checkpoint."""
    code: tuple[CodeVersion, ...] = ()
    """Every code the run was trained with, from the run's own record."""
    start_from: str = ""
    """Name of the network whose weights the run started from; empty: it started from random ones,
    or that is not known."""
    start_sha256: str = ""
    """SHA-256 of those weights."""
    stvsr_version: str
    """Version of this package that trained."""
    weights_sha256: str = ""
    """SHA-256 of the weights' file; `save_artifact` fills it in."""


class TrainingFacts(Config):
    """Circumstances of a training, for people: the content of training.json beside a card."""

    began: str = ""
    """When the run began, in UTC; empty where that is not known."""
    recipe: dict[str, str | int | float | bool | None]
    """The fields of `train`."""
    machine: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """The machine that started it last, such as its cores."""
    libraries: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Versions of the libraries there."""


def save_artifact(folder: Path, model: nn.Module, card: Card) -> Card:
    """Write `model`'s weights and `card` to `folder`, whole or not at all.

    Args:
        folder: appears, or takes the place of the one that was there.
        model: the network that `card.model` describes, on any device.
        card: its `weights_sha256` is replaced by the true one.

    Returns:
        The card as written.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there stays.
    """
    content = tensors_to_bytes(model.state_dict())
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    with whole_folder(folder) as partial:
        (partial / WEIGHTS_FILE).write_bytes(content)
        (partial / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return card


def load_artifact(folder: Path) -> tuple[StvsrModel, Card]:
    """Read a model folder: the network on the CPU in evaluation mode, and its card.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are another network's.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    with torch.device("meta"):  # names and shapes decide before there is memory for values
        expected = build_model(card.model).state_dict()
    size = sum(tensor.nbytes for tensor in expected.values())
    weights = read_tensors(path, card.weights_sha256, largest=size + LARGEST_HEADER)
    compare_weights(expected, weights, str(path))
    model = build_model(card.model)
    load_weights(model, weights, str(path))
    return model.eval(), card


def read_card(folder: Path) -> Card:
    """The card of a model folder.

    Raises:
        CheckpointError: it is missing, damaged, or of a version this one does not know.
    """
    path = folder / CARD_FILE
    try:
        return Card.parse(_read(path, LARGEST_HEADER))
    except ContentError as fault:
        raise CheckpointError(
            f"{path}: {fault}; it is damaged or from another version of stvsr: "
            "train or fetch the model again"
        ) from None


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as a safetensors file's bytes: the same values give the same bytes."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    )


def read_tensors(path: Path, sha256: str, *, largest: int = LARGEST_WEIGHTS) -> dict[str, Tensor]:
    """Read a safetensors file, on the CPU, and hold it to its checksum.

    Args:
        path: the file.
        sha256: of its bytes.
        largest: bytes that it may have.

    Raises:
        CheckpointError: the file is missing, too large, does not have the checksum, or is no
            safetensors.
    """
    content = _read(path, largest)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path}: damaged: its {len(content)} bytes have the checksum {found[:12]}…, "
            f"written was {sha256[:12]}…; put the file back from a copy, or train again"
        )
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: no safetensors file ({error}); weights are taken in this format only"
        ) from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into `model`, which must have just these names, shapes and types.

    Raises:
        CheckpointError: they differ, or are not finite; the text names the first tensor that is
            so, and both sides.
    """
    compare_weights(model.state_dict(), weights, source)
    check_finite(weights, source)
    model.load_state_dict(dict(weights))


def compare_weights(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str
) -> None:
    """Refuse weights that do not have just the names, shapes and types of `expected`.

    Args:
        expected: a network's state, on any device, `meta` included.
        weights: what was read.
        source: what a refusal begins with.

    Raises:
        CheckpointError: they differ; the text names the first tensor that does, and both sides.
    """
    missing = [name for name in expected if name not in weights]
    surplus = [name for name in weights if name not in expected]
    remedy = "the file is another network's: load it with the parameters it was trained with"
    if missing or surplus:
        name = (missing or surplus)[0]
        found, wanted = ("absent", "present") if missing else ("present", "absent")
        raise CheckpointError(
            f"{source}: tensor {name}: found {found}, expected {wanted} "
            f"({len(missing)} missing, {len(surplus)} unknown); {remedy}"
        )
    for name, tensor in expected.items():
        if (weights[name].shape, weights[name].dtype) != (tensor.shape, tensor.dtype):
            raise CheckpointError(
                f"{source}: tensor {name}: found {_kind(weights[name])}, "
                f"expected {_kind(tensor)}; {remedy}"
            )


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of which a value is NaN or infinite.

    Raises:
        CheckpointError: there is one; the text names the first tensor that has some.
    """
    for name, tensor in tensors.items():
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            raise CheckpointError(
                f"{source}: tensor {name}: {bad} of its {tensor.numel()} values are NaN or "
                "infinite, expected finite ones; fetch the file again, or take another"
            )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _read(path: Path, largest: int) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CheckpointError(f"{path}: found no ordinary file; put it back from a copy")
        if size > largest:
            raise CheckpointError(
                f"{path}: found {size} bytes, expected at most {largest}; the "
                f"file is another network's, or damaged: put it back from a copy"
            )
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); give the folder of a trained model, "
            f"which holds {WEIGHTS_FILE} and {CARD_FILE}, or train one with `dvc repro train`"
        ) from None
