"""RSTT, a transformer whose decoder asks the encoder's frames for all frames in time."""

from stvsr.models.base import ModelEntry
from stvsr.models.presets import PUBLISHED_SCHEDULE
from stvsr.models.rstt.config import RsttConfig
from stvsr.models.rstt.model import Rstt
from stvsr.models.rstt.state_dict import IGNORED, RULES

ENTRY = ModelEntry(
    config=RsttConfig,
    build=Rstt,
    recipe={
        **PUBLISHED_SCHEDULE,
        "steps": 2_000_000,
        "restart_every": 0,
        "cosines": tuple((400_000 * i, 400_000 * (i + 1)) for i in range(4)),
        "restart_factor": 0.5,
        "batch_size": 7,
        "crop": 64,
        "learning_rate": 2e-4,
    },
    rules=RULES,
    ignored=IGNORED,
    sizes=("S", "M", "L"),
)

__all__ = ["ENTRY", "Rstt", "RsttConfig"]
