"""Attention within windows, with a learned bias, that keeps no attention map for later.

Forward it is torch's `scaled_dot_product_attention`; its backward pass, on a CPU with a bias that
learns, keeps every map, so here that is written out.

Shapes: `W` windows, `L` pixels of a window, `E` channels, `M` the windows of one image.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.ops.precision import compute_dtype, without_autocast
from stvsr.ops.registration import operator

CHUNK_MAPS = 48
"""Attention maps (windows times heads) in memory at once; so few stay in a cache."""


def window_attention(qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attend within each window: softmax(q k^T / sqrt(d) + bias) v, for each head.

    Args:
        qkv: (W, L, 3 * E), ordered (q | k | v, head, channel); W is a multiple of M.
        bias: (heads, L, L), added to the logits.
        mask: (M, L, L), added to the logits of all heads: 0, or -inf where a pixel may not look
            (-100 would do, but its exponential is a denormal float32, which slows products
            manyfold). Window w uses mask w mod M.

    Returns:
        (W, L, E) in the type of `qkv`.
    """
    if qkv.is_cuda:
        q, k, v = _by_part(qkv, len(bias), 3)
        added = _added(bias, mask, slice(0, len(qkv))).to(qkv.dtype)
        attended = F.scaled_dot_product_attention(q, k, v, added)
        return attended.transpose(1, 2).flatten(2)
    mixed: Tensor = _attend(qkv, bias.to(compute_dtype(qkv.dtype)), mask)
    return mixed


