"""Reference values of the models, and the weights they were computed with."""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stvsr.models import MODELS, ModelConfig, StvsrModel, build_model
from stvsr.models.layers.naming import Rule, published_name
from stvsr.training.config import TrainConfig
from stvsr.training.start import freeze


@dataclass(frozen=True)
class Reference:
    """One NAME.npz with its NAME.json."""

    path: Path
    settings: dict[str, Any]
    loss: float
    grad_l2: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> "Reference":
        return cls(path, **json.loads(path.with_suffix(".json").read_text()))

    def arrays(self, dtype: torch.dtype) -> dict[str, Tensor]:
        with np.load(self.path) as arrays:
            return {name: torch.from_numpy(arrays[name]).to(dtype) for name in arrays.files}

    @property
    def config(self) -> ModelConfig:
        names = {"kernel_side": "k", "points_kept": "T_top", "model": "name", "size": "preset"}
        settings = {names.get(key, key): value for key, value in self.settings.items()}
        if "preset" in settings:
            settings["preset"] = settings["preset"].upper()
        return CONFIGS[settings["name"]].model_validate(settings)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return RULES[self.settings["model"]]


def stored_part(name: str, array: Tensor) -> Tensor:
    """Of a whole array, what a reference stores under this name.

    `_cN` at its end is every N-th channel, `_pN` every N-th row and column.
    """
    part = re.search(r"_([cp])(\d+)$", name)
    if part is None:
        return array
    step = slice(None, None, int(part[2]))
    return array[..., step, :, :] if part[1] == "c" else array[..., step, step]


CONFIGS = {entry.name: entry.config for entry in MODELS}
RULES = {entry.name: entry.rules for entry in MODELS}
FROZEN = {entry.name: TrainConfig.model_validate(entry.recipe).freeze for entry in MODELS}


def weight_by_rule(name: str, shape: tuple[int, ...]) -> Tensor:
    """The deterministic weight of a published parameter name (reference/README.md)."""
    v = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        ones = name.endswith(("norm.weight", "norm1.weight", "norm2.weight"))
        v = (1.0 if ones else 0.0) + 0.05 * v
    elif name.endswith("relative_position_bias_table"):
        v = 0.2 * v
    else:
        v = v / np.sqrt(np.prod(shape[1:])) * (0.5 if "recon_trunk" in name else 1.0)
    return torch.from_numpy(v)


def model_by_rule(reference: Reference, dtype: torch.dtype) -> StvsrModel:
    """The reference's model, with the deterministic weights, in evaluation mode.

    What its published training keeps as it is has no gradients.
    """
    model = build_model(reference.config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            published = published_name(name, reference.rules)
            parameter.copy_(weight_by_rule(published, tuple(parameter.shape)))
    freeze(model, FROZEN[reference.settings["model"]])
    return model
