"""Feature maps between frames, from their two neighbours."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import as_clip, as_images
from stvsr.models.layers.parts import by_images, by_parts
from stvsr.models.layers.pcd import PcdAlignment, Pyramid


class DeformableInterpolation(nn.Module):
    """Each gap from its two neighbours, aligned to it by PCD (Zooming Slow-Mo, section 3.1)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels)
        self.alignment = PcdAlignment(channels, groups)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C, H, W) -> gaps (B, N-1, C, H, W); H and W multiples of 4."""
        levels = [
            as_clip(level, len(frames)).unbind(1) for level in self.pyramid(as_images(frames))
        ]
        pairs = list(itertools.pairwise(range(frames.shape[1])))
        gaps = align_pairs(self.alignment, levels, pairs)
        return as_clip(gaps, len(pairs)).transpose(0, 1)


class Blending(nn.Module):
    """Each gap from its two neighbours as they are: 1x1 kernels alpha and beta (ZSM, eq. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C, H, W) -> gaps (B, N-1, C, H, W)."""
        neighbours = torch.cat([frames[:, :-1], frames[:, 1:]], dim=2)
        return as_clip(self.fusion(as_images(neighbours)), len(frames))


def align_pairs(
    alignment: Callable[..., Tensor],
    levels: Sequence[Sequence[Tensor]],
    pairs: Sequence[tuple[int, int]],
) -> Tensor:
    """Align the first frame of each pair with the second, many pairs in one batch.

    Args:
        alignment: takes two maps' levels (b, ...), gives equally many maps of each pair.
        levels: of each level, each frame's map (B, C, h, w).
        pairs: two frames' indexes each.

    Returns:
        The maps between them, pair by pair: (len(pairs) * B * K, C, H, W), K of each.
    """

    def align(*maps: Tensor) -> Tensor:
        return alignment(maps[:3], maps[3:])

    def some(part: slice) -> Tensor:
        sides = zip(*pairs[part], strict=True)
        maps = (torch.cat([level[i] for i in side]) for side in sides for level in levels)
        return by_images(align, *maps)

    frame = levels[0][0]
    return by_parts(some, len(pairs), frame[:, 0].numel(), frame.device)
