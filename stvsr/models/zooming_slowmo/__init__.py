"""Zooming Slow-Mo (ZSM), the first one-stage space-time super-resolution network."""

from stvsr.models.base import ModelEntry
from stvsr.models.presets import PUBLISHED_SCHEDULE
from stvsr.models.zooming_slowmo.config import ZoomingSlowMoConfig
from stvsr.models.zooming_slowmo.model import ZoomingSlowMo
from stvsr.models.zooming_slowmo.state_dict import IGNORED, RULES

ENTRY = ModelEntry(
    config=ZoomingSlowMoConfig,
    build=ZoomingSlowMo,
    recipe={**PUBLISHED_SCHEDULE, "batch_size": 24, "learning_rate": 4e-4},
    rules=RULES,
    ignored=IGNORED,
)

__all__ = ["ENTRY", "ZoomingSlowMo", "ZoomingSlowMoConfig"]
