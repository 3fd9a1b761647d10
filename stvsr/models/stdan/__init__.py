"""STDAN: the model this project is named for."""

from stvsr.models.base import ModelEntry
from stvsr.models.presets import PUBLISHED_SCHEDULE
from stvsr.models.stdan.config import StdanConfig
from stvsr.models.stdan.model import Stdan
from stvsr.models.stdan.state_dict import IGNORED, RULES

ENTRY = ModelEntry(
    config=StdanConfig,
    build=Stdan,
    recipe={**PUBLISHED_SCHEDULE, "batch_size": 18, "learning_rate": 2e-4},
    rules=RULES,
    ignored=IGNORED,
)

__all__ = ["ENTRY", "Stdan", "StdanConfig"]
