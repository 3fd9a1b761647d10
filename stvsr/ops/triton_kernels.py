"""Deformable sampling and attention on CUDA: Triton kernels, forward and backward.

One program handles a block of pixels; positions, relevances, softmaxes and sums are float32,
whatever the features are. The attention kernels hold the K relevances of a block in registers and
write neither sampled keys nor sampled values to memory. Shapes as in `stvsr.ops`; `HW` = H * W,
`hW` = h * W, `CG` the channels of a group, names ending in `_P` rounded up to a power of two, as
Triton wants.

With `TRITON_INTERPRET=1` the same code runs on CPU tensors, which is how CI tests it.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from stvsr.ops.triton_points import blend, corners, position, slopes, spread

BLOCK = 64
"""Pixels of one program."""


def sample(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """`stvsr.ops.deformable_sample`, forward."""
    B, C, H, W = image.shape
    G, K = offset.shape[1:3]
    h = offset.shape[-2]
    out = image.new_empty(B, C, K, h, W)
    _sample_kernel[_grid(K * h * W, B * G)](
        image.contiguous(),
        offset.contiguous(),
        modulation.contiguous(),
        out,
        h,
        H,
        W,
        K,
        _side(K),
        C // G,
        _power(C // G),
        BLOCK,
    )
    return out


def sample_backward(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `sample`: of the image (in its type), of offsets and modulations (float32)."""
    B, C, H, W = image.shape
    G, K = offset.shape[1:3]
    h = offset.shape[-2]
    grad_image = offset.new_zeros(image.shape)
    grad_offset, grad_modulation = _empty_like(offset), _empty_like(modulation)
    _sample_backward_kernel[_grid(K * h * W, B * G)](
        grad.contiguous(),
        image.contiguous(),
        offset.contiguous(),
        modulation.contiguous(),
        grad_image,
        grad_offset,
        grad_modulation,
        h,
        H,
        W,
        K,
        _side(K),
        C // G,
        _power(C // G),
        BLOCK,
    )
    return grad_image.to(image.dtype), grad_offset, grad_modulation


def attend(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`stvsr.ops.deformable_attention`, forward: mixed values, pair weights, kept points."""
    B, N, E, H, W = key.shape
    G, K = offset.shape[2:4]
    h = query.shape[-2]
    mixed = query.new_empty(B, N, E, h, W)
    weight = offset.new_empty(B, N, h, W)
    chosen = query.new_empty(B, N, T_top, h, W, dtype=torch.uint8)
    _attend_kernel[_grid(h * W, B * N)](
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        offset.contiguous(),
        modulation.contiguous(),
        mixed,
        weight,
        chosen,
        N,
        h,
        H,
        W,
        K,
        _side(K),
        _power(K),
        T_top,
        _power(T_top),
        G,
        E // G,
        _power(E // G),
        BLOCK,
    )
    return mixed, weight, chosen


def attend_backward(
    grad_mixed: Tensor,
    grad_weight: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offset: Tensor,
    modulation: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `attend`'s first five inputs."""
    B, N, E, H, W = key.shape
    G, K = offset.shape[2:4]
    T_top, h = chosen.shape[2:4]
    grad_query = offset.new_zeros(query.shape)
    grad_key, grad_value = offset.new_zeros(key.shape), offset.new_zeros(value.shape)
    grad_offset = offset.new_zeros(offset.shape)
    grad_modulation = offset.new_zeros(modulation.shape)
    _attend_backward_kernel[_grid(h * W, B * N)](
        grad_mixed.contiguous(),
        grad_weight.contiguous(),
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        offset.contiguous(),
        modulation.contiguous(),
        chosen.contiguous(),
        grad_query,
        grad_key,
        grad_value,
        grad_offset,
        grad_modulation,
        N,
        h,
        H,
        W,
        K,
        _side(K),
        T_top,
        _power(T_top),
        G,
        E // G,
        _power(E // G),
        BLOCK,
    )
    return (
        grad_query.to(query.dtype),
        grad_key.to(key.dtype),
        grad_value.to(value.dtype),
        grad_offset,
        grad_modulation,
    )


def _grid(points: int, maps: int) -> tuple[int, int]:
    return -(-points // BLOCK), maps


def _power(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _side(points: int) -> int:
    return math.isqrt(points)


def _empty_like(tensor: Tensor) -> Tensor:
    """Contiguous, whatever the strides of `tensor`."""
    return tensor.new_empty(tensor.shape)


@triton.jit
def _sample_kernel(
    image,
    offset,
    modulation,
    out,
    h,
    H,
    W,
    K,
    SIDE: tl.constexpr,
    CG: tl.constexpr,
    CG_P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    hW, HW = h * W, H * W
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < K * hW
    point, pixel = place // hW, place % hW
    group = tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CG_P)

    y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
    factor = tl.load(modulation + group * K * hW + place, mask=mask, other=0.0)
    al, ar, bl, br = corners(image + group * CG * HW, y, x, H, W, channel, CG, mask)
    sampled = blend(al, ar, bl, br, y, x) * factor[None, :]
    tl.store(
        out + group * CG * K * hW + channel[:, None] * (K * hW) + place[None, :],
        sampled.to(out.dtype.element_ty),
        mask=mask[None, :] & (channel < CG)[:, None],
    )


@triton.jit
def _sample_backward_kernel(
    grad,
    image,
    offset,
    modulation,
    grad_image,
    grad_offset,
    grad_modulation,
    h,
    H,
    W,
    K,
    SIDE: tl.constexpr,
    CG: tl.constexpr,
    CG_P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    hW, HW = h * W, H * W
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < K * hW
    point, pixel = place // hW, place % hW
    group = tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CG_P)

    y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
    factor = tl.load(modulation + group * K * hW + place, mask=mask, other=0.0)
    incoming = tl.load(
        grad + group * CG * K * hW + channel[:, None] * (K * hW) + place[None, :],
        mask=mask[None, :] & (channel < CG)[:, None],
        other=0.0,
    ).to(tl.float32)
    al, ar, bl, br = corners(image + group * CG * HW, y, x, H, W, channel, CG, mask)
    to_factor = tl.sum(incoming * blend(al, ar, bl, br, y, x), axis=0)
    tl.store(grad_modulation + group * K * hW + place, to_factor, mask=mask)

    to_sample = incoming * factor[None, :]
    to_y, to_x = slopes(al, ar, bl, br, y, x, to_sample)
    here = grad_offset + group * K * 2 * hW + point * 2 * hW + pixel
    tl.store(here, to_y, mask=mask)
    tl.store(here + hW, to_x, mask=mask)
    spread(grad_image + group * CG * HW, y, x, H, W, channel, CG, mask, to_sample)


@triton.jit
def _attend_kernel(
    query,
    key,
    value,
    offset,
    modulation,
    mixed,
    weight,
    chosen,
    N,
    h,
    H,
    W,
    K: tl.constexpr,
    SIDE: tl.constexpr,
    K_P: tl.constexpr,
    T_TOP: tl.constexpr,
    T_TOP_P: tl.constexpr,
    G: tl.constexpr,
    CG: tl.constexpr,
    CG_P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    hW, HW = h * W, H * W
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < hW
    pair = tl.program_id(1).to(tl.int64)
    clip = pair // N
    channel = tl.arange(0, CG_P)
    tile = channel[:, None] * hW + pixel[None, :]
    tile_mask = mask[None, :] & (channel < CG)[:, None]

    # eq. 4: the relevance of every point, in registers
    points = tl.arange(0, K_P)
    relevance = tl.full((K_P, BLOCK), 0.0, tl.float32)
    for g in range(G):
        asked = tl.load(query + (clip * G + g) * CG * hW + tile, mask=tile_mask, other=0.0)
        asked = asked.to(tl.float32)
        group = pair * G + g
        for point in range(K):
            y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
            factor = tl.load(modulation + (group * K + point) * hW + pixel, mask=mask, other=0.0)
            al, ar, bl, br = corners(key + group * CG * HW, y, x, H, W, channel, CG, mask)
            product = tl.sum(blend(al, ar, bl, br, y, x) * asked, axis=0) * factor
            relevance += tl.where((points == point)[:, None], product[None, :], 0.0)

    # keep the T_TOP largest, one after the other
    relevance = tl.where((points < K)[:, None], relevance, -float("inf"))
    steps = tl.arange(0, T_TOP_P)
    top = tl.full((T_TOP_P, BLOCK), -float("inf"), tl.float32)
    index = tl.full((T_TOP_P, BLOCK), 0, tl.int32)
    for t in range(T_TOP):
        best = tl.argmax(relevance, axis=0)
        largest = tl.max(relevance, axis=0)
        top = tl.where((steps == t)[:, None], largest[None, :], top)
        index = tl.where((steps == t)[:, None], best[None, :], index)
        relevance = tl.where(points[:, None] == best[None, :], -float("inf"), relevance)
        tl.store(chosen + (pair * T_TOP + t) * hW + pixel, best.to(tl.uint8), mask=mask)

    # eq. 5, and eq. 7 by eq. 6: Q . K_{j->i} is the mean of the kept relevances
    share = tl.exp(top - tl.max(top, axis=0)[None, :])
    share = share / tl.sum(share, axis=0)[None, :]
    kept = (steps < T_TOP)[:, None]
    total = tl.sum(tl.where(kept, share * tl.where(kept, top, 0.0), 0.0), axis=0)
    tl.store(weight + pair * hW + pixel, total, mask=mask)

    # eq. 6 for the values, sampled at the kept points alone
    for g in range(G):
        group = pair * G + g
        total_value = tl.full((CG_P, BLOCK), 0.0, tl.float32)
        for t in range(T_TOP):
            this = (steps == t)[:, None]
            point = tl.sum(tl.where(this, index, 0), axis=0)
            part = tl.sum(tl.where(this, share, 0.0), axis=0)
            y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
            factor = tl.load(modulation + (group * K + point) * hW + pixel, mask=mask, other=0.0)
            al, ar, bl, br = corners(value + group * CG * HW, y, x, H, W, channel, CG, mask)
            total_value += blend(al, ar, bl, br, y, x) * (part * factor)[None, :]
        tl.store(
            mixed + group * CG * hW + tile, total_value.to(mixed.dtype.element_ty), mask=tile_mask
        )


@triton.jit
def _attend_backward_kernel(
    grad_mixed,
    grad_weight,
    query,
    key,
    value,
    offset,
    modulation,
    chosen,
    grad_query,
    grad_key,
    grad_value,
    grad_offset,
    grad_modulation,
    N,
    h,
    H,
    W,
    K: tl.constexpr,
    SIDE: tl.constexpr,
    T_TOP: tl.constexpr,
    T_TOP_P: tl.constexpr,
    G: tl.constexpr,
    CG: tl.constexpr,
    CG_P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    hW, HW = h * W, H * W
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < hW
    pair = tl.program_id(1).to(tl.int64)
    clip = pair // N
    channel = tl.arange(0, CG_P)
    tile = channel[:, None] * hW + pixel[None, :]
    tile_mask = mask[None, :] & (channel < CG)[:, None]
    steps = tl.arange(0, T_TOP_P)

    # the kept points' relevances again, and the gradient of each point's share
    relevance = tl.full((T_TOP_P, BLOCK), 0.0, tl.float32)
    to_share = tl.full((T_TOP_P, BLOCK), 0.0, tl.float32)
    for g in range(G):
        group = pair * G + g
        asked = tl.load(query + (clip * G + g) * CG * hW + tile, mask=tile_mask, other=0.0)
        asked = asked.to(tl.float32)
        incoming = tl.load(grad_mixed + group * CG * hW + tile, mask=tile_mask, other=0.0)
        incoming = incoming.to(tl.float32)
        for t in range(T_TOP):
            point = tl.load(chosen + (pair * T_TOP + t) * hW + pixel, mask=mask, other=0).to(
                tl.int32
            )
            y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
            factor = tl.load(modulation + (group * K + point) * hW + pixel, mask=mask, other=0.0)
            al, ar, bl, br = corners(key + group * CG * HW, y, x, H, W, channel, CG, mask)
            product = tl.sum(blend(al, ar, bl, br, y, x) * asked, axis=0) * factor
            relevance += tl.where((steps == t)[:, None], product[None, :], 0.0)
            al, ar, bl, br = corners(value + group * CG * HW, y, x, H, W, channel, CG, mask)
            product = tl.sum(blend(al, ar, bl, br, y, x) * incoming, axis=0) * factor
            to_share += tl.where((steps == t)[:, None], product[None, :], 0.0)

    kept = (steps < T_TOP)[:, None]
    top = tl.where(kept, relevance, -float("inf"))
    share = tl.exp(top - tl.max(top, axis=0)[None, :])
    share = share / tl.sum(share, axis=0)[None, :]
    to_weight = tl.load(grad_weight + pair * hW + pixel, mask=mask, other=0.0)[None, :]
    to_share += to_weight * relevance
    mean = tl.sum(share * to_share, axis=0)[None, :]
    to_relevance = share * (to_share - mean + to_weight)

    for g in range(G):
        group = pair * G + g
        asked = tl.load(query + (clip * G + g) * CG * hW + tile, mask=tile_mask, other=0.0)
        asked = asked.to(tl.float32)
        incoming = tl.load(grad_mixed + group * CG * hW + tile, mask=tile_mask, other=0.0)
        incoming = incoming.to(tl.float32)
        to_query = tl.full((CG_P, BLOCK), 0.0, tl.float32)
        for t in range(T_TOP):
            this = (steps == t)[:, None]
            to_product = tl.sum(tl.where(this, to_relevance, 0.0), axis=0)
            part = tl.sum(tl.where(this, share, 0.0), axis=0)
            point = tl.load(chosen + (pair * T_TOP + t) * hW + pixel, mask=mask, other=0).to(
                tl.int32
            )
            y, x = position(offset + group * K * 2 * hW, point, pixel, h, H, W, SIDE, mask)
            at_point = (group * K + point) * hW + pixel
            factor = tl.load(modulation + at_point, mask=mask, other=0.0)

            al, ar, bl, br = corners(key + group * CG * HW, y, x, H, W, channel, CG, mask)
            sampled = blend(al, ar, bl, br, y, x)
            to_factor = to_product * tl.sum(sampled * asked, axis=0)
            to_query += sampled * (to_product * factor)[None, :]
            to_key = asked * (to_product * factor)[None, :]
            key_y, key_x = slopes(al, ar, bl, br, y, x, to_key)
            spread(grad_key + group * CG * HW, y, x, H, W, channel, CG, mask, to_key)

            al, ar, bl, br = corners(value + group * CG * HW, y, x, H, W, channel, CG, mask)
            to_factor += part * tl.sum(blend(al, ar, bl, br, y, x) * incoming, axis=0)
            to_value = incoming * (part * factor)[None, :]
            value_y, value_x = slopes(al, ar, bl, br, y, x, to_value)
            spread(grad_value + group * CG * HW, y, x, H, W, channel, CG, mask, to_value)

            tl.store(grad_modulation + at_point, to_factor, mask=mask)
            here = grad_offset + (group * K + point) * 2 * hW + pixel
            tl.store(here, key_y + value_y, mask=mask)
            tl.store(here + hW, key_x + value_x, mask=mask)
        tl.atomic_add(grad_query + (clip * G + g) * CG * hW + tile, to_query, mask=tile_mask)
