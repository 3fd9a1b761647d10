"""Scores of a network on whole clips."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from stvsr.core.clip import ClipBatch, input_indices, interpolated_indices
from stvsr.metrics import finite_mean, psnr_y, ssim_y, to_uint8
from stvsr.models import upscale_bicubic_linear

SCORE = "psnr_y"
"""The score that decides which checkpoint is best: PSNR-Y over all frames, in dB."""


@torch.inference_mode()
def score_clips(model: nn.Module, clips: Iterable[ClipBatch]) -> list[dict[str, float]]:
    """PSNR-Y and SSIM-Y of each clip: over all frames, the input ones, the interpolated ones.

    Args:
        model: the network, as it is to be scored (evaluation mode).
        clips: batches on the network's device; lr_clip (B, T_in, 3, H, W).

    Returns:
        One mapping per clip, in order: "psnr_y", "psnr_y_input", "psnr_y_interpolated" in dB,
        "ssim_y", … and "bicubic_linear_psnr_y", …, the baseline's; a score that is infinite on
        every frame is left out.
    """
    return [scores for batch in clips for scores in _score_batch(model, batch)]


def mean_scores(per_clip: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each score over the clips that have it; the clips' order does not matter."""
    by_name: dict[str, list[float]] = {}
    for scores in per_clip:
        for name, value in scores.items():
            by_name.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in sorted(by_name.items())}


def _score_batch(model: nn.Module, batch: ClipBatch) -> list[dict[str, float]]:
    sr_clip, hr_clip = to_uint8(model(batch.lr_clip)), to_uint8(batch.hr_clip)
    baseline = to_uint8(upscale_bicubic_linear(batch.lr_clip))
    t_out = hr_clip.shape[1]
    parts = {
        "": tuple(range(t_out)),
        "_input": input_indices(t_out),
        "_interpolated": interpolated_indices(t_out),
    }
    measured = {
        "psnr_y": psnr_y(sr_clip, hr_clip),
        "ssim_y": ssim_y(sr_clip, hr_clip),
        "bicubic_linear_psnr_y": psnr_y(baseline, hr_clip),
    }
    scored: list[dict[str, float]] = []
    for clip in range(len(batch.keys)):
        means = {
            f"{name}{part}": finite_mean(frames[clip, list(indices)].tolist())
            for name, frames in measured.items()
            for part, indices in parts.items()
        }
        scored.append({name: mean for name, mean in means.items() if mean is not None})
    return scored
