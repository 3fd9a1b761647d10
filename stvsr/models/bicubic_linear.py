"""The baseline every result is read against: bicubic in space, linear in time."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.core.clip import SCALE
from stvsr.models.base import StvsrModel
from stvsr.models.layers.frames import as_clip, interleave


def upscale_bicubic_linear(lr_clip: Tensor) -> Tensor:
    """Upscale each frame by Keys' cubic (a = -0.5) and put the mean of neighbours in the gaps.

    Args:
        lr_clip: (B, T_in, 3, H, W), RGB in [0, 1].

    Returns:
        (B, 2 * T_in - 1, 3, 4H, 4W) in the same type; the cubic may overshoot [0, 1].
    """
    frames = F.interpolate(
        # the antialiasing kernel is the one with a = -0.5; it has no bf16 on a CPU
        lr_clip.flatten(0, 1).to(torch.promote_types(lr_clip.dtype, torch.float32)),
        scale_factor=SCALE,
        mode="bicubic",
        antialias=True,
    )
    clip = as_clip(frames, len(lr_clip)).to(lr_clip.dtype)
    return interleave(clip, (clip[:, :-1] + clip[:, 1:]) / 2)


class BicubicLinear(StvsrModel):
    """`upscale_bicubic_linear` behind the door of a model; it has no parameters."""

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """See `upscale_bicubic_linear`."""
        return upscale_bicubic_linear(lr_clip)
