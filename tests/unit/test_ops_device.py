"""On the device under test, at published sizes, operators equal their definitions in float64.

The definitions run on the CPU, with the very numbers that the device gets. On CUDA that compares
the Triton kernels, cuBLAS and torch's own attention with them.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stvsr import ops
from stvsr.ops import reference
from tests.unit.test_ops import numbers

DEVICE = torch.device(os.environ.get("STVSR_TEST_DEVICE", "cpu"))

LARGEST_ERROR = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Norm of the difference over the norm of what is expected, of features in a type."""

H, W = 14, 19

pytestmark = pytest.mark.gpu


def points(*batch: int, groups: int, k: int) -> list[Tensor]:
    """Offsets of a few pixels, the first beyond all edges, and modulations."""
    offset = 2 * numbers(*batch, groups, k * k, 2, H, W)
    offset[..., 0, 0, 0] = 1e6
    return [offset, numbers(*batch, groups, k * k, H, W).sigmoid()]


def sampling(groups: int, channels: int, k: int) -> list[Tensor]:
    return [numbers(3, channels, H, W), *points(3, groups=groups, k=k)]


def convolution(groups: int, channels: int) -> list[Tensor]:
    weight = numbers(channels, channels, 3, 3) / (9 * channels) ** 0.5
    return [*sampling(groups, channels, 3), weight, numbers(channels)]


def attention(groups: int, channels: int, k: int) -> list[Tensor]:
    query = numbers(2, channels, H, W) / channels**0.5
    key, value = (numbers(2, 3, channels, H, W, seed=seed) for seed in (1, 2))
    return [query, key, value, *points(2, 3, groups=groups, k=k)]


def windows(heads: int, channels: int) -> list[Tensor]:
    """Two images of three windows; in one of them, two halves do not see each other."""
    mask = torch.zeros(3, 64, 64, dtype=torch.float64)
    mask[1, :32, 32:] = mask[1, 32:, :32] = -torch.inf
    return [numbers(6, 64, 3 * channels), numbers(heads, 64, 64), mask]


def plain_windows(qkv: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    q, k, v = qkv.unflatten(2, (3, len(bias), -1)).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT / q.shape[-1] ** 0.5 + bias + mask.repeat(2, 1, 1)[:, None]
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def windows_to_others(heads: int, channels: int) -> list[Tensor]:
    """Six windows of 112 pixels that look at 64."""
    return [
        numbers(6, 112, channels),
        numbers(6, 64, 2 * channels),
        numbers(heads, 112, 64),
    ]


def plain_windows_to_others(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    q = q.unflatten(2, (len(bias), -1)).transpose(1, 2)
    k, v = kv.unflatten(2, (2, len(bias), -1)).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT / q.shape[-1] ** 0.5 + bias
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


Case = tuple[Callable[..., Any], Callable[..., Any], list[Tensor], tuple[Any, ...], int]
"""Operator, definition, tensors, further arguments, and which tensors have features' types."""

CASES: dict[str, Case] = {
    **{
        f"sample, {groups} groups of {channels // groups}, k = {k}": (
            ops.deformable_sample,
            reference.deformable_sample,
            sampling(groups, channels, k),
            (),
            1,
        )
        for groups, channels, k in ((8, 64, 3), (2, 16, 5), (1, 3, 1))
    },
    **{
        f"convolution, {groups} groups of {channels // groups}": (
            ops.modulated_deform_conv2d,
            reference.modulated_deform_conv2d,
            convolution(groups, channels),
            (),
            1,
        )
        for groups, channels in ((8, 64), (2, 16))
    },
    **{
        f"attention, {groups} groups of {channels // groups}, k = {k}, T_top = {T_top}": (
            ops.deformable_attention,
            reference.deformable_attention,
            attention(groups, channels, k),
            (T_top,),
            3,
        )
        for groups, channels, k, T_top in (
            (8, 72, 3, 2),
            (2, 16, 3, 2),
            (2, 16, 5, 7),
            (8, 72, 1, 1),
        )
    },
    **{
        f"window attention, {heads} heads of {channels // heads}": (
            ops.window_attention,
            plain_windows,
            windows(heads, channels),
            (),
            1,
        )
        for heads, channels in ((6, 72), (1, 16))
    },
    **{
        f"window attention to others, {heads} heads of {channels // heads}": (
            ops.cross_window_attention,
            plain_windows_to_others,
            windows_to_others(heads, channels),
            (),
            2,
        )
        for heads, channels in ((2, 96), (16, 96))
    },
}


@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=["float32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_definition_s(name: str, dtype: torch.dtype) -> None:
    operator, definition, tensors, rest, features = CASES[name]
    given = [
        tensor.to(dtype if index < features else torch.float32)
        for index, tensor in enumerate(tensors)
    ]
    if "convolution" in name:
        given[3:] = [tensor.to(dtype) for tensor in tensors[3:]]
    got = values_and_gradients(operator, [tensor.to(DEVICE) for tensor in given], rest)
    expected = values_and_gradients(definition, [tensor.double() for tensor in given], rest)
    errors = [relative_error(*pair) for pair in zip(got, expected, strict=True)]
    assert max(errors) < LARGEST_ERROR[dtype], errors


def values_and_gradients(
    function: Callable[..., Any], tensors: list[Tensor], rest: tuple[Any, ...]
) -> list[Tensor]:
    """The results, and the gradients of all tensors but masks for the same incoming gradients."""
    inputs = [tensor.requires_grad_(bool(tensor.isfinite().all())) for tensor in tensors]
    out = function(*inputs, *rest)
    outs = list(out) if isinstance(out, tuple) else [out]
    incoming = [numbers(*result.shape, seed=3).to(torch.bfloat16).to(result) for result in outs]
    learned = [tensor for tensor in inputs if tensor.requires_grad]
    return [*outs, *torch.autograd.grad(outs, learned, incoming)]


def relative_error(got: Tensor, expected: Tensor) -> float:
    difference = got.detach().cpu().double() - expected.detach()
    return float(difference.norm() / expected.detach().norm().clamp(min=1e-12))


@pytest.mark.parametrize("shape", [(9, 5), (1, 1), (65, 33)], ids=str)
def test_odd_sizes_are_sampled_to_the_last_pixel(shape: tuple[int, int]) -> None:
    image = numbers(1, 4, *shape, dtype=torch.float32)
    offset = numbers(1, 2, 9, 2, *shape, dtype=torch.float32)
    modulation = numbers(1, 2, 9, *shape, dtype=torch.float32).sigmoid()
    got = ops.deformable_sample(image.to(DEVICE), offset.to(DEVICE), modulation.to(DEVICE))
    expected = reference.deformable_sample(image.double(), offset.double(), modulation.double())
    torch.testing.assert_close(got.cpu().double(), expected, atol=1e-4, rtol=1e-4)
