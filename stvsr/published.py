"""Published checkpoints, in and out: the papers' parameter names on one side, ours on the other.

A checkpoint is a file of `torch.save` that holds a mapping from names to tensors. It is read
without running anything it brings along.
"""

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import stvsr
from stvsr.artifact import Card, load_artifact, save_artifact
from stvsr.core.errors import CheckpointError
from stvsr.core.files import write_bytes_whole
from stvsr.models import MODELS, ModelConfig, ModelEntry, build_model
from stvsr.models.layers.naming import published_name

LISTED = 10
"""Names of each kind of fault that a refusal lists."""

WRAPPER = "module."
"""Prefix that data-parallel training puts before every name."""


PUBLISHED: dict[str, ModelEntry] = {entry.name: entry for entry in MODELS if entry.rules}
"""The models whose published checkpoints are known, by name."""


def import_checkpoint(model: str, file: Path, out: Path) -> Card:
    """Turn a published checkpoint into a model folder, which every verb of `stvsr` takes.

    Args:
        model: name of a model with published checkpoints, such as "stdan".
        file: the checkpoint, with or without `module.` before its names.
        out: the model folder; appears whole or not at all, or takes the place of another.

    Returns:
        The card: step 0, and nothing known of the training.

    Raises:
        CheckpointError: the file is missing, no checkpoint, or another network's (the text lists
            what is missing, unexpected and of another shape or type).
    """
    names = _names_of(model)
    config = names.published
    network = build_model(config)
    found = {
        name: tensor
        for name, tensor in _read(file).items()
        if name.rpartition(".")[2] not in names.ignored
    }
    _check(file, model, found, published_weights(network, config))
    network.load_state_dict(
        {name: found[published_name(name, names.rules)] for name in network.state_dict()}
    )
    card = Card(
        model=config,
        step=0,
        steps_total=0,
        seed=0,
        degradation={"name": "bicubic"},
        data_hash="",
        stvsr_version=stvsr.__version__,
    )
    return save_artifact(out, network, card)


def export_checkpoint(model_folder: Path, file: Path) -> None:
    """Write a model folder's weights under the published names, for the published code.

    Tensors that the published code stores but computes from its settings (attention masks and
    relative-position indexes) are not in the file.

    Args:
        model_folder: what to translate.
        file: the checkpoint; appears whole or not at all.

    Raises:
        CheckpointError: the model folder is missing or damaged, or `file` is a folder.
    """
    if file.is_dir():
        raise CheckpointError(f"{file}: found a folder; name the checkpoint's file, such as x.pth")
    network, card = load_artifact(model_folder)
    content = io.BytesIO()
    torch.save(published_weights(network, card.model), content)
    write_bytes_whole(file, content.getvalue())


def published_weights(network: nn.Module, config: ModelConfig) -> dict[str, Tensor]:
    """A network's tensors by their published names."""
    rules = _names_of(config.name).rules
    return {published_name(name, rules): tensor for name, tensor in network.state_dict().items()}


def _names_of(model: str) -> ModelEntry:
    if model not in PUBLISHED:
        raise CheckpointError(
            f"{model}: no published checkpoint of this model is known; "
            f"allowed: {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[model]


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name, without `module.`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); give the checkpoint's path"
        ) from None
    if re.search(rb"<(!doctype|html|\?xml)", content[:1024].lower()):
        raise CheckpointError(
            f"{file}: found a web page, not a checkpoint; the download gave a page about the "
            "file: download the file itself"
        )
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader fail in every way there is
        # of torch's text, only what the file calls: the rest advises to run it
        called = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        found = f" (it calls {called[1]}, which is not run)" if called else ""
        raise CheckpointError(
            f"{file}: its {len(content)} bytes are no checkpoint of plain tensors{found}; it is "
            "damaged or of another kind: fetch it again from its authors"
        ) from None
    return _tensors(file, loaded)


def _tensors(file: Path, loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(
            f"{file}: found a {type(loaded).__name__}; expected a mapping from names to tensors"
        )
    strange = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"{file}: found values that are no tensors ({_some(strange)}); expected a mapping "
            "from names to tensors; if the weights are under one of these, save that alone"
        )
    return {str(name).removeprefix(WRAPPER): tensor for name, tensor in loaded.items()}


def _check(
    file: Path, model: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    differing = [
        f"{name}: found {_kind(found[name])}, expected {_kind(tensor)}"
        for name, tensor in expected.items()
        if name in found and _kind(found[name]) != _kind(tensor)
    ]
    faults = [
        f"{len(names)} {fault} ({_some(names)})"
        for fault, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape or type", differing),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{file}: not the weights of the published {model}: {'; '.join(faults)}; "
            f"allowed models: {', '.join(PUBLISHED)}"
        )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - LISTED
    return ", ".join(listed[:LISTED]) + (f" and {more} more" if more > 0 else "")
