"""The baseline every result is read against: bicubic in space, linear in time."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.core.clip import SCALE
from stvsr.models.base import MIDDLE, AnyTimeModel
from stvsr.models.layers.frames import as_clip, interleave


def upscale_bicubic_linear(lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
    """Upscale each frame by Keys' cubic (a = -0.5) and put mixes of neighbours in the gaps.

    Args:
        lr_clip: (B, T_in, 3, H, W), RGB in [0, 1].
        times: of each gap's mixes, 0 < t < 1.

    Returns:
        (B, T_in + (T_in - 1) * len(times), 3, 4H, 4W) in the same type; the cubic may overshoot
        [0, 1].
    """
    frames = F.interpolate(
        # the antialiasing kernel is the one with a = -0.5; it has no bf16 on a CPU
        lr_clip.flatten(0, 1).to(torch.promote_types(lr_clip.dtype, torch.float32)),
        scale_factor=SCALE,
        mode="bicubic",
        antialias=True,
    )
    clip = as_clip(frames, len(lr_clip)).to(lr_clip.dtype)
    mixes = [(1 - time) * clip[:, :-1] + time * clip[:, 1:] for time in times]
    return interleave(clip, torch.stack(mixes, dim=2).flatten(1, 2))


class BicubicLinear(AnyTimeModel):
    """`upscale_bicubic_linear` behind the door of a model; it has no parameters."""

    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """See `upscale_bicubic_linear`."""
        return upscale_bicubic_linear(lr_clip, times)
