"""Facts of a network that scores are written down with."""

from torch import nn

from stvsr.artifact import Card
from stvsr.data.shards.degrade import describe_degradation
from stvsr.evaluation.scores import ModelFacts


def model_facts(model: nn.Module, card: Card) -> ModelFacts:
    """Facts of a network, from its card."""
    return ModelFacts(
        name=f"{card.model.name}-{card.model.preset}",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        step=card.step,
        seed=card.seed,
        degradation=describe_degradation(card.degradation),
        data_hash=card.data_hash,
        git_commit=card.git_commit,
        weights_sha256=card.weights_sha256,
    )
