"""The convolutions of STINet. `low` is the resolution of LR frames, `high` that of HR frames."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.parts import slices
from stvsr.models.layers.pcd import conv3x3, lrelu

SIDE, STRIDE, PADDING = 8, 4, 2
"""Kernel, stride and padding of the convolutions between the two resolutions."""


class Conv(nn.Module):
    """A 3x3 convolution and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return lrelu(self.conv(images))


class Down(nn.Module):
    """From high to low, and LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, SIDE, STRIDE, PADDING)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, 4H, 4W) -> (B, C, H, W)."""
        return lrelu(self.conv(images))


class Up(nn.Module):
    """From low to high, and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, SIDE, STRIDE, PADDING)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 4H, 4W)."""
        return lrelu(self.deconv(images))


class ActiveResidualBlock(nn.Module):
    """`lrelu(x + conv2(lrelu(conv1(x))))`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        residual: Tensor = self.conv2(lrelu(self.conv1(images)))
        return lrelu(residual.add_(images))


def parts_of(count: int, clip: Tensor) -> Iterator[slice]:
    """Which of `count` frames or gaps to take at a time, of clips (B, N, C, H, W); see `slices`."""
    pixels = len(clip) * clip[0, 0, 0].numel() * STRIDE**2  # most of the work is on HR maps
    return slices(count, pixels, clip.device)


def joined(maps: list[Tensor]) -> Tensor:
    """Maps (B, C, H, W) as one batch, without a copy where there is one."""
    return torch.cat(maps) if len(maps) > 1 else maps[0]


def enlarge(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 4H, 4W), bilinear, the corners' centres staying where they are."""
    return F.interpolate(images, scale_factor=STRIDE, mode="bilinear", align_corners=True)
