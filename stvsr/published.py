"""Published checkpoints, in and out: the papers' parameter names on one side, ours on the other.

A checkpoint is a file of `torch.save` or safetensors that holds a mapping from names to tensors,
alone or beside a training's state, in any floating type, with or without a wrapper's prefix.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import stvsr
from stvsr.artifact import Card, check_finite, load_artifact, save_artifact
from stvsr.checkpoint_file import SAVE_ALONE, read_checkpoint, shown
from stvsr.core.errors import CheckpointError
from stvsr.core.files import write_bytes_whole
from stvsr.models import MODELS, ModelConfig, ModelEntry, StvsrModel, build_model
from stvsr.models.layers.naming import published_name

LISTED = 10
"""Names of each kind of fault that a refusal lists."""

COMPILED = "_orig_mod."
"""Part that `torch.compile` puts into a name, before that of each compiled module."""

PREFERRED = "params_ema"
"""Key of the averaged weights in checkpoints of image restoration, which are the ones in use."""

LONGEST = 20
"""Parts of a name, between its points, that are looked at."""

MAPPINGS_WITHIN = 3
"""Levels of mappings in which weights are looked for."""

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types that weights may have in a file; they are converted to the network's."""

ROOM = 64 * 1024**2
"""Bytes that a checkpoint may have besides its tensors."""

COPIES = 16
"""Copies of the weights that a checkpoint may hold: float64, averages and moments included."""

PUBLISHED: dict[str, ModelEntry] = {entry.name: entry for entry in MODELS if entry.rules}
"""The models whose published checkpoints are known, by name."""


