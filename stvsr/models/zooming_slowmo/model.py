"""Zooming Slow-Mo: fast and accurate one-stage space-time video super-resolution (2002.11616)."""

from torch import Tensor, nn

from stvsr.models.base import StvsrModel
from stvsr.models.bicubic_linear import upscale_bicubic_linear
from stvsr.models.layers.conv_lstm import Bidirectional, DeformableConvLstm, PlainConvLstm
from stvsr.models.layers.frames import as_clip, interleave
from stvsr.models.layers.interpolation import Blending, DeformableInterpolation
from stvsr.models.layers.parts import by_bands, by_images
from stvsr.models.layers.pcd import conv3x3, lrelu, start_uniform, zero_conv3x3
from stvsr.models.layers.residual import residual_blocks
from stvsr.models.layers.upsampling import DoubleSize, make_pictures
from stvsr.models.zooming_slowmo.config import ZoomingSlowMoConfig


class ZoomingSlowMo(StvsrModel):
    """Extract, interpolate in time, aggregate over time, reconstruct (the paper's figure 2)."""

    size_multiple = 4
    memory_factor = 1.7

    def __init__(self, config: ZoomingSlowMoConfig) -> None:
        super().__init__()
        channels = config.channels
        self.global_skip = config.global_skip
        self.conv_first = conv3x3(3, channels)
        self.extraction = residual_blocks(channels, config.front_blocks)
        self.interpolation = _interpolation(config)
        self.aggregation = _aggregation(config)
        self.reconstruction = residual_blocks(channels, config.back_blocks)
        self.upsample1 = DoubleSize(channels)
        self.upsample2 = DoubleSize(channels)
        self.conv_hr = conv3x3(channels, channels)
        self.conv_last = (zero_conv3x3 if config.global_skip else conv3x3)(channels, 3)
        self.apply(start_uniform)

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """(B, N, 3, H, W), H and W multiples of 4 -> (B, 2N-1, 3, 4H, 4W)."""
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
        return as_clip(by_bands(self._enlarge, features, halo=2, scale=self.scale), len(frames))

    def _extract(self, images: Tensor) -> Tensor:
        features: Tensor = self.extraction(lrelu(self.conv_first(images)))
        return features

    def _enlarge(self, features: Tensor) -> Tensor:
        """See `make_pictures`."""
        return make_pictures(features, self.upsample1, self.upsample2, self.conv_hr, self.conv_last)


def _interpolation(config: ZoomingSlowMoConfig) -> nn.Module:
    match config.interpolation:
        case "deformable":
            return DeformableInterpolation(config.channels, config.deformable_groups)
        case "blending":
            return Blending(config.channels)


def _aggregation(config: ZoomingSlowMoConfig) -> nn.Module:
    match config.memory:
        case "none":
            return nn.Identity()
        case "plain":
            recurrent: PlainConvLstm | DeformableConvLstm = PlainConvLstm(config.channels)
        case "deformable":
            recurrent = DeformableConvLstm(config.channels, config.deformable_groups)
    return Bidirectional(recurrent, config.channels) if config.bidirectional else recurrent
