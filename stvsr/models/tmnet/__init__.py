"""TMNet, Zooming Slow-Mo with a modulation that makes frames at any time.

The recipe is the paper's first stage, which trains all but the modulation. The second, which trains
that alone on clips with five frames in each gap, is not part of this package.
"""

from stvsr.models.base import ModelEntry
from stvsr.models.presets import PUBLISHED_SCHEDULE
from stvsr.models.tmnet.config import TmnetConfig
from stvsr.models.tmnet.model import Tmnet
from stvsr.models.tmnet.state_dict import RULES

ENTRY = ModelEntry(
    config=TmnetConfig,
    build=Tmnet,
    recipe={**PUBLISHED_SCHEDULE, "batch_size": 24, "learning_rate": 4e-4},
    rules=RULES,
)

__all__ = ["ENTRY", "Tmnet", "TmnetConfig"]
