"""Floating-point types that an operator computes in; autocast has no effect within one."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

Others = ParamSpec("Others")
Result = TypeVar("Result")


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type that positions, relevances and sums have: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(
    kernel: Callable[Concatenate[Tensor, Others], Result],
) -> Callable[Concatenate[Tensor, Others], Result]:
    """Switch autocast off within an operator's kernel.

    Autocast stays on while torch runs a custom operator, and would turn the matrix products within
    to bf16: the logits before a softmax, and one of two types that must be the same.
    """

    @functools.wraps(kernel)
    def run(first: Tensor, /, *others: Others.args, **named: Others.kwargs) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return kernel(first, *others, **named)

    return run
