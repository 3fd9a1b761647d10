"""Deformable attention of one frame to N others: STDAN's eqs 4 to 7 in one operator.

The relevances need the keys at all K points, but only their products with the query; the values,
and everything in the backward pass, are sampled at the T_top kept points alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stvsr.ops.cuda import kernels_for
from stvsr.ops.points import Chunk, Points, chunks
from stvsr.ops.precision import compute_dtype
from stvsr.ops.registration import Operator


def deformable_attention(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor]:
    """Attend from one frame's pixels to the T_top best of K displaced points of each other frame.

    Args:
        query: (B, E, h, W), Q of the frame that attends, h <= H rows; any floating type. Its row r
            is at row r of the others: for a band further down, add its first row to dy.
        key: (B, N, E, H, W), K of the N other frames.
        value: (B, N, E, H, W), V of the N other frames.
        offset: (B, N, G, K, 2, h, W), (dy, dx) in pixels; E is a multiple of G.
        modulation: (B, N, G, K, h, W), factors on sampled keys and values.
        T_top: how many of the K points are kept, 1..K.

    Returns:
        The mixed values V_{j->i}, (B, N, E, h, W) in the query's type, and the pairs' weights
        W = Q_i . K_{j->i}, (B, N, h, W) in float32 (float64 for float64).

    Source: STDAN, arXiv 2203.06841, eqs 4-7.
    """
    dtype = compute_dtype(query.dtype)
    mixed, weight, _ = _attend(
        query,
        key.to(query.dtype),
        value.to(query.dtype),
        offset.to(dtype),
        modulation.to(dtype),
        T_top,
    )
    return mixed, weight


def attend_by_torch(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator in torch's own functions, for any device; also the kept points' indexes."""
    B, N, _, H, W = key.shape
    G, h = offset.shape[2], offset.shape[-2]
    mixed, weight, chosen = _attend_fake(query, key, value, offset, modulation, T_top)
    flat = _Pairs.of(query, key, value, offset, modulation)
    for images, rows in chunks(B * N, h, W):
        asked, keys, values = flat.maps((images, rows))
        points = Points.from_offset(flat.offset, (images, rows), H)
        factor = flat.modulation[images, :, :, rows]
        products = points.sample(keys).mul_(asked).sum(2)
        top, index = (products * factor).sum(1).topk(T_top, dim=1)
        share = top.softmax(1)
        factor = share[:, None] * factor.gather(2, index[:, None].expand(-1, G, -1, -1, -1))
        sampled = points.keep(index).sample(values).mul_(factor[:, :, None])
        mixed.flatten(0, 1)[images, :, rows] = sampled.sum(3).flatten(1, 2)
        weight.flatten(0, 1)[images, rows] = (share * top).sum(1)
        chosen.flatten(0, 1)[images, :, rows] = index.to(torch.uint8)
    return mixed, weight, chosen


_attend = Operator("deformable_attention", attend_by_torch)


