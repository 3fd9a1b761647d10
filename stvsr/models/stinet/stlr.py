"""Spatial-temporal local refinement: each frame from its two neighbours (STINet, III-C)."""

import torch
from torch import Tensor, nn

from stvsr.models.layers.neighbours import neighbour_fusion, offset_features
from stvsr.models.layers.parts import by_rows, cut
from stvsr.models.layers.pcd import DeformableConv2d, lrelu
from stvsr.models.stinet.blocks import Down, Up, joined, parts_of


class STLR(nn.Module):
    """Aligns the neighbours' LR and HR maps to a frame's, and fuses them; weights serve both.

    Attributes:
        interacts: whether the offset features of both resolutions are mixed (Inet).
    """

    def __init__(self, channels: int, groups: int, *, interacts: bool) -> None:
        super().__init__()
        self.interacts = interacts
        self.offset_before = offset_features(channels)
        self.offset_after = offset_features(channels)
        self.dcn_before = DeformableConv2d(channels, groups)
        self.dcn_after = DeformableConv2d(channels, groups)
        self.offset_down = Down(channels)
        if interacts:
            self.mix = nn.Conv2d(2 * channels, channels, 1)
            self.mix_low = nn.Conv2d(channels, channels, 1)
            self.mix_high = nn.Conv2d(channels, channels, 1)
        self.down = Down(channels)
        self.up = Up(channels, channels)
        self.fusion = neighbour_fusion(channels)

    def forward(self, low: list[Tensor], high: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Refine the maps of all frames, which have no others at the ends than their own.

        Args:
            low: each frame's LR map (B, C, H, W).
            high: each frame's HR map (B, C, 4H, 4W); the list is overwritten, to free its memory.

        Returns:
            The refined LR and HR maps.
        """
        last, clips = len(low) - 1, len(low[0])
        parts = list(parts_of(len(low), low[0][:, None]))
        from_high = [m for part in parts for m in self.down(joined(high[part])).split(clips)]
        refined_low, refined_high = [], []
        for part in parts:
            here = range(last + 1)[part]
            times = [max(t - 1, 0) for t in here], [*here], [min(t + 1, last) for t in here]
            lows, highs, downs = (
                [joined([maps[t] for t in each]) for each in times]
                for maps in (low, high, from_high)
            )
            new_low, new_high = self._refine(lows, highs, downs)
            refined_low += new_low.split(clips)
            refined_high += new_high.split(clips)
            high[: here[-1]] = [high[here[-1]]] * here[-1]  # no later frame needs those before
        return refined_low, refined_high

    def _refine(
        self, low: list[Tensor], high: list[Tensor], from_high: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Refine the middle of three frames' maps; `from_high` are the HR maps taken down."""
        sides = ((0, self.offset_before, self.dcn_before), (2, self.offset_after, self.dcn_after))
        for side, offsets, dcn in sides:
            for_low = offsets(torch.cat([low[side], low[1]], dim=1))
            for_high = self.offset_down(offsets(torch.cat([high[side], high[1]], dim=1)))
            for_low, for_high = self._interact(for_low, for_high)
            low[side] = lrelu(dcn(low[side], for_low))
            high[side] = self.up(lrelu(dcn(from_high[side], for_high)))
        return low[1] + self._fuse(low), high[1] + self._fuse(high)

    def _fuse(self, maps: list[Tensor]) -> Tensor:
        """What three aligned maps (B, C, H, W) add to the middle one; without gradients, in bands.

        The convolutions see one pixel, so no more of three times three maps has to be there.
        """

        def some(rows: slice) -> Tensor:
            gained: Tensor = self.fusion(torch.cat([cut(each, rows) for each in maps], dim=1))
            return gained

        return by_rows(some, maps[1])

    def _interact(self, for_low: Tensor, for_high: Tensor) -> tuple[Tensor, Tensor]:
        """Mix two maps of offset features (B, C, H, W)."""
        if not self.interacts:
            return for_low, for_high
        mixed = self.mix(torch.cat([for_low, for_high], dim=1))
        return self.mix_low(mixed), self.mix_high(mixed)
