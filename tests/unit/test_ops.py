"""The operators equal their definitions, in values and gradients, and are torch's citizens."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from stvsr import ops
from stvsr.ops import points, reference, windows

Operator = Callable[..., Tensor | tuple[Tensor, ...]]

B, N, C, G, H, W = 2, 3, 6, 2, 5, 7


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def sampling_inputs(k: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """An image, offsets, modulations."""
    K = k * k
    return [
        numbers(B, C, H, W, dtype=dtype),
        offsets(B, G, K, dtype=dtype),
        numbers(B, G, K, H, W, dtype=dtype).sigmoid(),
    ]


def offsets(*points: int, dtype: torch.dtype) -> Tensor:
    """Offsets of a few pixels, some of which lead outside, and some very far."""
    offset = 2 * numbers(*points, 2, H, W, dtype=dtype)
    offset[..., 0, :, 0, 0], offset[..., -1, :, 0, 1] = 1e9, -1e9
    return offset


def convolution_inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [
        *sampling_inputs(dtype=dtype),
        numbers(6, C, 3, 3, dtype=dtype),
        numbers(6, dtype=dtype),
    ]


def attention_inputs(k: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    K = k * k
    return [
        numbers(B, C, H, W, dtype=dtype),
        numbers(B, N, C, H, W, dtype=dtype, seed=1),
        numbers(B, N, C, H, W, dtype=dtype, seed=2),
        offsets(B, N, G, K, dtype=dtype),
        numbers(B, N, G, K, H, W, dtype=dtype).sigmoid(),
    ]


def window_inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Six windows of four pixels, two heads; three masks, so two images."""
    mask = torch.zeros(3, 4, 4, dtype=dtype)
    mask[1, :2, 2:] = mask[1, 2:, :2] = -torch.inf
    return [numbers(6, 4, 3 * C, dtype=dtype), numbers(2, 4, 4, dtype=dtype), mask]


