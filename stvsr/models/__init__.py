"""The networks: pure modules behind one door. No files, no choice of device, no training code."""

from typing import Annotated, Any

from stvsr.core.config import Discriminator, Tag
from stvsr.models.base import StvsrModel
from stvsr.models.stdan import Stdan, StdanConfig
from stvsr.models.trilinear import Trilinear, upscale_trilinear
from stvsr.models.zooming_slowmo import ZoomingSlowMo, ZoomingSlowMoConfig


def _name(given: Any) -> str:
    """The name of the model that a mapping or a configuration is for; STDAN where none is given."""
    name = given.get("name", "stdan") if isinstance(given, dict) else getattr(given, "name", "")
    return str(name)


ModelConfig = Annotated[
    Annotated[StdanConfig, Tag("stdan")] | Annotated[ZoomingSlowMoConfig, Tag("zooming_slowmo")],
    Discriminator(
        _name,
        custom_error_type="unknown_model",
        custom_error_message="should be a model of name 'stdan' or 'zooming_slowmo'",
    ),
]
"""Every model's configuration; `name` tells them apart."""

__all__ = [
    "ModelConfig",
    "StdanConfig",
    "StvsrModel",
    "Trilinear",
    "ZoomingSlowMoConfig",
    "build_model",
    "upscale_trilinear",
]


def build_model(config: ModelConfig) -> StvsrModel:
    """Build a network with freshly initialised weights (from torch's random state)."""
    match config:
        case StdanConfig():
            return Stdan(config)
        case ZoomingSlowMoConfig():
            return ZoomingSlowMo(config)
