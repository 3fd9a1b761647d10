"""STINet, which lets LR and HR feature maps of all frames interact."""

from stvsr.models.base import ModelEntry
from stvsr.models.presets import PUBLISHED_SCHEDULE
from stvsr.models.stinet.config import StinetConfig
from stvsr.models.stinet.model import Stinet
from stvsr.models.stinet.state_dict import COPIES, RULES

ENTRY = ModelEntry(
    config=StinetConfig,
    build=Stinet,
    recipe={
        **PUBLISHED_SCHEDULE,
        "steps": 500_000,
        "restart_every": 0,
        "decay_every": 100_000,
        "batch_size": 30,
        "learning_rate": 1e-4,
        "freeze": ("spatial.*",),
    },
    rules=RULES,
    copies=COPIES,
)

__all__ = ["ENTRY", "Stinet", "StinetConfig"]
