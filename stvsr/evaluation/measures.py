"""Measures of frames by name: for every kind of scoring."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from stvsr.core.errors import CheckpointError, InputError
from stvsr.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y, to_uint8

MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr_y": psnr_y,
    "ssim_y": ssim_y,
    "psnr_rgb": psnr_rgb,
    "ssim_rgb": ssim_rgb,
}
"""The measures of one frame that every score has, in the order in which tables show them. PSNR is
in dB, SSIM in [-1, 1]."""

ON_Y = ("psnr_y", "ssim_y")
"""The measures of an evaluation in the pipeline."""


def output_to_uint8(output: Tensor, clips: Sequence[str]) -> Tensor:
    """A network's output as 8-bit frames, on the same device.

    Args:
        output: (B, T, 3, H, W) in [0, 1].
        clips: names of the B clips.

    Raises:
        CheckpointError: a value is NaN or infinite, which clamping would turn into black or white
            pixels; the text names the clip.
    """
    for clip, frames in zip(clips, output, strict=True):
        bad = frames.numel() - int(torch.isfinite(frames).sum())
        if bad:
            raise CheckpointError(
                f"clip {clip}: {bad} of {frames.numel()} values of the network's output are NaN or "
                "infinite, expected finite ones; its weights are of no use: take an earlier "
                "checkpoint, or train again"
            )
    return to_uint8(output)


def measure_frames(
    sr: Tensor, hr: Tensor, names: Iterable[str] = tuple(MEASURES), *, crop: int = 0
) -> list[dict[str, float]]:
    """Measure frames one by one, so that memory does not grow with their number.

    Args:
        sr: (T, 3, H, W), uint8 RGB.
        hr: same shape and type, the ground truth.
        names: keys of `MEASURES`.
        crop: pixels that are left out along each border.

    Returns:
        One mapping per frame; a PSNR is infinite where both frames are equal.

    Raises:
        InputError: both differ in shape, or frames are too small to crop or for SSIM's window.
    """
    sr, hr = crop_border(sr, crop), crop_border(hr, crop)
    return [
        {name: float(MEASURES[name](one, truth)) for name in names}
        for one, truth in zip(sr, hr, strict=True)
    ]


def crop_border(frames: Tensor, crop: int) -> Tensor:
    """Frames (…, H, W) without `crop` pixels along each border.

    Raises:
        InputError: nothing would be left.
    """
    height, width = frames.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise InputError(f"frames of {width}x{height} pixels cannot lose {crop} along each border")
    return frames[..., crop : height - crop, crop : width - crop]