@_attend.register_kernel("cuda")
def attend_on_cuda(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator on CUDA."""
    kernels = kernels_for(query)
    forward = attend_by_torch if kernels is None else kernels.attend
    results: tuple[Tensor, Tensor, Tensor] = forward(query, key, value, offset, modulation, T_top)
    return results


@dataclass(frozen=True)
class _Pairs:
    """The operator's maps with its B x N pairs as one batch P, and channels in G groups."""

    query: Tensor
    """(B, G, E/G, h, W)."""
    key: Tensor
    """(P, G, E/G, H, W), and so the values."""
    value: Tensor
    offset: Tensor
    """(P, G, K, 2, h, W)."""
    modulation: Tensor
    """(P, G, K, h, W)."""

    @classmethod
    def of(
        cls, query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor
    ) -> "_Pairs":
        groups = (offset.shape[2], -1)
        return cls(
            query.unflatten(1, groups),
            key.flatten(0, 1).unflatten(1, groups),
            value.flatten(0, 1).unflatten(1, groups),
            offset.flatten(0, 1),
            modulation.flatten(0, 1),
        )

    def clips(self, images: slice) -> Tensor:
        """The index, of the B clips, of the clip that each of some pairs belongs to: (I,)."""
        pairs = torch.arange(len(self.key), device=self.key.device)[images]
        return pairs // (len(self.key) // len(self.query))

    def maps(self, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        """A chunk's queries (I, G, E/G, 1, h, W), keys and values (I, G, E/G, H, W)."""
        images, rows = chunk
        dtype = self.offset.dtype
        asked = self.query[self.clips(images), :, :, None, rows].to(dtype)
        return asked, self.key[images].to(dtype), self.value[images].to(dtype)


@_attend.register_fake
def _attend_fake(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor, Tensor]:
    B, N, E, _, W = key.shape
    h = query.shape[-2]
    return (
        query.new_empty(B, N, E, h, W),
        offset.new_empty(B, N, h, W),
        query.new_empty(B, N, T_top, h, W, dtype=torch.uint8),
    )


def attend_backward_by_torch(
    grad_mixed: Tensor,
    grad_weight: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offset: Tensor,
    modulation: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first five inputs in torch's own functions."""
    B, N, _, H, W = key.shape
    G, h = offset.shape[2], offset.shape[-2]
    grads = _attend_grads(query, key, value, offset, modulation)
    grad_query, grad_key, grad_value, grad_offset, grad_modulation = grads
    flat = _Pairs.of(query, key, value, offset, modulation)
    into = _Pairs.of(grad_query, grad_key, grad_value, grad_offset, grad_modulation)
    for images, rows in chunks(B * N, h, W):
        asked, keys, values = flat.maps((images, rows))
        pair = torch.cat([keys, values], dim=2)
        index = chosen.flatten(0, 1)[images, :, rows].long()
        spread = index[:, None].expand(-1, G, -1, -1, -1)
        points = Points.from_offset(flat.offset, (images, rows), H).keep(index)
        to_query, to_pair, to_factor = _kept_backward(
            points.sample(pair),
            asked,
            flat.modulation[images, :, :, rows].gather(2, spread),
            grad_mixed.flatten(0, 1)[images, :, rows]
            .to(offset.dtype)
            .unflatten(1, (G, -1))[:, :, :, None],
            grad_weight.flatten(0, 1)[images, rows],
        )
        to_image, to_offset = points.sample_backward(to_pair, pair)
        to_key, to_value = to_image.chunk(2, dim=2)
        into.key[images] += to_key
        into.value[images] += to_value
        into.query[..., rows, :].index_add_(0, flat.clips(images), to_query)
        into.modulation[images, :, :, rows].scatter_(2, spread, to_factor)
        spread = spread[:, :, :, None].expand(-1, -1, -1, 2, -1, -1)
        into.offset[images, ..., rows, :].scatter_(2, spread, to_offset)
    return (
        grad_query.to(query.dtype),
        grad_key.to(key.dtype),
        grad_value.to(value.dtype),
        grad_offset,
        grad_modulation,
    )


def _kept_backward(
    pair: Tensor, asked: Tensor, factor: Tensor, grad_mixed: Tensor, grad_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of eqs 4-7 at the kept points of one chunk.

    Args:
        pair: (I, G, 2E/G, T_top, h, W), sampled keys and values, not modulated.
        asked: (I, G, E/G, 1, h, W), the queries.
        factor: (I, G, T_top, h, W), the modulation.
        grad_mixed: (I, G, E/G, 1, h, W).
        grad_weight: (I, h, W).

    Returns:
        Gradients of the queries (I, G, E/G, h, W), of `pair`, and of the modulation.
    """
    keys, values = pair.chunk(2, dim=2)
    key_product = (keys * asked).sum(2)
    value_product = (values * grad_mixed).sum(2)
    relevance = (key_product * factor).sum(1)
    share = relevance.softmax(1)
    to_share = (value_product * factor).sum(1) + grad_weight[:, None] * relevance
    mean = (share * to_share).sum(1, keepdim=True)
    to_relevance = (share * (to_share - mean + grad_weight[:, None]))[:, None]
    share = share[:, None]
    to_factor = to_relevance * key_product + share * value_product
    key_factor = (to_relevance * factor)[:, :, None]
    to_query = (key_factor * keys).sum(3)
    to_pair = torch.cat([key_factor * asked, (share * factor)[:, :, None] * grad_mixed], 2)
    return to_query, to_pair, to_factor


_attend_backward = Operator("deformable_attention_backward", attend_backward_by_torch)


@_attend_backward.register_kernel("cuda")
def attend_backward_on_cuda(
    grad_mixed: Tensor,
    grad_weight: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offset: Tensor,
    modulation: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first five inputs on CUDA."""
    kernels = kernels_for(query)
    backward = attend_backward_by_torch if kernels is None else kernels.attend_backward
    grads: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = backward(
        grad_mixed, grad_weight, query, key, value, offset, modulation, chosen
    )
    return grads


@_attend_backward.register_fake
def _attend_backward_fake(
    grad_mixed: Tensor,
    grad_weight: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offset: Tensor,
    modulation: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads = _attend_grads(query, key, value, offset, modulation)
    grad_query, grad_key, grad_value, grad_offset, grad_modulation = grads
    return (
        grad_query.to(query.dtype),
        grad_key.to(key.dtype),
        grad_value.to(value.dtype),
        grad_offset,
        grad_modulation,
    )


def _attend_grads(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Contiguous zeros to add gradients to."""
    return (
        offset.new_zeros(query.shape),
        offset.new_zeros(key.shape),
        offset.new_zeros(value.shape),
        offset.new_zeros(offset.shape),
        offset.new_zeros(modulation.shape),
    )


def _attend_save(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int],
    output: tuple[Tensor, Tensor, Tensor],
) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:5], output[2])


def _attend_autograd(
    ctx: Any, grad_mixed: Tensor, grad_weight: Tensor, _: None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
    grads = _attend_backward(grad_mixed, grad_weight, *ctx.saved_tensors)
    return (*grads, None)


_attend.register_autograd(_attend_autograd, setup_context=_attend_save)
