"""The learning rate at a step: a pure function."""

import math

from stvsr.training.config import TrainConfig


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate of the update that follows `step` finished steps.

    With `decay_every`, `learning_rate` times `decay_factor` after each so many steps, but not below
    `min_learning_rate`, and multiplied by the rise below; else cosine annealing from
    `learning_rate` down to `min_learning_rate`, started again every `restart_every` steps (0: one
    curve over all steps), multiplied by a linear rise over the first `warmup_steps`.

    Args:
        step: 0 <= step < config.steps.
        config: the recipe.

    Source: Loshchilov & Hutter, "SGDR" (ICLR 2017), eq. 5; periods of equal length.
    """
    warmth = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.decay_every:
        decayed = config.learning_rate * config.decay_factor ** (step // config.decay_every)
        return warmth * max(decayed, config.min_learning_rate)
    period = config.restart_every or config.steps
    cosine = (1 + math.cos(math.pi * (step % period) / period)) / 2
    span = config.learning_rate - config.min_learning_rate
    return warmth * (config.min_learning_rate + span * cosine)
