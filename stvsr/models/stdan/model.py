"""STDAN: deformable attention network for space-time video super-resolution (arXiv 2203.06841)."""

from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.base import StvsrModel
from stvsr.models.bicubic_linear import upscale_bicubic_linear
from stvsr.models.layers.frames import as_clip, interleave
from stvsr.models.layers.interpolation import DeformableInterpolation
from stvsr.models.layers.parts import by_bands, by_images
from stvsr.models.layers.pcd import conv3x3, lrelu, zero_conv3x3
from stvsr.models.layers.swin import WINDOW, SwinStage
from stvsr.models.layers.upsampling import DoubleSize, keep_scale
from stvsr.models.stdan.config import StdanConfig
from stvsr.models.stdan.lstfi import LSTFI
from stvsr.models.stdan.stdfa import STDFA, DeformedPoints, FixedPoints


class Stdan(StvsrModel):
    """Extract, interpolate in time, aggregate over time, reconstruct (the paper's figure 1)."""

    size_multiple = WINDOW

    def __init__(self, config: StdanConfig) -> None:
        super().__init__()
        channels = config.channels
        self.global_skip = config.global_skip
        self.conv_first = conv3x3(3, channels)
        self.extraction = _swin_stage(config, config.extraction_groups)
        self.interpolation = _interpolation(config)
        self.aggregation = _aggregation(config)
        self.reconstruction = _swin_stage(config, config.reconstruction_groups)
        self.conv_before_upsample = conv3x3(channels, channels)
        self.upsample = nn.Sequential(DoubleSize(channels), DoubleSize(channels))
        self.conv_last = (zero_conv3x3 if config.global_skip else conv3x3)(channels, 3)
        if config.global_skip:
            keep_scale(self.conv_before_upsample)
            keep_scale(self.upsample)

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """(B, N, 3, H, W), H and W multiples of 8 -> (B, 2N-1, 3, 4H, 4W)."""
        frames = self.extract(lr_clip)
        frames = interleave(frames, self.interpolation(frames))
        frames = self.aggregation(frames)
        sr_clip = self.reconstruct(frames)
        return sr_clip + upscale_bicubic_linear(lr_clip) if self.global_skip else sr_clip

    def extract(self, lr_clip: Tensor) -> Tensor:
        """Features (B, N, C, H, W) of each input frame."""
        return as_clip(by_images(self._extract, lr_clip.flatten(0, 1)), len(lr_clip))

    def reconstruct(self, frames: Tensor) -> Tensor:
        """Pictures (B, T, 3, 4H, 4W) from features (B, T, C, H, W)."""
        features = by_images(self.reconstruction, frames.flatten(0, 1))
        return as_clip(by_bands(self._enlarge, features, halo=3, scale=self.scale), len(frames))

    def _extract(self, images: Tensor) -> Tensor:
        features: Tensor = self.extraction(lrelu(self.conv_first(images)))
        return features

    def _enlarge(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 3, 4H, 4W), which look 1 + 1 + 1/2 + 1/4 rows of `features` far."""
        features = F.leaky_relu(self.conv_before_upsample(features), 0.01)
        pictures: Tensor = self.conv_last(self.upsample(features))
        return pictures


def _swin_stage(config: StdanConfig, groups: int) -> SwinStage:
    return SwinStage(
        config.channels, config.embedding, config.heads, groups, config.blocks_per_group
    )


def _interpolation(config: StdanConfig) -> nn.Module:
    match config.interpolation:
        case "long-short":
            return LSTFI(config.channels, config.deformable_groups)
        case "short":
            return DeformableInterpolation(config.channels, config.deformable_groups)


def _aggregation(config: StdanConfig) -> nn.Module:
    match config.aggregation:
        case "none":
            return nn.Identity()
        case "fixed":
            points: DeformedPoints | FixedPoints = FixedPoints(config.embedding, config.k)
            kept = config.k * config.k
        case "deformable":
            points = DeformedPoints(config.embedding, config.deformable_groups, config.k)
            kept = config.T_top
    return STDFA(config.channels, config.embedding, points, kept)
