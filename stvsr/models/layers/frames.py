"""Between clips (B, T, C, H, W) and the images that 2-D layers take."""

import torch
from torch import Tensor

FeaturePyramid = tuple[Tensor, Tensor, Tensor]
"""Three levels of feature maps: at full, half and quarter resolution."""


def as_images(clip: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B * T, C, H, W), channels last in memory: convolutions want it so."""
    images = clip.flatten(0, 1)
    return images.contiguous(memory_format=torch.channels_last)


def as_clip(images: Tensor, clips: int) -> Tensor:
    """(B * T, C, H, W) -> (B, T, C, H, W) for B = `clips`."""
    clip: Tensor = images.unflatten(0, (clips, -1))
    return clip


def interleave(frames: Tensor, gaps: Tensor) -> Tensor:
    """Frame 1, gap 1, frame 2, ...: (B, N, ...) and K of each gap (B, (N-1)K, ...), in one clip."""
    by_gap = gaps.unflatten(1, (frames.shape[1] - 1, -1))
    following = torch.cat([by_gap, frames[:, 1:, None]], dim=2).flatten(1, 2)
    return torch.cat([frames[:, :1], following], dim=1)
