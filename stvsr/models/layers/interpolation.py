"""Feature maps between frames, from their two neighbours."""

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import as_clip, as_images
from stvsr.models.layers.parts import by_images
from stvsr.models.layers.pcd import PcdAlignment, Pyramid


class DeformableInterpolation(nn.Module):
    """Each gap from its two neighbours, aligned to it by PCD (Zooming Slow-Mo, section 3.1)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels)
        self.alignment = PcdAlignment(channels, groups)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C, H, W) -> gaps (B, N-1, C, H, W); H and W multiples of 4."""
        levels = (as_clip(level, len(frames)) for level in self.pyramid(as_images(frames)))
        return align_neighbours(self.alignment, *levels)


class Blending(nn.Module):
    """Each gap from its two neighbours as they are: 1x1 kernels alpha and beta (ZSM, eq. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C, H, W) -> gaps (B, N-1, C, H, W)."""
        neighbours = torch.cat([frames[:, :-1], frames[:, 1:]], dim=2)
        return as_clip(self.fusion(as_images(neighbours)), len(frames))


def align_neighbours(alignment: nn.Module, *levels: Tensor) -> Tensor:
    """Align each two neighbours, all in one batch: levels (B, N, C, h, w) -> (B, N-1, C, H, W)."""

    def align(*pairs: Tensor) -> Tensor:
        aligned: Tensor = alignment(pairs[:3], pairs[3:])
        return aligned

    first = [as_images(level[:, :-1]) for level in levels]
    second = [as_images(level[:, 1:]) for level in levels]
    return as_clip(by_images(align, *first, *second), len(levels[0]))
