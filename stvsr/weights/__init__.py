"""The networks that ship with this package: `stvsr/NAME`, a model folder in this one.

README.md says how they were made; `make weights` makes them again.
"""

from pathlib import Path

from stvsr.artifact import CARD_FILE, Card, load_artifact, read_card
from stvsr.core.errors import CheckpointError
from stvsr.models import ModelConfig, StvsrModel

PREFIX = "stvsr/"
"""First letters of a shipped network's name, where a model's folder may be named too."""

FOLDER = Path(__file__).parent


def shipped_names() -> tuple[str, ...]:
    """The names of the networks that ship, such as "stvsr/small"."""
    return tuple(sorted(PREFIX + card.parent.name for card in FOLDER.glob(f"*/{CARD_FILE}")))


def shipped_network_of(model: ModelConfig) -> str | None:
    """The name of the network that ships with this configuration; None: there is none."""
    names = shipped_names()
    return next((name for name in names if read_card(shipped_folder(name)).model == model), None)


def shipped_folder(name: str) -> Path:
    """The model folder of a network that ships.

    Args:
        name: such as "stvsr/small".

    Raises:
        CheckpointError: none of this name ships.
    """
    allowed = shipped_names()
    if name not in allowed:
        raise CheckpointError(
            f"{name}: no network of this name ships; allowed: {', '.join(allowed) or 'none'}"
        )
    return FOLDER / name.removeprefix(PREFIX)


def load_shipped(name: str) -> tuple[StvsrModel, Card]:
    """A network that ships, on the CPU in evaluation mode, and its card.

    Raises:
        CheckpointError: none of this name ships, or its files are damaged.
    """
    return load_artifact(shipped_folder(name))
