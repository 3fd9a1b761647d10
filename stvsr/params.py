"""params.yaml -> Params: every number a run can change, typed."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stvsr.core.config import Config, Field, FieldError, ValidationError, model_validator
from stvsr.core.errors import ParamsError
from stvsr.core.yaml import read_yaml
from stvsr.data.index.build import IndexConfig
from stvsr.data.loading.loader import LoaderConfig
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig
from stvsr.data.sources.source import SourceConfig
from stvsr.evaluation.config import EvaluateConfig
from stvsr.models import MODEL_NAMES, ModelConfig, entry_of
from stvsr.models.stdan.config import StdanConfig
from stvsr.tracking.config import RegisterConfig, TrackingConfig
from stvsr.training.config import AUTO, FINETUNE, LONGEST, TrainConfig
from stvsr.weights import shipped_network_of

SHOWN_FAULTS = 20
"""Faults that a refusal lists; the others are counted."""

SHOWN_LETTERS = 200
"""Letters of a wrong value that a refusal shows."""


class TuneConfig(Config):
    """A search with Ray Tune: each trial trains the network of `model` for at most `steps` steps.

    It is here and not in `stvsr.launch`, its owner, which is above this file.
    """

    trials: int = Field(default=6, ge=1, le=10_000)
    """Trials to start."""
    concurrent: int = Field(default=1, ge=1, le=4096)
    """Trials that train at the same time; each needs `train.workers` workers."""
    steps: int = Field(default=60, ge=1, le=LONGEST)
    """Steps of a trial that is not stopped early."""
    grace_steps: int = Field(default=20, ge=1, le=LONGEST)
    """Steps before ASHA may stop a trial."""
    reduction_factor: int = Field(default=3, ge=2, le=1000)
    """ASHA keeps one in this many trials at each rung."""
    report_every: int = Field(default=20, ge=1, le=LONGEST)
    """Steps between two validations that ASHA sees."""
    k: tuple[Literal[1, 3, 5], ...] = Field(default=(1, 3, 5), min_length=1, max_length=3)
    """Kernel sides of the deformable attention to try; T_top is chosen from 1..k²."""
    learning_rate_min: float = Field(default=1e-4, gt=0, le=1)
    """Smallest learning rate to try; drawn on a logarithmic scale."""
    learning_rate_max: float = Field(default=2e-3, gt=0, le=1)
    """Largest learning rate to try."""

    @model_validator(mode="after")
    def _in_order(self) -> "TuneConfig":
        if self.learning_rate_min > self.learning_rate_max:
            raise FieldError(
                "learning_rate_min",
                f"found {self.learning_rate_min:g}, above learning_rate_max "
                f"{self.learning_rate_max:g}; lower the one or raise the other",
            )
        return self


class Params(Config):
    """All parameters of the pipeline, section by section; `params.yaml` is one of these."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of everything random: the sample's scenes, the order, the crops, the weights."""
    source: SourceConfig = SourceConfig()
    """Where clips come from."""
    index: IndexConfig = IndexConfig()
    """Limits of valid clips."""
    degradation: DegradationConfig = DegradationConfig()
    """How LR frames are made from HR frames."""
    shards: ShardsConfig = ShardsConfig()
    """How clips are packed."""
    loader: LoaderConfig = LoaderConfig()
    """How shards are read."""
    model: ModelConfig = StdanConfig()
    """The network."""
    train: TrainConfig = TrainConfig()
    """The recipe."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The scoring."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are logged."""
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    """Under which name and alias the network is registered."""
    tune: TuneConfig = TuneConfig()
    """The search."""


def load_params(path: Path, *, search: bool = False) -> Params:
    """Read and check a params.yaml.

    Args:
        path: the file.
        search: for a search, whose networks start from random weights where `train.start_from` is
            `auto`: no shipped network fits all of them.

    Raises:
        ParamsError: the file is missing or no YAML, or a key is unknown, of the wrong type or out
            of range; the text has one line per fault: key, found, allowed, nearest valid key.
    """
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file; run this in the project's folder, or name one with --params"
        ) from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise ParamsError(
            f"{path}: found {found}; allowed: a mapping with the sections "
            f"{', '.join(_keys(Params))}"
        )
    return parse_params(raw, str(path), search=search)


