"""Deformable alignment of feature maps: pyramid, DCN, and the cascade over three levels (PCD).

Sources: EDVR's PCD alignment as used by Zooming Slow-Mo (arXiv 2002.11616, section 3.1) and STDAN
(arXiv 2203.06841, section 2.1); DCNv2 for the convolution.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.frames import FeaturePyramid, as_clip, as_images
from stvsr.models.layers.parts import by_images, by_rows, cut, from_row, with_halo
from stvsr.ops import modulated_deform_conv2d

POINTS = 9
"""Sampled points of a 3x3 deformable convolution."""


LRELU_SLOPE = 0.1
"""Slope of `lrelu` below zero."""


def lrelu(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.1, in place: `x` is a fresh result that nobody else reads."""
    return F.leaky_relu_(x, LRELU_SLOPE)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution with padding 1 and a bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def share_of_conv(conv: nn.Conv2d, images: Tensor, first: int) -> Tensor:
    """The share of some inputs in a convolution's result; that of the first has its bias too.

    Args:
        conv: the convolution.
        images: (B, C, H, W), its inputs from channel `first` on.
        first: index of the first of them.
    """
    weight = conv.weight[:, first : first + images.shape[1]]
    return F.conv2d(images, weight, None if first else conv.bias, padding=weight.shape[-1] // 2)


def zero_conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """`conv3x3` that starts at zero."""
    conv = conv3x3(inputs, outputs)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class Pyramid(nn.Module):
    """Levels 2 and 3 of a feature map, each a convolution of stride 2 and one of stride 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down2 = conv3x3(channels, channels, stride=2)
        self.conv2 = conv3x3(channels, channels)
        self.down3 = conv3x3(channels, channels, stride=2)
        self.conv3 = conv3x3(channels, channels)

    def forward(self, level1: Tensor) -> FeaturePyramid:
        """(B, C, H, W) -> itself, (B, C, H/2, W/2), (B, C, H/4, W/4)."""
        level2 = lrelu(self.conv2(lrelu(self.down2(level1))))
        level3 = lrelu(self.conv3(lrelu(self.down3(level2))))
        return level1, level2, level3


class OffsetConv(nn.Module):
    """The convolution that predicts offsets and modulations; it starts at zero.

    Its outputs are laid out (group, point, (dy, dx)), then (group, point) for the modulation.
    """

    def __init__(self, channels: int, groups: int, points: int) -> None:
        super().__init__()
        self.layout = (groups, points)
        self.conv = zero_conv3x3(channels, 3 * groups * points)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> offsets (B, G, K, 2, H, W), pixels; modulations (B, G, K, H, W), 0..1.

        Under autocast it stays in float32: bf16 resolves an offset of 10 pixels to 1/16 pixel.
        """
        with torch.autocast(features.device.type, enabled=False):
            raw = self.conv(features.to(self.conv.weight.dtype))
        groups, points = self.layout
        offset, modulation = raw.split([2 * groups * points, groups * points], dim=1)
        return (
            offset.unflatten(1, (groups, points, 2)),
            modulation.sigmoid().unflatten(1, (groups, points)),
        )


class DeformableConv2d(nn.Module):
    """Modulated deformable 3x3 convolution whose points come from a feature map beside it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv_offset = OffsetConv(channels, groups, POINTS)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, source: Tensor, features: Tensor) -> Tensor:
        """Convolve `source` (B, C, H, W) at the points that `features` (B, C, H, W) give."""

        def some(rows: slice) -> Tensor:
            around, inner = with_halo(rows, 1)
            offset, modulation = self.conv_offset(cut(features, around))
            offset = from_row(cut(offset, inner), rows.start)
            modulation = cut(modulation, inner)
            return modulated_deform_conv2d(source, offset, modulation, self.weight, self.bias)

        return by_rows(some, source)


def start_uniform(module: nn.Module) -> None:
    """Start a deformable convolution uniform in +-1/sqrt(fan-in), as Zooming Slow-Mo's do."""
    if isinstance(module, DeformableConv2d):
        bound = 1 / math.sqrt(module.weight[0].numel())
        nn.init.uniform_(module.weight, -bound, bound)


class PcdLevel(nn.Module):
    """One level of the cascade. All but the coarsest also take what the coarser level found."""

    def __init__(self, channels: int, groups: int, *, coarsest: bool) -> None:
        super().__init__()
        self.offset_conv1 = conv3x3(2 * channels, channels)
        self.offset_conv2 = conv3x3(channels if coarsest else 2 * channels, channels)
        self.dcn = DeformableConv2d(channels, groups)
        if not coarsest:
            self.offset_conv3 = conv3x3(channels, channels)
            self.fea_conv = conv3x3(2 * channels, channels)

    def compare(self, source: Tensor, other: Tensor) -> Tensor:
        """This level's first offset features: (B, C, H, W), as both maps are."""
        return lrelu(self.offset_conv1(torch.cat([source, other], dim=1)))

    def forward(
        self, source: Tensor, compared: Tensor, coarser: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Align `source` to what is between it and the map it was compared with.

        Args:
            source: (B, C, H, W), the map that is sampled.
            compared: (B, C, H, W), from `compare`.
            coarser: the next coarser level's results, (B, C, H/2, W/2) each.

        Returns:
            This level's offset features and aligned map, (B, C, H, W) each.
        """
        if coarser is None:
            features = lrelu(self.offset_conv2(compared))
            return features, self.sample(source, features)
        coarse_features, coarse_aligned = coarser
        # an offset of one coarse pixel is two fine ones
        features = torch.cat([compared, double(2 * coarse_features)], dim=1)
        features = lrelu(self.offset_conv3(lrelu(self.offset_conv2(features))))
        return features, self.sample(source, features, coarse_aligned)

    def sample(
        self, source: Tensor, features: Tensor, coarse_aligned: Tensor | None = None
    ) -> Tensor:
        """The aligned map, by offset features (B, C, H, W) and the coarser level's aligned map."""
        aligned: Tensor = self.dcn(source, features)
        if coarse_aligned is None:
            return lrelu(aligned)
        refined: Tensor = self.fea_conv(torch.cat([aligned, double(coarse_aligned)], dim=1))
        return refined


def double(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class PcdBranch(nn.Module):
    """Pyramid, cascading and deformable alignment of one map, guided by another."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.level3 = PcdLevel(channels, groups, coarsest=True)
        self.level2 = PcdLevel(channels, groups, coarsest=False)
        self.level1 = PcdLevel(channels, groups, coarsest=False)

    def forward(self, source: FeaturePyramid, other: FeaturePyramid) -> Tensor:
        """Pyramids of the sampled and of the guiding map -> the aligned map (B, C, H, W)."""
        first, second, third = (
            level.compare(*maps) for level, *maps in zip(self.levels, source, other, strict=True)
        )
        return self.align(source, (first, second, third))

    def align(self, source: FeaturePyramid, compared: FeaturePyramid) -> Tensor:
        """`forward` for pyramids that were compared level by level."""
        features, aligned = self.level3(source[2], compared[2])
        features, aligned = self.level2(source[1], compared[1], (features, aligned))
        _, aligned = self.level1(source[0], compared[0], (features, lrelu(aligned)))
        return aligned  # type: ignore[no-any-return]  # nn.Module's call is untyped

    @property
    def levels(self) -> tuple[PcdLevel, PcdLevel, PcdLevel]:
        """The finest first, as in a pyramid."""
        return self.level1, self.level2, self.level3


class PcdAlignment(nn.Module):
    """Both ways at once: the first map guided by the second, and the second by the first."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([PcdBranch(channels, groups) for _ in range(2)])
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, first: FeaturePyramid, second: FeaturePyramid) -> Tensor:
        """Two maps' pyramids -> the map between them, (B, C, H, W)."""
        return self.fuse(self.branches[0](first, second), self.branches[1](second, first))

    @property
    def ways(self) -> tuple[PcdBranch, PcdBranch]:
        """The branches that align the first and the second map."""
        return self.branches[0], self.branches[1]  # type: ignore[return-value]  # as made above

    def fuse(self, first: Tensor, second: Tensor) -> Tensor:
        """The aligned maps of both branches as one, (B, C, H, W)."""
        fused: Tensor = self.fusion(torch.cat([first, second], dim=1))
        return fused


class StateAlignment(nn.Module):
    """Alignment of a recurrent state to a feature map; both get pyramids of their own."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels)
        self.alignment = PcdAlignment(channels, groups)

    def levels_by_step(self, maps: Tensor) -> list[FeaturePyramid]:
        """The pyramids of a sequence of maps (B, T, C, H, W), made in one batch."""
        levels = (as_clip(level, len(maps)).unbind(1) for level in self.pyramid(as_images(maps)))
        return list(zip(*levels, strict=True))

    def forward(self, features: FeaturePyramid, state: Tensor) -> Tensor:
        """A map's levels (from `levels_by_step`) and the state (B, C, H, W) -> (B, C, H, W)."""

        def align(*levels: Tensor) -> Tensor:
            aligned: Tensor = self.alignment(levels[:3], self.pyramid(levels[3]))
            return aligned

        return by_images(align, *features, state)
