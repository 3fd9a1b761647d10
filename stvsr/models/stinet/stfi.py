"""Spatial-temporal feature interpolation: the maps between each two frames (STINet, III-B)."""

import torch
from torch import Tensor, nn

from stvsr.models.stinet.blocks import ActiveResidualBlock, Conv, Down, Up, enlarge


class STFI(nn.Module):
    """LR and HR maps between two frames from theirs and the flows; both go through shared blocks.

    The published network has no skip concatenations around the shared blocks; the paper does.
    """

    def __init__(self, channels: int, shared_blocks: int) -> None:
        super().__init__()
        motion = channels // 2
        self.from_flows = Conv(4, motion)
        self.motion = nn.Sequential(
            ActiveResidualBlock(motion), ActiveResidualBlock(motion), Conv(motion, channels)
        )
        self.shared = nn.Sequential(*(ActiveResidualBlock(channels) for _ in range(shared_blocks)))
        self.low_up = Up(3 * channels, channels)
        self.low_block1 = ActiveResidualBlock(channels)
        self.low_block2 = ActiveResidualBlock(channels)
        self.low_down = Down(channels)
        self.high_first = Conv(3 * channels, channels)
        self.high_block = ActiveResidualBlock(channels)
        self.high_last = Conv(channels, channels)

    def forward(
        self, low: tuple[Tensor, Tensor], high: tuple[Tensor, Tensor], flows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Interpolate a batch of gaps.

        Args:
            low: LR maps of the frames before and after, (B, C, H, W) each.
            high: their HR maps, (B, C, 4H, 4W) each.
            flows: from the time between to the next and to the previous frame, (B, 4, H, W).

        Returns:
            The LR and the HR map of the time between.
        """
        motion = self.motion(self.from_flows(flows))
        between_low = self.low_block1(self.low_up(torch.cat([*low, motion], dim=1)))
        between_low = self.low_down(self.low_block2(self.shared(between_low)))
        between_high = self.high_first(torch.cat([*high, enlarge(motion)], dim=1))
        between_high = self.high_last(self.high_block(self.shared(between_high)))
        return between_low, between_high