def parse_params(raw: Mapping[str, Any], where: str, *, search: bool = False) -> Params:
    """Check a mapping as `load_params` does; `where` opens each line of a refusal."""
    try:
        params = Params.model_validate_json(json.dumps(_with_recipe(raw, search)))
    except ValidationError as refusal:
        lines = list(dict.fromkeys(_explain(dict(error), raw) for error in refusal.errors()))
        if len(lines) > SHOWN_FAULTS:
            lines = [*lines[:SHOWN_FAULTS], f"{len(lines) - SHOWN_FAULTS} more faults"]
        raise ParamsError([f"{where}: {line}" for line in lines]) from None
    _check_recipe(params, where)
    return params


def _with_recipe(raw: Mapping[str, Any], search: bool) -> Mapping[str, Any]:
    """Put the recipe's values under those of `train`; null counts as not given.

    A section `train` that names no recipe has that of the model's preset, or with a start the one
    for finetuning.
    """
    model, train = ({} if raw.get(name) is None else raw[name] for name in ("model", "train"))
    if not isinstance(model, Mapping) or not isinstance(train, Mapping):
        return raw
    given = {
        key: value
        for key, value in train.items()
        if value is not None or key not in TrainConfig.model_fields
    }
    if given.get("start_from") == AUTO:
        del given["start_from"]
        if shipped := None if search else _shipped_start(model):
            given["start_from"] = shipped
    default = "small" if model.get("preset") == "small" else model.get("name", "stdan")
    recipe = given.setdefault("recipe", "finetune" if "start_from" in given else default)
    entry = entry_of(recipe) if isinstance(recipe, str) else None
    values = FINETUNE if recipe == "finetune" else entry.recipe if entry else {}
    return {**raw, "train": {**values, **given}}


def _shipped_start(model: Mapping[str, Any]) -> str | None:
    """The network that ships with exactly this section `model`; None: none, or it is wrong."""
    try:
        config = Params.model_validate_json(json.dumps({"model": model})).model
    except ValidationError:
        return None  # which is refused with its reason when all sections are checked
    return shipped_network_of(config)


def _check_recipe(params: "Params", where: str) -> None:
    recipe, allowed = params.train.recipe, ("small", "finetune", *MODEL_NAMES)
    if recipe not in allowed:
        raise ParamsError(f"{where}: train.recipe: found {recipe!r}; allowed: {', '.join(allowed)}")


def _explain(error: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors."""
    path = _path(error["loc"], raw)
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        allowed = _keys(_section(path[:-1]))
        prefix = ".".join(path[:-1])
        nearest = difflib.get_close_matches(path[-1], allowed, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*path[:-1], nearest[0]])}? " if nearest else ""
        return (
            f"{key}: found an unknown key; {hint}"
            f"allowed {'in ' + prefix if prefix else 'here'}: {', '.join(allowed)}"
        )
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        fault = error["ctx"]["error"]
        return (
            f"{key}.{fault.field}: {fault.text}"
            if isinstance(fault, FieldError)
            else f"{key}: {message}"
        )
    found = repr(error["input"])
    if len(found) > SHOWN_LETTERS:
        found = f"{found[:SHOWN_LETTERS]}…"
    return f"{key}: found {found}; allowed: {message.removeprefix('should be ')}"


def _path(location: tuple[int | str, ...], raw: Mapping[str, Any]) -> list[str]:
    """The key's path as the user wrote it: a union's tag, which pydantic adds, is left out."""
    path: list[str] = []
    here: Any = raw
    for part in location:
        if isinstance(here, Mapping) and part not in here and part == here.get("name", "stdan"):
            continue
        path.append(str(part))
        here = here.get(part) if isinstance(here, Mapping) else None
    return path


def _section(path: list[str]) -> type[Config]:
    """The Config class behind a section's path."""
    section: type[Config] = Params
    for part in path:
        for name, field in section.model_fields.items():
            if part == (field.alias or name):
                default = field.get_default(call_default_factory=True)
                section = type(default) if isinstance(default, Config) else section
    return section


def _keys(section: type[Config]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
