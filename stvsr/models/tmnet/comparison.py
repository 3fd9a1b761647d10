"""Locally-temporal feature comparison: each frame with its two neighbours (TMNet)."""

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import as_clip
from stvsr.models.layers.neighbours import neighbour_fusion, offset_features
from stvsr.models.layers.parts import by_images, by_parts
from stvsr.models.layers.pcd import DeformableConv2d, lrelu


class LFC(nn.Module):
    """Adds to each map what its neighbours, aligned to it at one level, have for it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.offset_before = offset_features(channels)
        self.offset_after = offset_features(channels)
        self.dcn_before = DeformableConv2d(channels, groups)
        self.dcn_after = DeformableConv2d(channels, groups)
        self.fusion = neighbour_fusion(channels)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, C, H, W); at the ends, a map is its own neighbour."""
        maps = sequence.unbind(1)
        last = len(maps) - 1

        def some(part: slice) -> Tensor:
            here = range(len(maps))[part]
            times = [max(t - 1, 0) for t in here], [*here], [min(t + 1, last) for t in here]
            before, frame, after = (torch.cat([maps[t] for t in each]) for each in times)
            return by_images(self._compare, before, frame, after)

        compared = by_parts(some, len(maps), maps[0][:, 0].numel(), sequence.device)
        return as_clip(compared, len(maps)).transpose(0, 1)

    def _compare(self, before: Tensor, frame: Tensor, after: Tensor) -> Tensor:
        """Three maps (B, C, H, W) -> the one in the middle with what the others have for it."""
        aligned = (
            lrelu(dcn(neighbour, offsets(torch.cat([neighbour, frame], dim=1))))
            for neighbour, offsets, dcn in (
                (before, self.offset_before, self.dcn_before),
                (after, self.offset_after, self.dcn_after),
            )
        )
        previous, following = aligned
        gained: Tensor = self.fusion(torch.cat([previous, frame, following], dim=1))
        return frame + gained
