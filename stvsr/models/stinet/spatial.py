"""The spatial network S-SR: a frame's HR feature by back-projection.

Source: STINet, section III-A, and its reference [43], Haris et al., "Deep Back-Projection Networks
for Super-Resolution" (CVPR 2018), section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stvsr.models.layers.pcd import conv3x3
from stvsr.models.stinet.blocks import PADDING, SIDE, STRIDE


class ConvPrelu(nn.Module):
    """A convolution and a PReLU with one slope."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.act = nn.PReLU()

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        active: Tensor = self.act(self.conv(images))
        return active


class Projection(nn.Module):
    """To the other resolution, back, and the way there again for what was lost."""

    def __init__(self, channels: int, maps: int, *, up: bool) -> None:
        super().__init__()
        conv, back = (nn.ConvTranspose2d, nn.Conv2d) if up else (nn.Conv2d, nn.ConvTranspose2d)
        self.reduce: nn.Module = nn.Identity()
        if maps > 1:
            self.reduce = ConvPrelu(nn.Conv2d(maps * channels, channels, 1))
        self.project1 = ConvPrelu(conv(channels, channels, SIDE, STRIDE, PADDING))
        self.project2 = ConvPrelu(back(channels, channels, SIDE, STRIDE, PADDING))
        self.project3 = ConvPrelu(conv(channels, channels, SIDE, STRIDE, PADDING))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """All earlier maps of one resolution, newest first -> a map (B, C, ...) of the other."""
        x = self.reduce(torch.cat(list(maps), dim=1))
        first = self.project1(x)
        lost = self.project2(first) - x
        projected: Tensor = first + self.project3(lost)
        return projected


class SpatialNetwork(nn.Module):
    """Up-projections and, between them, down-projections, each from all maps before it."""

    def __init__(self, channels: int, projections: int) -> None:
        super().__init__()
        self.feature0 = ConvPrelu(conv3x3(3, channels))
        self.feature1 = ConvPrelu(nn.Conv2d(channels, channels, 1))
        self.ups = nn.ModuleList(
            Projection(channels, max(1, i), up=True) for i in range(projections)
        )
        self.downs = nn.ModuleList(Projection(channels, i, up=False) for i in range(1, projections))
        self.fusion = conv3x3(projections * channels, channels)
        self.picture = conv3x3(channels, 3)
        """The published checkpoint's picture of the frame, which STINet does not use."""

    def forward(self, images: Tensor) -> Tensor:
        """Frames (B, 3, H, W) -> HR features (B, C, 4H, 4W)."""
        low: list[Tensor] = []
        high = [self.ups[0]([self.feature1(self.feature0(images))])]
        for up, down in zip(self.ups[1:], self.downs, strict=True):
            low = [down(high), *low]
            high = [up(low), *high]
        fused: Tensor = self.fusion(torch.cat(high, dim=1))
        return fused
