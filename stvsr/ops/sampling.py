"""Deformable sampling: every pixel's k x k neighbours, each displaced and weighted."""

from typing import Any

from torch import Tensor

from stvsr.ops.cuda import kernels_for
from stvsr.ops.points import Points, chunks
from stvsr.ops.precision import compute_dtype
from stvsr.ops.registration import Operator


def deformable_sample(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """Sample every pixel's K displaced neighbours, bilinearly, times the modulation.

    Args:
        image: (B, C, H, W), any floating type.
        offset: (B, G, K, 2, h, W), (dy, dx) in pixels, for the first h <= H rows; C is a multiple
            of G. For a band of rows further down, add its first row to dy.
        modulation: (B, G, K, h, W), factors, usually in 0..1.

    Returns:
        (B, C, K, h, W) in the image's type.
    """
    dtype = compute_dtype(image.dtype)
    sampled: Tensor = _sample(image, offset.to(dtype), modulation.to(dtype))
    return sampled


def sample_by_torch(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """The operator in torch's own functions, for any device."""
    B, C, H, W = image.shape
    G, K = offset.shape[1:3]
    h = offset.shape[-2]
    out = image.new_empty(B, C, K, h, W)
    for images, rows in chunks(B, h, W):
        source = image[images].to(offset.dtype).unflatten(1, (G, -1))
        sampled = Points.from_offset(offset, (images, rows), H).sample(source)
        sampled *= modulation[images, :, None, :, rows]
        out[images, :, :, rows] = sampled.flatten(1, 2)
    return out


_sample = Operator("deformable_sample", sample_by_torch)


@_sample.register_kernel("cuda")
def sample_on_cuda(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """The operator on CUDA."""
    kernels = kernels_for(image)
    forward = sample_by_torch if kernels is None else kernels.sample
    sampled: Tensor = forward(image, offset, modulation)
    return sampled


@_sample.register_fake
def _sample_fake(image: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    return image.new_empty(*image.shape[:2], offset.shape[2], *offset.shape[-2:])


def sample_backward_by_torch(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of image, offset and modulation in torch's own functions."""
    B, _, H, W = image.shape
    G, h = offset.shape[1], offset.shape[-2]
    grads = _sample_grads(image, offset, modulation)
    grad_image, grad_offset, grad_modulation = grads
    for images, rows in chunks(B, h, W):
        source = image[images].to(offset.dtype).unflatten(1, (G, -1))
        points = Points.from_offset(offset, (images, rows), H)
        incoming = grad[images, :, :, rows].to(offset.dtype).unflatten(1, (G, -1))
        grad_modulation[images, :, :, rows] = (incoming * points.sample(source)).sum(2)
        incoming = incoming * modulation[images, :, None, :, rows]
        to_image, to_offset = points.sample_backward(incoming, source)
        grad_image[images] += to_image.flatten(1, 2)
        grad_offset[images, ..., rows, :] = to_offset
    return grad_image.to(image.dtype), grad_offset, grad_modulation


_sample_backward = Operator("deformable_sample_backward", sample_backward_by_torch)


@_sample_backward.register_kernel("cuda")
def sample_backward_on_cuda(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of image, offset and modulation on CUDA."""
    kernels = kernels_for(image)
    backward = sample_backward_by_torch if kernels is None else kernels.sample_backward
    grads: tuple[Tensor, Tensor, Tensor] = backward(grad, image, offset, modulation)
    return grads


@_sample_backward.register_fake
def _sample_backward_fake(
    grad: Tensor, image: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_image, grad_offset, grad_modulation = _sample_grads(image, offset, modulation)
    return grad_image.to(image.dtype), grad_offset, grad_modulation


def _sample_grads(
    image: Tensor, offset: Tensor, modulation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Contiguous gradients to be filled: the image's zero, the others unset."""
    return (
        offset.new_zeros(image.shape),
        offset.new_empty(offset.shape),
        offset.new_empty(modulation.shape),
    )


def _sample_save(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor],
    output: Tensor,
) -> None:
    ctx.save_for_backward(*inputs)


def _sample_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grads: tuple[Tensor, Tensor, Tensor] = _sample_backward(grad, *ctx.saved_tensors)
    return grads


_sample.register_autograd(_sample_autograd, setup_context=_sample_save)