def plain_window_attention(qkv: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    q, k, v = qkv.unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT / q.shape[-1] ** 0.5 + bias + mask.repeat(2, 1, 1)[:, None]
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def cross_window_inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Six windows of four pixels that look at five, two heads; one pixel does not see two."""
    bias = numbers(2, 4, 5, dtype=dtype)
    bias[:, 1, 2:4] = -torch.inf
    return [numbers(6, 4, C, dtype=dtype), numbers(6, 5, 2 * C, dtype=dtype), bias]


def plain_cross_window_attention(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    q = q.unflatten(2, (2, -1)).transpose(1, 2)
    k, v = kv.unflatten(2, (2, 2, -1)).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT / q.shape[-1] ** 0.5 + bias
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


Case = tuple[Callable[..., Any], Callable[..., Any], Sequence[Tensor], tuple[Any, ...]]
"""Operator, definition, tensors, and the arguments behind them."""

CASES: dict[str, Case] = {
    "sample, k = 1": (ops.deformable_sample, reference.deformable_sample, sampling_inputs(1), ()),
    "sample, k = 5": (ops.deformable_sample, reference.deformable_sample, sampling_inputs(5), ()),
    "convolution": (
        ops.modulated_deform_conv2d,
        reference.modulated_deform_conv2d,
        convolution_inputs(),
        (),
    ),
    "window attention": (ops.window_attention, plain_window_attention, window_inputs(), ()),
    "window attention to others": (
        ops.cross_window_attention,
        plain_cross_window_attention,
        cross_window_inputs(),
        (),
    ),
    **{
        f"attention, k = {k}, T_top = {T_top}": (
            ops.deformable_attention,
            reference.deformable_attention,
            attention_inputs(k),
            (T_top,),
        )
        for k, T_top in ((1, 1), (3, 1), (3, 2), (3, 9), (5, 4))
    },
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_equals_its_definition_in_values_and_gradients(case: str) -> None:
    assert_equal_functions(*CASES[case])


@pytest.mark.parametrize("pixels", [1, 8, 40, 80])
def test_the_size_of_a_chunk_changes_nothing(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "CHUNK_PIXELS", pixels)
    monkeypatch.setattr(windows, "CHUNK_MAPS", pixels // 8)
    for case in CASES.values():
        assert_equal_functions(*case)


@pytest.mark.parametrize("case", ["sample, k = 5", "convolution", "attention, k = 3, T_top = 2"])
def test_bands_of_rows_give_what_the_whole_gives(case: str) -> None:
    operator, definition, tensors, rest = CASES[case]
    attends = operator is ops.deformable_attention
    where = 3 if attends else 1  # the offset; what follows it is the modulation

    def in_bands(*inputs: Tensor) -> tuple[Tensor, ...]:
        results = []
        for rows in (slice(0, 2), slice(2, 3), slice(3, H)):
            given = list(inputs)
            for index in {0 if attends else where, where, where + 1}:
                given[index] = given[index][..., rows, :]
            given[where] = given[where] + torch.tensor([rows.start, 0])[:, None, None]
            out = operator(*given, *rest)
            results.append(out if isinstance(out, tuple) else (out,))
        return tuple(torch.cat(parts, dim=-2) for parts in zip(*results, strict=True))

    def whole(*inputs: Tensor) -> tuple[Tensor, ...]:
        out = definition(*inputs, *rest)
        return out if isinstance(out, tuple) else (out,)

    assert_equal_functions(in_bands, whole, tensors, ())


def test_channels_last_and_sliced_inputs_give_the_same() -> None:
    image, offset, modulation, weight, bias = convolution_inputs()
    expected = ops.modulated_deform_conv2d(image, offset, modulation, weight, bias)
    sliced = torch.stack([image, image], dim=-1)[..., 1].contiguous(
        memory_format=torch.channels_last
    )
    moved = offset.permute(0, 4, 5, 1, 2, 3).contiguous().permute(0, 3, 4, 5, 1, 2)
    got = ops.modulated_deform_conv2d(sliced, moved, modulation, weight, bias)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("case", ["sample, k = 1", "convolution", "attention, k = 3, T_top = 2"])
def test_gradients_are_the_derivatives(case: str) -> None:
    operator, _, tensors, rest = CASES[case]
    inputs = [tensor[..., :3, :3].clone().requires_grad_() for tensor in tensors[:-2]]
    if case == "convolution":
        inputs = [*inputs[:3], *(tensor.clone().requires_grad_() for tensor in tensors[3:])]
    else:
        inputs += [tensor[..., :3, :3].clone().requires_grad_() for tensor in tensors[-2:]]
    assert torch.autograd.gradcheck(lambda *given: operator(*given, *rest), inputs)


def test_window_attention_s_gradients_are_the_derivatives() -> None:
    qkv, bias, mask = window_inputs()
    inputs = (qkv.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(lambda *given: ops.window_attention(*given, mask), inputs)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("deformable_sample", sampling_inputs()),
        ("deform_conv2d", convolution_inputs()),
        ("deformable_attention", [*attention_inputs(), 2]),
        ("window_attention", window_inputs()),
        ("cross_window_attention", cross_window_inputs()),
    ],
)
def test_an_operator_is_registered_as_torch_wants_it(name: str, inputs: Sequence[object]) -> None:
    given = [
        value.clone().requires_grad_() if isinstance(value, Tensor) and i < 2 else value
        for i, value in enumerate(inputs)
    ]
    results = torch.library.opcheck(getattr(torch.ops.stvsr, name).default, given)  # type: ignore[arg-type]
    assert set(results.values()) == {"SUCCESS"}


def test_operators_compile_without_a_graph_break() -> None:
    torch.compiler.reset()
    for operator, _, tensors, rest in CASES.values():
        compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
        assert_equal_functions(compiled, operator, tensors, rest)


def test_positions_relevances_and_weights_stay_in_float32_under_autocast() -> None:
    query, key, value, offset, modulation = attention_inputs(dtype=torch.float32)
    # relevances of 1000 and 1001: equal in bf16, a clear choice in float32
    query, key = torch.ones_like(query), torch.zeros_like(key)
    key[:, :, 0] = 1000.0
    offset, modulation = torch.zeros_like(offset), torch.ones_like(modulation)
    modulation[:, :, :, 4] = 1.001
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, weight = ops.deformable_attention(
            query.bfloat16(), key.bfloat16(), value.bfloat16(), offset, modulation, 1
        )
    assert mixed.dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, torch.full_like(weight, 1001.0))


@pytest.mark.parametrize("case", CASES)
def test_autocast_changes_nothing_within_an_operator(case: str) -> None:
    operator, _, tensors, rest = CASES[case]
    outcomes = []
    for enabled in (False, True):
        inputs = [tensor.float() for tensor in tensors]
        asked = [tensor.requires_grad_() for tensor in inputs if tensor.isfinite().all()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = operator(*inputs, *rest)
            outs = out if isinstance(out, tuple) else (out,)
            incoming = [numbers(*result.shape, dtype=torch.float32) for result in outs]
            outcomes.append([*outs, *torch.autograd.grad(outs, asked, incoming)])
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


def test_operators_take_bf16_features_and_give_bf16_results() -> None:
    image, offset, modulation, weight, bias = convolution_inputs(torch.float32)
    exact = ops.modulated_deform_conv2d(image, offset, modulation, weight, bias)
    half = image.bfloat16().requires_grad_()
    rounded = ops.modulated_deform_conv2d(half, offset, modulation, weight, bias)
    rounded.sum().backward()
    assert rounded.dtype == half.grad.dtype == torch.bfloat16  # type: ignore[union-attr]
    torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.05)


def test_mirrored_images_and_offsets_give_mirrored_samples() -> None:
    image, offset, modulation = sampling_inputs()
    upright = ops.deformable_sample(image, offset, modulation)
    mirrored_points = torch.tensor([2, 1, 0, 5, 4, 3, 8, 7, 6])
    mirrored = ops.deformable_sample(
        image.flip(-1),
        (offset * torch.tensor([1.0, -1.0])[:, None, None]).flip(-1)[:, :, mirrored_points],
        modulation.flip(-1)[:, :, mirrored_points],
    )
    torch.testing.assert_close(mirrored.flip(-1)[:, :, mirrored_points], upright)


def assert_equal_functions(
    first: Operator, second: Operator, tensors: Sequence[Tensor], rest: Sequence[object]
) -> None:
    """Both give the same values, and the same gradients for the same incoming gradient."""
    results, gradients = [], []
    for function in (first, second):
        inputs = [
            tensor.clone().requires_grad_(bool(tensor.isfinite().all())) for tensor in tensors
        ]
        out = function(*inputs, *rest)
        outs = out if isinstance(out, tuple) else (out,)
        incoming = [numbers(*result.shape, seed=3) for result in outs]
        results.append(outs)
        gradients.append(
            torch.autograd.grad(outs, [x for x in inputs if x.requires_grad], incoming)
        )
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])
