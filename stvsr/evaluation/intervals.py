"""Confidence intervals of a mean over clips, by the bootstrap."""

from collections.abc import Sequence

import numpy as np

SAMPLES = 1000
"""Samples that are drawn with replacement."""

LEVEL = 0.95
"""Share of their means that the interval holds."""

SEED = 0
"""Seed of the draws: the same clips give the same interval."""

ABOUT = f"{LEVEL:.0%} over clips, bootstrap of {SAMPLES} samples, seed {SEED}"
"""The method in a few words, for results and tables."""


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The percentile interval of the mean of finite `values`; None for fewer than two.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979).
    """
    if len(values) < 2:
        return None
    population = np.asarray(values, np.float64)
    draws = np.random.default_rng(SEED).integers(0, len(population), (SAMPLES, len(population)))
    means = population[draws].mean(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
