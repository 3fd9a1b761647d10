"""Losses: what training makes small."""

from typing import Literal

from torch import Tensor

from stvsr.core.errors import InputError

Reduction = Literal["mean", "sum"]
"""How a loss over all elements becomes one number."""

EPSILON = 1e-6
"""Keeps the square root smooth where the difference is zero."""


def charbonnier(sr_clip: Tensor, hr_clip: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Charbonnier loss, sqrt(d² + 1e-6) with d = sr_clip - hr_clip.

    Args:
        sr_clip: any shape, usually (B, T_out, 3, 4H, 4W) in [0, 1].
        hr_clip: same shape, the ground truth.
        reduction: "mean" averages over all elements, so that the step does not depend on the
            batch's size; "sum" adds them up, as the published training code does.

    Returns:
        A tensor without dimensions, at least sqrt(1e-6) = 1e-3 per element.

    Raises:
        InputError: the shapes differ (they would silently be broadcast).

    Source: Lai et al., "Deep Laplacian Pyramid Networks" (CVPR 2017), section 3.3.
    """
    if sr_clip.shape != hr_clip.shape:
        raise InputError(
            f"charbonnier: sr_clip is {tuple(sr_clip.shape)} and hr_clip is "
            f"{tuple(hr_clip.shape)}; both must be alike"
        )
    distances = ((sr_clip - hr_clip).square() + EPSILON).sqrt()
    return distances.mean() if reduction == "mean" else distances.sum()
