"""Long-short term feature interpolation: the map between each two frames (STDAN, section 2.1).

`D` is the two directions of time: every step handles the sequence and its reverse in one batch.
"""

import itertools

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import FeaturePyramid, as_clip, as_images
from stvsr.models.layers.interpolation import align_pairs
from stvsr.models.layers.pcd import PcdAlignment, Pyramid, StateAlignment, conv3x3, lrelu


class LSTFI(nn.Module):
    """Each gap from its two neighbours, and from a hidden state that carries all the others."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels)
        self.alignment = PcdAlignment(channels, groups)
        self.state_alignment = StateAlignment(channels, groups)
        self.join_state = nn.Conv2d(2 * channels, channels, 1)
        self.next_state1 = conv3x3(channels, channels)
        self.next_state2 = conv3x3(channels, channels)
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C, H, W) -> gaps (B, N-1, C, H, W); H and W multiples of 4."""
        steps = self._recur(self.state_alignment.levels_by_step(self._align(frames)))
        by_direction = [step.chunk(2) for step in steps]
        gaps = [
            self.fusion(torch.cat([forward, backward], dim=1))
            for (forward, _), (_, backward) in zip(
                by_direction, reversed(by_direction), strict=True
            )
        ]
        return torch.stack(gaps, dim=1)

    def _align(self, frames: Tensor) -> Tensor:
        """Each gap from its neighbours, in the order of time and against it: (D * B, N-1, ...).

        That does not depend on the state, so all gaps are aligned both ways in one batch.
        """
        levels = [
            as_clip(level, len(frames)).unbind(1) for level in self.pyramid(as_images(frames))
        ]
        forth = list(itertools.pairwise(range(frames.shape[1])))
        back = [(second, first) for first, second in reversed(forth)]
        aligned = align_pairs(self.alignment, levels, [*forth, *back])
        by_direction: Tensor = aligned.unflatten(0, (2, len(forth), -1))
        return by_direction.transpose(1, 2).flatten(0, 1)

    def _recur(self, levels: list[FeaturePyramid]) -> list[Tensor]:
        """Run the cell along the gaps of both directions: each step's (D * B, C, H, W)."""
        state = torch.zeros_like(levels[0][0])
        results: list[Tensor] = []
        for features in levels:
            if results:
                state = self.next_state2(lrelu(self.next_state1(results[-1])))
            aligned = self.state_alignment(features, state)
            results.append(self.join_state(torch.cat([aligned, features[0]], dim=1)))
        return results
