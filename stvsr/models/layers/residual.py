"""Residual blocks without normalisation."""

from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.pcd import zero_conv3x3


class ResidualBlock(nn.Module):
    """`x + conv2(relu(conv1(x)))`; weights start from Kaiming-normal times 0.1, biases at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = zero_conv3x3(channels, channels)
        self.conv2 = zero_conv3x3(channels, channels)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data.mul_(0.1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        residual: Tensor = self.conv2(F.relu_(self.conv1(images)))
        return images + residual


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks, one after the other."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
