"""The networks: pure modules behind one door. No files, no choice of device, no training code."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from stvsr.core.config import Discriminator, Tag
from stvsr.models import rstt, stdan, stinet, tmnet, zooming_slowmo
from stvsr.models.base import AnyTimeModel, BaseModelConfig, ModelEntry, StvsrModel
from stvsr.models.bicubic_linear import BicubicLinear, upscale_bicubic_linear
from stvsr.models.rstt import RsttConfig
from stvsr.models.stdan import StdanConfig
from stvsr.models.stinet import StinetConfig
from stvsr.models.tmnet import TmnetConfig
from stvsr.models.zooming_slowmo import ZoomingSlowMoConfig

MODELS: tuple[ModelEntry, ...] = (
    stdan.ENTRY,
    zooming_slowmo.ENTRY,
    stinet.ENTRY,
    rstt.ENTRY,
    tmnet.ENTRY,
)
"""Every model: the one place in which a new one is registered."""

MODEL_NAMES: tuple[str, ...] = tuple(entry.name for entry in MODELS)

if len(set(MODEL_NAMES)) < len(MODELS):
    raise ValueError(f"two models of one name: {', '.join(sorted(MODEL_NAMES))}")


def _name(given: Any) -> str:
    """The name of the model that a mapping or a configuration is for; STDAN where none is given."""
    name = given.get("name", "stdan") if isinstance(given, dict) else getattr(given, "name", "")
    return str(name)


if TYPE_CHECKING:
    ModelConfig = BaseModelConfig
else:
    ModelConfig = Annotated[
        Union[tuple(Annotated[entry.config, Tag(entry.name)] for entry in MODELS)],  # noqa: UP007
        Discriminator(
            _name,
            custom_error_type="unknown_model",
            custom_error_message="should be a model of name "
            + " or ".join(f"'{name}'" for name in MODEL_NAMES),
        ),
    ]
    """Any model's configuration; `name` tells them apart."""

__all__ = [
    "MODELS",
    "MODEL_NAMES",
    "AnyTimeModel",
    "BicubicLinear",
    "ModelConfig",
    "ModelEntry",
    "RsttConfig",
    "StdanConfig",
    "StinetConfig",
    "StvsrModel",
    "TmnetConfig",
    "ZoomingSlowMoConfig",
    "build_model",
    "entry_of",
    "upscale_bicubic_linear",
]


def entry_of(name: str) -> ModelEntry | None:
    """The entry of the model `name`; None where there is none."""
    return next((entry for entry in MODELS if entry.name == name), None)


def build_model(config: ModelConfig) -> StvsrModel:
    """Build a network with freshly initialised weights (from torch's random state).

    Raises:
        ValueError: no model is registered with this configuration.
    """
    entry = entry_of(config.name)
    if entry is None or not isinstance(config, entry.config):
        raise ValueError(f"{type(config).__name__}: not in stvsr.models.MODELS")
    return entry.build(config)
