"""TMNet: temporal modulation network for controllable space-time super-resolution (2104.10642)."""

from collections.abc import Sequence

from torch import Tensor

from stvsr.models.base import MIDDLE, AnyTimeModel
from stvsr.models.bicubic_linear import upscale_bicubic_linear
from stvsr.models.layers.conv_lstm import Bidirectional, DeformableConvLstm
from stvsr.models.layers.frames import as_clip, interleave
from stvsr.models.layers.parts import by_bands, by_images
from stvsr.models.layers.pcd import conv3x3, lrelu, start_uniform, zero_conv3x3
from stvsr.models.layers.residual import residual_blocks
from stvsr.models.layers.upsampling import DoubleSize, make_pictures
from stvsr.models.tmnet.comparison import LFC
from stvsr.models.tmnet.config import TmnetConfig
from stvsr.models.tmnet.modulation import ControllableInterpolation


class Tmnet(AnyTimeModel):
    """Extract, interpolate at any times, compare locally, aggregate over time, reconstruct."""

    size_multiple = 4
    memory_factor = 1.7
    longest_window = 2  # longer ones with several times of each gap were not trained, and are noisy

    def __init__(self, config: TmnetConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.deformable_groups
        self.global_skip = config.global_skip
        self.conv_first = conv3x3(3, channels)
        self.extraction = residual_blocks(channels, config.front_blocks)
        self.interpolation = ControllableInterpolation(channels, groups)
        self.comparison = LFC(channels, groups)
        self.aggregation = Bidirectional(DeformableConvLstm(channels, groups), channels)
        self.reconstruction = residual_blocks(channels, config.back_blocks)
        self.upsample1 = DoubleSize(channels)
        self.upsample2 = DoubleSize(channels)
        self.conv_hr = conv3x3(channels, channels)
        self.conv_last = (zero_conv3x3 if config.global_skip else conv3x3)(channels, 3)
        self.apply(start_uniform)

    @property
    def knows_other_times(self) -> bool:
        """True if the modulation was trained, which frames in the middle do not do."""
        return self.interpolation.alignment.is_modulated

    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """Super-resolve a clip and the times between its frames.

        Args:
            lr_clip: (B, N, 3, H, W), H and W multiples of 4, RGB in [0, 1].
            times: of each gap, rising, 0 < t < 1; one of them doubles the rate.

        Returns:
            (B, N + (N-1) * len(times), 3, 4H, 4W), RGB.
        """
        frames = self.extract(lr_clip)
        frames = interleave(frames, self.interpolation(frames, times))
        aggregated = self.aggregation(self.comparison(frames))
        sr_clip = self.reconstruct(aggregated, frames)
        return sr_clip + upscale_bicubic_linear(lr_clip, times) if self.global_skip else sr_clip

    def extract(self, lr_clip: Tensor) -> Tensor:
        """Features (B, N, C, H, W) of each input frame."""
        return as_clip(by_images(self._extract, lr_clip.flatten(0, 1)), len(lr_clip))

    def reconstruct(self, aggregated: Tensor, frames: Tensor) -> Tensor:
        """Pictures (B, T, 3, 4H, 4W).

        Args:
            aggregated: features (B, T, C, H, W) that know the whole clip.
            frames: features (B, T, C, H, W) of each frame before it was compared with others.
        """

        def refine(some: Tensor, skipped: Tensor) -> Tensor:
            refined: Tensor = self.reconstruction(some)
            return refined + skipped

        features = by_images(refine, aggregated.flatten(0, 1), frames.flatten(0, 1))
        return as_clip(by_bands(self._enlarge, features, halo=2, scale=self.scale), len(frames))

    def _extract(self, images: Tensor) -> Tensor:
        features: Tensor = self.extraction(lrelu(self.conv_first(images)))
        return features

    def _enlarge(self, features: Tensor) -> Tensor:
        """See `make_pictures`."""
        return make_pictures(features, self.upsample1, self.upsample2, self.conv_hr, self.conv_last)
