"""Modulated deformable convolution (DCNv2): stride 1, padding k // 2, G groups of offsets."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stvsr.ops.cuda import kernels_for
from stvsr.ops.points import Points, chunks
from stvsr.ops.precision import compute_dtype, without_autocast
from stvsr.ops.registration import Operator

CUDA_PIXELS = 1 << 18
"""Pixels whose samples are in memory at once on CUDA: 300 MB of them for 64 channels in bf16."""


def modulated_deform_conv2d(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Convolve samples taken at displaced points, each times its modulation.

    Nothing of size C * K * H * W is kept for the backward pass: it samples again.

    Args:
        image: (B, C, H, W), any floating type.
        offset: (B, G, K, 2, h, W), (dy, dx) in pixels, for the first h <= H rows; C is a multiple
            of G. For a band of rows further down, add its first row to dy.
        modulation: (B, G, K, h, W), factors in 0..1.
        weight: (C_out, C, k, k) with K = k * k, k odd.
        bias: (C_out,).

    Returns:
        (B, C_out, h, W) in the image's type, channels last in memory.

    Source: Zhu et al., Deformable ConvNets v2, eq. 1.
    """
    dtype = compute_dtype(image.dtype)
    out: Tensor = _deform_conv(
        image,
        offset.to(dtype),
        modulation.to(dtype),
        weight.to(image.dtype),
        bias.to(image.dtype),
    )
    return out


@without_autocast
def deform_conv_by_torch(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """The operator in torch's own functions, for any device."""
    B, _, H, W = image.shape
    G, h = offset.shape[1], offset.shape[-2]
    kernel, start = weight.flatten(1).to(offset.dtype), bias.to(offset.dtype)[:, None]
    out: Tensor = _deform_conv_fake(image, offset, modulation, weight, bias)
    for images, rows in chunks(B, h, W):
        source = image[images].to(offset.dtype).unflatten(1, (G, -1))
        columns = Points.from_offset(offset, (images, rows), H).sample(source)
        columns *= modulation[images, :, None, :, rows]
        flat = columns.flatten(4).flatten(1, 3)
        result = torch.baddbmm(start, kernel.expand(len(flat), -1, -1), flat)
        out[images, :, rows] = result.unflatten(2, (-1, W))
    return out


_deform_conv = Operator("deform_conv2d", deform_conv_by_torch)


@_deform_conv.register_kernel("cuda")
@without_autocast
def deform_conv_on_cuda(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """The operator on CUDA: the kernel samples, a matrix product does the rest."""
    kernels = kernels_for(image)
    if kernels is None:
        return deform_conv_by_torch(image, offset, modulation, weight, bias)
    out: Tensor = _deform_conv_fake(image, offset, modulation, weight, bias)
    kernel, start = weight.flatten(1), bias[:, None]
    for some in _some_images(image):
        columns = kernels.sample(image[some], offset[some], modulation[some])
        columns = columns.flatten(3).flatten(1, 2)
        result = torch.baddbmm(start, kernel.expand(len(columns), -1, -1), columns)
        out[some] = result.unflatten(2, out.shape[2:])
    return out


@_deform_conv.register_fake
def _deform_conv_fake(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    h, W = offset.shape[-2:]
    return torch.empty(
        (len(image), weight.shape[0], h, W),
        dtype=image.dtype,
        device=image.device,
        memory_format=torch.channels_last,
    )


@without_autocast
def deform_conv_backward_by_torch(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five inputs in torch's own functions."""
    B, _, H, W = image.shape
    G, h = offset.shape[1], offset.shape[-2]
    kernel = weight.flatten(1).to(offset.dtype)
    grads = _deform_conv_grads(image, offset, modulation, weight)
    grad_image, grad_offset, grad_modulation, grad_weight, grad_bias = grads
    for images, rows in chunks(B, h, W):
        source = image[images].to(offset.dtype).unflatten(1, (G, -1))
        points = Points.from_offset(offset, (images, rows), H)
        incoming = grad[images, :, rows].to(offset.dtype).flatten(2)
        factor = modulation[images, :, None, :, rows]
        sampled = points.sample(source)
        to_columns = torch.bmm(kernel.t().expand(len(incoming), -1, -1), incoming).view(
            sampled.shape
        )
        grad_modulation[images, :, :, rows] = (to_columns * sampled).sum(2)
        columns = sampled.mul_(factor).flatten(4).flatten(1, 3)
        grad_weight += (incoming @ columns.mT).sum(0).view_as(grad_weight)
        grad_bias += incoming.sum((0, 2))
        to_image, to_offset = points.sample_backward(to_columns.mul_(factor), source)
        grad_image[images] += to_image.flatten(1, 2)
        grad_offset[images, ..., rows, :] = to_offset
    return (
        grad_image.to(image.dtype),
        grad_offset,
        grad_modulation,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype),
    )


_deform_conv_backward = Operator("deform_conv2d_backward", deform_conv_backward_by_torch)


@_deform_conv_backward.register_kernel("cuda")
@without_autocast
def deform_conv_backward_on_cuda(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five inputs on CUDA."""
    kernels = kernels_for(image)
    if kernels is None:
        return deform_conv_backward_by_torch(grad, image, offset, modulation, weight)
    kernel = weight.flatten(1)
    grads = _deform_conv_grads(image, offset, modulation, weight)
    grad_image, grad_offset, grad_modulation, grad_weight, grad_bias = grads
    grad_image = grad_image.to(image.dtype)
    for some in _some_images(image):
        here = (image[some], offset[some], modulation[some])
        incoming = grad[some].flatten(2)
        columns = kernels.sample(*here)
        to_columns = torch.bmm(kernel.t().expand(len(incoming), -1, -1), incoming)
        to_here = kernels.sample_backward(to_columns.view(columns.shape), *here)
        grad_image[some], grad_offset[some], grad_modulation[some] = to_here
        products = torch.bmm(incoming, columns.flatten(3).flatten(1, 2).mT)
        grad_weight += products.sum(0, dtype=grad_weight.dtype).view_as(grad_weight)
        grad_bias += incoming.sum((0, 2), dtype=grad_bias.dtype)
    return (
        grad_image,
        grad_offset,
        grad_modulation,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype),
    )


def _some_images(image: Tensor) -> Iterator[slice]:
    """Cut a batch so that the samples of `CUDA_PIXELS` pixels are in memory at once."""
    together = max(1, CUDA_PIXELS // image[0, 0].numel())
    for first in range(0, len(image), together):
        yield slice(first, first + together)


@_deform_conv_backward.register_fake
def _deform_conv_backward_fake(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads = _deform_conv_grads(image, offset, modulation, weight)
    grad_image, grad_offset, grad_modulation, grad_weight, grad_bias = grads
    return (
        grad_image.to(image.dtype),
        grad_offset,
        grad_modulation,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype),
    )


def _deform_conv_grads(
    image: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Contiguous gradients to be filled: sums start at zero, the others unset."""
    return (
        offset.new_zeros(image.shape),
        offset.new_empty(offset.shape),
        offset.new_empty(modulation.shape),
        offset.new_zeros(weight.shape),
        offset.new_zeros(weight.shape[0]),
    )


def _deform_conv_save(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    output: Tensor,
) -> None:
    ctx.save_for_backward(*inputs[:4])


def _deform_conv_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _deform_conv_backward(
        grad, *ctx.saved_tensors
    )
    return grads


_deform_conv.register_autograd(_deform_conv_autograd, setup_context=_deform_conv_save)
