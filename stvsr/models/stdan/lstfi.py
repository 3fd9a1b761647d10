"""Long-short term feature interpolation: the map between each two frames (STDAN, section 2.1).

`D` is the two directions of time: every step handles the sequence and its reverse in one batch.
"""

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import as_clip, as_images
from stvsr.models.layers.interpolation import align_neighbours
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
        levels = [as_clip(level, len(frames)) for level in self.pyramid(as_images(frames))]
        # the alignment does not depend on the state: all gaps, both ways, in one batch
        both_ways = [torch.cat([level, level.flip(1)]) for level in levels]
        short_term = align_neighbours(self.alignment, *both_ways)
        forward, backward = self._recur(short_term).chunk(2)
        gaps = self.fusion(as_images(torch.cat([forward, backward.flip(1)], dim=2)))
        return as_clip(gaps, len(frames))

    def _recur(self, short_term: Tensor) -> Tensor:
        """Run the cell along the gaps of both directions: (D * B, N-1, C, H, W) -> the same."""
        levels = self.state_alignment.levels_by_step(short_term)
        state = torch.zeros_like(levels[0][0])
        results: list[Tensor] = []
        for features in levels:
            if results:
                state = self.next_state2(lrelu(self.next_state1(results[-1])))
            aligned = self.state_alignment(features, state)
            results.append(self.join_state(torch.cat([aligned, features[0]], dim=1)))
        return torch.stack(results, dim=1)
