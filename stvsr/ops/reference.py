"""The operators as their definitions read, in plain torch: slow, large, and what the others match.

Sources: DCNv2 (modulated deformable convolution); STDAN (arXiv 2203.06841) section 2.2, eqs 4-7.
"""

import torch
from torch import Tensor

from stvsr.ops.points import window_points


def deformable_sample(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """Sample every pixel's K displaced neighbours; shapes as in `stvsr.ops.sampling`."""
    B, C, H, W = image.shape
    G, K = offset.shape[1:3]
    dy, dx = window_points(K, offset)
    rows = torch.arange(H, device=offset.device, dtype=offset.dtype)
    columns = torch.arange(W, device=offset.device, dtype=offset.dtype)
    y = offset[:, :, :, 0] + dy[:, None, None] + rows[:, None]
    x = offset[:, :, :, 1] + dx[:, None, None] + columns
    groups = image.reshape(B, G, C // G, H * W)
    sampled = torch.stack(
        [
            _corner(groups, y.floor() + below, x.floor() + right, y, x, (H, W))
            for below in (0, 1)
            for right in (0, 1)
        ]
    ).sum(0)
    return (sampled * modulation[:, :, None]).reshape(B, C, K, H, W)


def _corner(
    groups: Tensor, row: Tensor, column: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]
) -> Tensor:
    """One corner's pixel times its bilinear weight, 0 where the corner is outside."""
    H, W = size
    B, G, per_group, _ = groups.shape
    weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    index = row.clamp(0, H - 1) * W + column.clamp(0, W - 1)
    flat = index.long().reshape(B, G, 1, -1).expand(-1, -1, per_group, -1)
    pixels = groups.gather(3, flat).reshape(B, G, per_group, *y.shape[2:])
    return pixels * (weight * inside)[:, :, None]


def modulated_deform_conv2d(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Modulated deformable convolution; shapes as in `stvsr.ops.deform_conv`."""
    sampled = deformable_sample(image, offset, modulation)
    return torch.einsum("bckhw,ock->bohw", sampled, weight.flatten(2)) + bias[:, None, None]


def deformable_attention(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, modulation: Tensor, T_top: int
) -> tuple[Tensor, Tensor]:
    """Deformable attention of one frame to N others; shapes as in `stvsr.ops.attention`."""
    B, N, E, H, W = key.shape
    offset, modulation = offset.flatten(0, 1), modulation.flatten(0, 1)
    keys = deformable_sample(key.flatten(0, 1), offset, modulation).unflatten(0, (B, N))
    values = deformable_sample(value.flatten(0, 1), offset, modulation).unflatten(0, (B, N))
    relevance = torch.einsum("behw,bnekhw->bnkhw", query, keys)
    top, index = relevance.topk(T_top, dim=2)
    share = top.softmax(2)
    index = index[:, :, None].expand(-1, -1, E, -1, -1, -1)
    mixed_key = (share[:, :, None] * keys.gather(3, index)).sum(3)
    mixed_value = (share[:, :, None] * values.gather(3, index)).sum(3)
    return mixed_value, torch.einsum("behw,bnehw->bnhw", query, mixed_key)
