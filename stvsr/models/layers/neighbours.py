"""Parts of the alignment of a frame's two neighbours to it, at one level (STINet, TMNet)."""

from torch import nn

from stvsr.models.layers.pcd import LRELU_SLOPE, conv3x3


def offset_features(channels: int) -> nn.Sequential:
    """Of [neighbour, frame], (B, 2C, H, W) -> (B, C, H, W)."""
    return nn.Sequential(
        conv3x3(2 * channels, channels),
        nn.LeakyReLU(LRELU_SLOPE, inplace=True),
        conv3x3(channels, channels),
    )


def neighbour_fusion(channels: int) -> nn.Sequential:
    """Of [previous, frame, next], each aligned to the frame, (B, 3C, H, W) -> (B, C, H, W)."""
    layers: list[nn.Module] = []
    for outputs in (3, 3, 3, 1):
        conv = nn.Conv2d(3 * channels, outputs * channels, 1)
        layers += [conv, nn.LeakyReLU(LRELU_SLOPE, inplace=True)]
    return nn.Sequential(*layers[:-1])
