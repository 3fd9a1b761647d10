"""Upsampling by two with a convolution and a pixel shuffle."""

from torch import Tensor, nn

from stvsr.models.layers.pcd import conv3x3


class DoubleSize(nn.Module):
    """conv C -> 4C, then PixelShuffle(2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, 4 * channels)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        doubled: Tensor = self.shuffle(self.conv(images))
        return doubled
