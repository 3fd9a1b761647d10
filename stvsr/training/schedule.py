"""The learning rate at a step: a pure function."""

import math

from stvsr.training.config import TrainConfig


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Learning rate of the update that follows `step` finished steps.

    Cosine annealing from `learning_rate` down to `min_learning_rate`, started again every
    `restart_every` steps (0: one curve over all steps) or as `cosines` says, then from
    `restart_factor` times as high; or, with `decay_every`, `learning_rate` times `decay_factor`
    after each so many steps, but not below `min_learning_rate`. Multiplied by a linear rise over
    the first `warmup_steps`.

    Args:
        step: 0 <= step < config.steps.
        config: the recipe.

    Source: Loshchilov & Hutter, "SGDR" (ICLR 2017), eq. 5.
    """
    warmth = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.decay_every:
        decayed = config.learning_rate * config.decay_factor ** (step // config.decay_every)
        return warmth * max(decayed, config.min_learning_rate)
    start, period = _cosine_at(step, config)
    cosine = (1 + math.cos(math.pi * (step - start) / period)) / 2
    top = config.learning_rate * (config.restart_factor if start else 1.0)
    span = top - config.min_learning_rate
    return warmth * (config.min_learning_rate + span * cosine)


def _cosine_at(step: int, config: TrainConfig) -> tuple[int, int]:
    """First step and length of the cosine that a step is in."""
    if config.cosines:
        return next(cosine for cosine in reversed(config.cosines) if cosine[0] <= step)
    period = config.restart_every or config.steps
    return step - step % period, period