def cross_window_attention(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    """Attend from each window to another: softmax(q k^T / sqrt(d) + bias) v, for each head.

    Args:
        q: (W, L_q, E), ordered (head, channel).
        kv: (W, L_k, 2 * E), ordered (k | v, head, channel).
        bias: (heads, L_q, L_k), added to the logits; -inf where a pixel may not look.

    Returns:
        (W, L_q, E) in the type of `q`.
    """
    if q.is_cuda:
        query, key, value = (*_by_part(q, len(bias), 1), *_by_part(kv, len(bias), 2))
        attended = F.scaled_dot_product_attention(query, key, value, bias[None].to(q.dtype))
        return attended.transpose(1, 2).flatten(2)
    mixed: Tensor = _cross(q, kv, bias.to(compute_dtype(q.dtype)))
    return mixed


@operator("window_attention")
@without_autocast
def _attend(qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    mixed: Tensor = _attend_fake(qkv, bias, mask)
    by_head = mixed.unflatten(2, (len(bias), -1))
    bias = bias.detach().contiguous()  # one that learns keeps torch off its fast path
    for rows in _chunks(qkv, bias):
        q, k, v = _by_part(qkv[rows].to(bias.dtype), len(bias), 3)
        added = _added(bias, mask, rows)
        by_head[rows] = F.scaled_dot_product_attention(q, k, v, added).transpose(1, 2)
    return mixed


@_attend.register_fake
def _attend_fake(qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    W, L, E3 = qkv.shape
    return qkv.new_empty(W, L, E3 // 3)


@operator("window_attention_backward")
@without_autocast
def _attend_backward(
    grad: Tensor, qkv: Tensor, bias: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    grad_qkv, grad_bias = _attend_backward_fake(grad, qkv, bias, mask)
    grad_bias.zero_()
    by_head = grad_qkv.unflatten(2, (3, len(bias), -1))
    for rows in _chunks(qkv, bias):
        q, k, v = _split(qkv[rows], len(bias))
        share = _shares(q, k, bias, mask, rows)
        for part, value in enumerate(_gradients(grad[rows], (q, k, v), share, grad_bias)):
            by_head[rows, :, part] = _by_window(value, by_head)
    return grad_qkv, grad_bias


@_attend_backward.register_fake
def _attend_backward_fake(
    grad: Tensor, qkv: Tensor, bias: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), bias.new_empty(bias.shape)


@operator("cross_window_attention")
@without_autocast
def _cross(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    mixed: Tensor = _cross_fake(q, kv, bias)
    by_head = mixed.unflatten(2, (len(bias), -1))
    bias = bias.detach().contiguous()  # one that learns keeps torch off its fast path
    for rows in _chunks(q, bias):
        (query,) = _by_part(q[rows].to(bias.dtype), len(bias), 1)
        key, value = _by_part(kv[rows].to(bias.dtype), len(bias), 2)
        attended = F.scaled_dot_product_attention(query, key, value, bias[None])
        by_head[rows] = attended.transpose(1, 2)
    return mixed


@_cross.register_fake
def _cross_fake(q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
    return q.new_empty(q.shape)


@operator("cross_window_attention_backward")
@without_autocast
def _cross_backward(
    grad: Tensor, q: Tensor, kv: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_q, grad_kv, grad_bias = _cross_backward_fake(grad, q, kv, bias)
    grad_bias.zero_()
    q_by_head = grad_q.unflatten(2, (len(bias), -1))
    kv_by_head = grad_kv.unflatten(2, (2, len(bias), -1))
    for rows in _chunks(q, bias):
        query, key, value = _split_two(q[rows], kv[rows], len(bias))
        share = _shares(query, key, bias, None, rows)
        grads = _gradients(grad[rows], (query, key, value), share, grad_bias)
        q_by_head[rows] = _by_window(grads[0], q_by_head)
        for part, gradient in enumerate(grads[1:]):
            kv_by_head[rows, :, part] = _by_window(gradient, kv_by_head)
    return grad_q, grad_kv, grad_bias


@_cross_backward.register_fake
def _cross_backward_fake(
    grad: Tensor, q: Tensor, kv: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), kv.new_empty(kv.shape), bias.new_empty(bias.shape)


def _gradients(
    grad: Tensor, parts: tuple[Tensor, Tensor, Tensor], share: Tensor, grad_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of some windows' queries, keys and values, as `_split` has them.

    Args:
        grad: of the windows' results, (W, L, E).
        parts: queries, keys and values of `_split`.
        share: the attention maps.
        grad_bias: the bias's gradient, to which these windows' is added.
    """
    q, k, v = parts
    by_window = grad.to(share.dtype).unflatten(2, (len(grad_bias), -1))
    incoming = by_window.transpose(1, 2).flatten(0, 1)
    to_share = torch.bmm(incoming, v.mT).view_as(share)
    to_logits = torch._softmax_backward_data(to_share, share, -1, share.dtype)
    grad_bias += to_logits.sum(0)
    to_logits = to_logits.flatten(0, 1)
    # q comes scaled; the gradient of what it was before has the factor too
    return (
        torch.bmm(to_logits, k).mul_(q.shape[-1] ** -0.5),
        torch.bmm(to_logits.mT, q),
        torch.bmm(share.flatten(0, 1).mT, incoming),
    )


def _chunks(qkv: Tensor, bias: Tensor) -> Iterator[slice]:
    """Cut the windows into chunks of `CHUNK_MAPS` attention maps."""
    length = max(1, CHUNK_MAPS // len(bias))
    for first in range(0, len(qkv), length):
        yield slice(first, min(first + length, len(qkv)))


def _by_part(qkv: Tensor, heads: int, count: int) -> Tensor:
    """(W, L, count * E), such as queries, keys and values -> (count, W, heads, L, d)."""
    parts: Tensor = qkv.unflatten(2, (count, heads, -1)).permute(2, 0, 3, 1, 4)
    return parts


def _split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(W, L, 3E) -> queries times 1/sqrt(d), keys, values: (W * heads, L, d) in float32."""
    q, k, v = _by_head(qkv, heads, 3)
    return q * q.shape[-1] ** -0.5, k, v


def _split_two(q: Tensor, kv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """`_split` of queries (W, L_q, E), and of keys and values (W, L_k, 2E)."""
    (query,), (key, value) = _by_head(q, heads, 1), _by_head(kv, heads, 2)
    return query * query.shape[-1] ** -0.5, key, value


def _by_head(qkv: Tensor, heads: int, count: int) -> Tensor:
    """(W, L, count * E) -> (count, W * heads, L, d) in float32."""
    by_part = _by_part(qkv, heads, count).contiguous()
    return by_part.to(compute_dtype(qkv.dtype)).flatten(1, 2)


def _shares(q: Tensor, k: Tensor, bias: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    """The attention maps (W, heads, L, L) of some windows."""
    logits = torch.bmm(q, k.mT).unflatten(0, (-1, len(bias))).add_(bias)
    if mask is not None:
        logits += _mask_of(mask, rows)
    share: Tensor = torch.softmax(logits, -1, out=logits)
    return share


def _added(bias: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    """Bias and mask for the logits of some windows, (W, heads, L, L) or (1, heads, L, L)."""
    return bias[None] if mask is None else bias + _mask_of(mask, rows)


def _mask_of(mask: Tensor, rows: slice) -> Tensor:
    """The masks of some windows, (W, 1, L, L)."""
    windows = torch.arange(rows.start, rows.stop, device=mask.device)
    masks: Tensor = mask[windows % len(mask), None]
    return masks


def _by_window(values: Tensor, like: Tensor) -> Tensor:
    """(W * heads, L, d) -> (W, L, heads, d)."""
    by_head: Tensor = values.unflatten(0, (-1, like.shape[-2]))
    return by_head.transpose(1, 2)


def _attend_save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _attend_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_qkv, grad_bias = _attend_backward(grad, *ctx.saved_tensors)
    return grad_qkv, grad_bias, None


_attend.register_autograd(_attend_autograd, setup_context=_attend_save)


def _cross_save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _cross_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = _cross_backward(grad, *ctx.saved_tensors)
    return gradients


_cross.register_autograd(_cross_autograd, setup_context=_cross_save)