def import_checkpoint(model: str, file: Path, out: Path) -> Card:
    """Turn a published checkpoint into a model folder, which every verb of `stvsr` takes.

    Args:
        model: name of a model with published checkpoints, such as "stdan"; of a model of several
            sizes, the file's is found by its tensors.
        file: the checkpoint; the weights may be in a mapping of their own, such as "state_dict",
            "params_ema" or "params", with a prefix before all names, such as `module.`.
        out: the model folder; appears whole or not at all, or takes the place of another.

    Returns:
        The card: step 0, and nothing known of the training.

    Raises:
        CheckpointError: the file is missing, no checkpoint, or another network's (the text lists
            what is missing, unexpected and of another shape or type), holds several sets of
            weights, or values that are not finite.
    """
    names = _names_of(model)
    config, found, expected = _nearest_size(file, names)
    _check(file, names, found, expected)
    network = build_model(config)
    weights = {name: found.weights[name].to(tensor.dtype) for name, tensor in expected.items()}
    check_finite(weights, str(file))
    network.load_state_dict(
        {name: weights[published_name(name, names.rules)] for name in network.state_dict()}
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


def load_published(file: Path) -> tuple[StvsrModel, Card]:
    """Open a published checkpoint of any model whose checkpoints are known.

    Raises:
        CheckpointError: it is missing, or no such checkpoint; the text has each model's reason.
    """
    reasons = []
    for model in PUBLISHED:
        with tempfile.TemporaryDirectory() as folder:
            try:
                import_checkpoint(model, file, Path(folder) / model)
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            return load_artifact(Path(folder) / model)
    raise CheckpointError("; ".join(dict.fromkeys(reasons)))


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


def _nearest_size(file: Path, names: ModelEntry) -> tuple[ModelConfig, "_Found", dict[str, Tensor]]:
    """The published size that a checkpoint is nearest to.

    Returns:
        Its configuration, what the file has of its weights, and those that it should have (without
        values).
    """
    sizes = []
    for config in names.published_sizes:
        with torch.device("meta"):
            sizes.append((config, published_weights(build_model(config), config)))
    limit = ROOM + COPIES * max(sum(w.nbytes for w in weights.values()) for _, weights in sizes)
    loaded = read_checkpoint(file, limit)
    compared = []
    for config, weights in sizes:
        found = _find_weights(file, loaded, weights)
        faults = _faults(found, weights, names).values()
        compared.append((sum(len(fault) for fault in faults), config, found, weights))
    return min(compared, key=lambda size: size[0])[1:]


@dataclass
class _Found:
    """Tensors of one mapping whose names are a network's after the same prefix.

    Attributes:
        place: keys that lead to the mapping in the file, such as "state_dict".
        prefix: beginning of the names, such as "module."; or empty.
        weights: by published name.
        others: those in the mapping whose names have the same beginning and are not the network's.
    """

    place: str
    prefix: str
    weights: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_preferred(self) -> bool:
        """True for the moving average of image restoration's checkpoints."""
        return self.place.rpartition("/")[2] == PREFERRED

    def __str__(self) -> str:
        name = shown(self.prefix + next(iter(self.weights)))
        return f"{name} in {shown(self.place)}" if self.place else name


def _find_weights(file: Path, loaded: Any, expected: Mapping[str, Tensor]) -> _Found:
    """The one set of the network's weights in a checkpoint; where none is whole, the fullest.

    Raises:
        CheckpointError: there are several sets, or none.
    """
    sets = [
        found for place, tensors in _mappings(loaded) for found in _sets(place, tensors, expected)
    ]
    if not sets:
        keys = loaded if isinstance(loaded, Mapping) else [f"a {type(loaded).__name__}"]
        raise CheckpointError(
            f"{file}: found no weights of this network, but {_some(map(str, keys)) or 'nothing'}; "
            f"expected a mapping from names to tensors; {SAVE_ALONE}"
        )
    sets.sort(key=lambda found: (-len(found.weights), not found.is_preferred))
    first, *rest = sets
    whole = [found for found in rest if len(found.weights) == len(expected)]
    beside = [found for found in rest if found.place == first.place]
    named = set().union(first.weights, *(found.weights for found in beside))
    rivals = beside if len(named) == len(expected) else []
    rivals += whole if not first.is_preferred else []
    if rivals:
        raise CheckpointError(
            f"{file}: found the same network's weights as {first} and as {rivals[0]}; expected one "
            f"set under one prefix; {SAVE_ALONE}"
        )
    return first


def _mappings(loaded: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors by name of each mapping in a checkpoint, with the keys that lead to it."""
    seen: set[int] = set()
    level = [("", loaded)]
    for _ in range(MAPPINGS_WITHIN):
        within: list[tuple[str, Any]] = []
        for place, value in level:
            if isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                yield place, {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
                within += [(f"{place}/{key}".lstrip("/"), part) for key, part in value.items()]
        level = within


def _sets(
    place: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> list[_Found]:
    """A mapping's tensors whose names end in a network's, by what is before them."""
    sets: dict[str, _Found] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix, own = _split(name.replace(COMPILED, ""), expected)
        if not own:
            others[name] = tensor
            continue
        found = sets.setdefault(prefix, _Found(place, prefix))
        if own in found.weights:  # once of the compiled network, once of the other
            found = sets.setdefault(name, _Found(place, name.removesuffix(own)))
        found.weights[own] = tensor.detach()
    for prefix, found in sets.items():
        found.others = {
            name.removeprefix(prefix): tensor
            for name, tensor in others.items()
            if name.startswith(prefix)
        }
    return list(sets.values())


def _split(name: str, expected: Mapping[str, Tensor]) -> tuple[str, str]:
    """A name as what is before the longest end of it that is a network's, and that end."""
    parts = name.split(".", maxsplit=LONGEST)
    ends = (".".join(parts[first:]) for first in range(len(parts)))
    own = next((end for end in ends if end in expected), "")
    return name.removesuffix(own), own


def _check(
    file: Path,
    model: ModelEntry,
    found: _Found,
    expected: Mapping[str, Tensor],
) -> None:
    faults = [
        f"{len(names)} {fault} ({_some(names)})"
        for fault, names in _faults(found, expected, model).items()
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{file}: not the weights of the published {model.name}: {'; '.join(faults)}; "
            f"allowed models: {', '.join(PUBLISHED)}"
        )


def _equals(tensor: Tensor, own: Tensor | None) -> bool:
    """True for the copy of one of the network's tensors."""
    return own is not None and tensor.dtype == own.dtype and torch.equal(tensor, own)


def _faults(
    found: _Found, expected: Mapping[str, Tensor], model: ModelEntry
) -> dict[str, list[str]]:
    """Tensors that are not as expected, by what is wrong with them."""
    return {
        "missing": [name for name in expected if name not in found.weights],
        "unexpected": [
            name
            for name, tensor in found.others.items()
            if name.rpartition(".")[2] not in model.ignored
            and not _equals(tensor, found.weights.get(published_name(name, model.copies)))
        ],
        "of another shape or type": [
            f"{name}: found {_kind(found.weights[name])}, expected {_kind(tensor)}"
            for name, tensor in expected.items()
            if name in found.weights and not _fits(found.weights[name], tensor)
        ],
    }


def _fits(found: Tensor, expected: Tensor) -> bool:
    """True if the shapes are equal and the types are, or can be converted without a choice."""
    convertible = found.dtype in FLOATING and expected.dtype in FLOATING
    return found.shape == expected.shape and (convertible or found.dtype == expected.dtype)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _some(names: Iterable[str]) -> str:
    listed = [shown(name) for name in names]
    more = len(listed) - LISTED
    return ", ".join(listed[:LISTED]) + (f" and {more} more" if more > 0 else "")
