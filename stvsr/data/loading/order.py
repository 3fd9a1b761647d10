"""The clips of a step's batch: a pure function of the seed and the step.

The order does not depend on the number of ranks, workers or loaders, and no step depends on the
one before it: a run that resumes at step s asks for step s and computes nothing else.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ORDER_STREAM = 1
"""Second word of the Philox key of the order; `augment.AUGMENT_STREAM` is another one."""


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, n_clips: int) -> NDArray[np.int64]:
    """The permutation of 0..n_clips-1 in which an epoch visits the clips (read-only).

    The first `n_clips` raw 64-bit words of Philox-4x64-10 with key (seed, 1) and counter
    (0, 0, 0, epoch), argsorted; equal words keep their index order. Raw words and not
    `Generator.permutation`, since only the former are promised to stay as they are in later
    versions of numpy.

    Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
    """
    words = np.random.Philox(
        key=np.array([seed, ORDER_STREAM], dtype=np.uint64),
        counter=np.array([0, 0, 0, epoch], dtype=np.uint64),
    ).random_raw(n_clips)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False
    return order


def clip_indices(seed: int, step: int, global_batch: int, n_clips: int) -> tuple[int, ...]:
    """Indices of the clips of a step's global batch, in the order of its slots.

    The epochs' permutations are laid end to end and cut into pieces of `global_batch`: nothing is
    dropped at an epoch's end, and a batch may reach over it, or hold several epochs where it is
    larger than the set.

    Args:
        seed: the run's seed, 0 <= seed < 2**64.
        step: from 0.
        global_batch: clips per step over all ranks, at least 1.
        n_clips: clips of the set, at least 1.

    Returns:
        `global_batch` indices, 0 <= index < n_clips. Cost: one permutation per epoch touched,
        O(n_clips), whatever the step.
    """
    positions = range(step * global_batch, (step + 1) * global_batch)
    return tuple(
        int(epoch_order(seed, position // n_clips, n_clips)[position % n_clips])
        for position in positions
    )
