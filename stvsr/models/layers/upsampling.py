"""Upsampling by two with a convolution and a pixel shuffle."""

from torch import Tensor, nn

from stvsr.models.layers.pcd import conv3x3, lrelu


class DoubleSize(nn.Module):
    """conv C -> 4C', then PixelShuffle(2); C' is C unless it is given."""

    def __init__(self, channels: int, outputs: int | None = None) -> None:
        super().__init__()
        self.conv = conv3x3(channels, 4 * (outputs or channels))
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        doubled: Tensor = self.shuffle(self.conv(images))
        return doubled


def make_pictures(
    features: Tensor, upsample1: nn.Module, upsample2: nn.Module, hr: nn.Module, last: nn.Module
) -> Tensor:
    """(B, C, H, W) -> (B, 3, 4H, 4W), which look 1 + 1/2 + 1/4 + 1/4 rows of `features` far.

    Args:
        features: at low resolution.
        upsample1: to 2H x 2W, as all but the last followed by a LeakyReLU.
        upsample2: to 4H x 4W.
        hr: 3x3 convolution at that size.
        last: 3x3 convolution to 3 channels.
    """
    features = lrelu(upsample2(lrelu(upsample1(features))))
    pictures: Tensor = last(lrelu(hr(features)))
    return pictures


def keep_scale(module: nn.Module, slope: float = 1.0) -> None:
    """Start convolutions so that their output varies as much as their input does.

    PyTorch's default shrinks it to a third each time; behind a last convolution that starts at
    zero nothing calls the features back, and they die out in the first steps.

    Args:
        module: whose convolutions are meant.
        slope: of the LeakyReLU behind each; 1: there is none.
    """
    for conv in module.modules():
        if isinstance(conv, nn.ConvTranspose2d):  # whose kernel is its stride: C inputs per output
            nn.init.normal_(conv.weight, std=conv.in_channels**-0.5)
        elif isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, slope)
        else:
            continue
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
