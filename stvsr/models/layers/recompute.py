"""Trade time for memory: results that the backward pass computes again instead of keeping them."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import torch
from torch.utils.checkpoint import checkpoint

KEPT_NUMBERS = 1 << 25
"""Numbers that one stage of a network keeps for the backward pass (128 MiB in float32); above
that, it computes what is cheap to compute again."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def recomputed(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Call `function`, which draws no random numbers, without keeping its intermediate results."""
    if not torch.is_grad_enabled():  # torch's function would import its compiler: 150 MiB
        return function(*arguments)
    result: Result = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
