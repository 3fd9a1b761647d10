"""The line in an output that names its network, run, data and code."""

from stvsr.artifact import Card


def lineage(card: Card | None, model: str) -> str:
    """A model and where it comes from, in words."""
    if card is None:
        return f"model {model}"
    parts = [f"model {card.model.name} {card.model.preset}"]
    parts += [f"run {card.run}"] if card.run else []
    parts += [f"step {card.step} of {card.steps_total}"] if card.steps_total else ["imported"]
    parts += [f"data {card.data_hash[:12]}"] if card.data_hash else []
    parts += [f"code {card.git_commit[:12]}"] if card.git_commit else []
    return ", ".join([*parts, f"weights {card.weights_sha256[:12]}"])
