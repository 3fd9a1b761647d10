"""The operators in torch's own functions, all at once: what an exported file has in their place.

No size is used as a number, so that height, width and batch stay symbols while torch.export traces.
The values are those of `stvsr.ops`, but for the rounding of sums. Shapes as there; `I` images.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.ops.points import window_points

GridSample = Callable[[Tensor, Tensor], Tensor]
"""Samples images (I, C, H, W) at a grid (I, h, w, 2) in -1..1, bilinearly, zero outside."""


def grid_sample(images: Tensor, grid: Tensor) -> Tensor:
    """A `GridSample`: torch's own."""
    return F.grid_sample(images, grid, align_corners=False)


def grid_sample_for_onnx(images: Tensor, grid: Tensor) -> Tensor:
    """The same as ONNX's own operator, whose result's size torch need not work out."""
    sampled: Tensor = torch.onnx.ops.symbolic(
        "GridSample",
        (images, grid),
        {"mode": "linear", "padding_mode": "zeros", "align_corners": 0},
        dtype=images.dtype,
        shape=(*images.shape[:2], *grid.shape[1:3]),
        version=ONNX_OPSET,
    )
    return sampled


def deform_conv2d(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """`stvsr.ops.modulated_deform_conv2d`."""
    y, x = _positions(offset)
    columns = _sample(_grouped(image, offset), y, x, grid_sample) * modulation[:, :, None]
    flat = columns.flatten(4).flatten(1, 3)
    result: Tensor = (weight.flatten(1) @ flat + bias[:, None]).unflatten(2, offset.shape[-2:])
    return result


def deform_conv2d_for_onnx(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """The same as ONNX's own operator, whose layout of offsets is ours."""
    G, side = offset.shape[1], weight.shape[-1]
    convolved: Tensor = torch.onnx.ops.symbolic(
        "DeformConv",
        (image, weight, offset.flatten(1, 3), bias, modulation.flatten(1, 2)),
        {"kernel_shape": [side, side], "pads": [side // 2] * 4, "offset_group": G},
        dtype=image.dtype,
        shape=(image.shape[0], weight.shape[0], *offset.shape[-2:]),
        version=ONNX_OPSET,
    )
    return convolved


def deformable_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offset: Tensor,
    modulation: Tensor,
    T_top: int,
    grid_sample: GridSample = grid_sample,
) -> tuple[Tensor, Tensor, None]:
    """`stvsr.ops.deformable_attention`; the indexes of kept points are for gradients only."""
    pairs, G = key.shape[:2], offset.shape[2]
    offset, modulation = offset.flatten(0, 1), modulation.flatten(0, 1)
    asked = query.unflatten(1, (G, -1))[:, None].expand(-1, pairs[1], -1, -1, -1, -1).flatten(0, 1)
    y, x = _positions(offset)
    keys = _sample(_grouped(key.flatten(0, 1), offset), y, x, grid_sample)
    products = (keys * asked[:, :, :, None]).sum(2)
    top, index = (products * modulation).sum(1).topk(T_top, dim=1)
    share = top.softmax(1)
    index = index[:, None].expand(-1, G, -1, -1, -1)
    factor = share[:, None] * modulation.gather(2, index)
    y, x = y.gather(2, index), x.gather(2, index)
    kept = _sample(_grouped(value.flatten(0, 1), offset), y, x, grid_sample)
    mixed = (kept * factor[:, :, None]).sum(3).flatten(1, 2)
    return mixed.unflatten(0, pairs), (share * top).sum(1).unflatten(0, pairs), None


def window_attention(qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """`stvsr.ops.window_attention`."""
    q, k, v = qkv.unflatten(2, (3, bias.shape[0], -1)).permute(2, 0, 3, 1, 4).unbind(0)
    logits = (q * q.shape[-1] ** -0.5) @ k.mT + bias
    if mask is not None:
        logits = (logits.unflatten(0, (-1, mask.shape[0])) + mask[:, None]).flatten(0, 1)
    attended: Tensor = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return attended


ONNX_OPSET = 22
"""Version of ONNX's operators that a file needs: the newest with a DeformConv."""

FOR_TORCH: Mapping[str, Callable[..., Any]] = {
    "stvsr::deform_conv2d": deform_conv2d,
    "stvsr::deformable_attention": deformable_attention,
    "stvsr::window_attention": window_attention,
}
"""By the operators' names."""

FOR_ONNX: Mapping[str, Callable[..., Any]] = {
    **FOR_TORCH,
    "stvsr::deform_conv2d": deform_conv2d_for_onnx,
    "stvsr::deformable_attention": partial(deformable_attention, grid_sample=grid_sample_for_onnx),
}


def _positions(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets (I, G, K, 2, H, W) -> rows and columns of the points, (I, G, K, H, W) each.

    They are in -1..1 between an image's outer edges, rounded as `stvsr.ops.points` rounds them: of
    points whose relevances nearly tie, the same are kept.
    """
    H, W = offset.shape[-2:]
    window_y, window_x = window_points(offset.shape[2], offset)
    row = torch.arange(H, device=offset.device, dtype=offset.dtype)
    column = torch.arange(W, device=offset.device, dtype=offset.dtype)
    dy, dx = offset.unbind(3)
    y = (2 * (row[:, None] + window_y[:, None, None]) + 1) / H - 1
    x = (2 * (column + window_x[:, None, None]) + 1) / W - 1
    return y + 2 * dy / H, x + 2 * dx / W


def _grouped(image: Tensor, offset: Tensor) -> Tensor:
    """(I, C, H, W) -> (I, G, C/G, H, W)."""
    grouped: Tensor = image.unflatten(1, (offset.shape[1], -1))
    return grouped


def _sample(images: Tensor, y: Tensor, x: Tensor, grid_sample: GridSample) -> Tensor:
    """Images (I, G, C/G, H, W) at points (I, G, K, H, W), bilinearly: (I, G, C/G, K, H, W)."""
    flat = torch.stack([x, y], dim=-1).flatten(2, 3).flatten(0, 1)
    sampled = grid_sample(images.flatten(0, 1), flat)
    columns: Tensor = sampled.unflatten(2, y.shape[2:4]).unflatten(0, images.shape[:2])
    return columns
