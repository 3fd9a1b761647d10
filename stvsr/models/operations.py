"""Count the operations of a network's forward pass, without doing them."""

from typing import Any

import torch

from stvsr.models.base import StvsrModel


def count_operations(model: StvsrModel, clip: tuple[int, int, int]) -> int:
    """Operations of convolutions and matrix products on one clip; a multiply-add is two.

    What our operators do inside counts by formula; bilinear sampling, softmaxes and all else that
    is elementwise count as none.

    Args:
        model: the network, on any device.
        clip: (T_in, H, W) of the LR frames; sizes are rounded up to what the network takes.
    """
    # here, since they take 70 MiB that a process without a count does not need
    from torch._subclasses import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    formulas: dict[Any, Any] = {
        torch.ops.stvsr.deform_conv2d: _deform_conv,
        torch.ops.stvsr.window_attention: _window_attention,
        torch.ops.stvsr.cross_window_attention: _cross_window_attention,
        torch.ops.stvsr.deformable_attention: _deformable_attention,
    }
    T_in, H, W = clip
    H, W = H + -H % model.size_multiple, W + -W % model.size_multiple
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    # without numbers; with gradients, so that nothing is done twice, as it is in bands
    with FakeTensorMode(allow_non_fake_inputs=True), counter, torch.enable_grad():
        model.super_resolve(torch.rand(1, T_in, 3, H, W, device=device))
    return int(counter.get_total_flops())


def _deform_conv(image: Any, offset: Any, modulation: Any, weight: Any, *_: Any, **__: Any) -> int:
    B, _C, H, W = image
    return int(2 * B * H * W * weight[0] * weight[1] * weight[2] * weight[3])


def _window_attention(qkv: Any, *_: Any, **__: Any) -> int:
    windows, pixels, channels = qkv
    return int(2 * 2 * windows * pixels * pixels * channels // 3)


def _cross_window_attention(q: Any, kv: Any, *_: Any, **__: Any) -> int:
    windows, pixels, channels = q
    return int(2 * 2 * windows * pixels * kv[1] * channels)


def _deformable_attention(
    query: Any, key: Any, value: Any, offset: Any, modulation: Any, kept: int, **__: Any
) -> int:
    B, N, E, H, W = key
    return int(2 * B * N * E * H * W * (offset[3] + kept))
