"""STINet: video super-resolution by spatial-temporal feature interaction.

Source: Yue et al., "Enhancing Space-time Video Super-resolution via Spatial-temporal Feature
Interaction" (Neural Networks 2024).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stvsr.models.base import MIDDLE, AnyTimeModel
from stvsr.models.bicubic_linear import upscale_bicubic_linear
from stvsr.models.layers.frames import as_clip, as_images
from stvsr.models.layers.parts import by_bands
from stvsr.models.layers.pcd import OffsetConv, conv3x3, lrelu
from stvsr.models.layers.upsampling import DoubleSize
from stvsr.models.stinet.blocks import ActiveResidualBlock, Down, joined, parts_of
from stvsr.models.stinet.config import StinetConfig
from stvsr.models.stinet.spatial import SpatialNetwork
from stvsr.models.stinet.stfi import STFI
from stvsr.models.stinet.stgr import STGR
from stvsr.models.stinet.stlr import STLR
from stvsr.ops.optical_flow import farneback_flow

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean RGB, which the network sees as 0."""

DEVIATION = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of RGB, which the network sees as 1."""


class Maps(NamedTuple):
    """What the network knows of each output frame, in the order of time."""

    low: list[Tensor]
    """LR maps (B, C, H, W)."""
    high: list[Tensor]
    """HR maps (B, C, 4H, 4W)."""


class Stinet(AnyTimeModel):
    """Interpolate, refine locally, refine globally, reconstruct (the paper's figure 2)."""

    size_multiple = 4
    memory_factor = 3.5

    def __init__(self, config: StinetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.global_skip = config.global_skip
        self.spatial = SpatialNetwork(channels, config.projections)
        self.down = nn.Sequential(ActiveResidualBlock(channels), Down(channels))
        self.interpolation = STFI(channels, config.shared_blocks)
        self.picture_low = conv3x3(channels, 3)
        self.picture_high = conv3x3(channels, 3)
        self.local_refinement = _local_refinement(config)
        self.global_refinement = STGR(channels) if config.global_refinement else None
        self.upsample1 = DoubleSize(channels)
        self.upsample2 = DoubleSize(channels)
        self.conv_hr = conv3x3(channels, channels)
        self.conv_last = conv3x3(channels, 3)
        self.blending = nn.Conv2d(channels, 3, 1)
        _initialise(self)
        if config.global_skip:
            for parameter in (*self.conv_last.parameters(), *self.blending.parameters()):
                nn.init.zeros_(parameter)

    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """Super-resolve a clip and the times between its frames.

        Args:
            lr_clip: (B, N, 3, H, W), H and W multiples of 4, RGB in [0, 1].
            times: of each gap, rising, 0 < t < 1; one of them doubles the rate.

        Returns:
            (B, N + (N-1) * len(times), 3, 4H, 4W), RGB.
        """
        mean, deviation = (
            torch.stack([lr_clip.new_full((), value) for value in values])[:, None, None]
            for values in (MEAN, DEVIATION)  # a copy of numbers would wait for the GPU
        )
        forward, backward = flows_of(lr_clip)
        maps = self.interpolate((lr_clip - mean) / deviation, forward, backward, times)
        pictures = self.reconstruct(maps)
        pictures = pictures * deviation.to(pictures)
        if self.global_skip:
            return pictures + upscale_bicubic_linear(lr_clip, times)
        return pictures + mean.to(pictures)

    def interpolate(
        self, frames: Tensor, forward: Tensor, backward: Tensor, times: Sequence[float] = MIDDLE
    ) -> Maps:
        """Phase 1: the maps of frames and gaps, not yet refined.

        Args:
            frames: (B, N, 3, H, W), normalised.
            forward: flow from each frame to the next, (B, N-1, 2, H, W), (x, y) in pixels.
            backward: flow from each frame to the one before, as `forward`.
            times: see `super_resolve`.
        """
        maps = self._extract(frames)
        low, high = maps.low[:1], maps.high[:1]
        gaps = frames.shape[1] - 1
        between = [(gap, time) for gap in range(gaps) for time in times]
        made = Maps([], [])
        for part in parts_of(len(between), frames):
            for all_of, some in zip(
                made, self._between(maps, forward, backward, between[part]), strict=True
            ):
                all_of.extend(some)
        for gap in range(gaps):
            here = slice(gap * len(times), (gap + 1) * len(times))
            low += [*made.low[here], maps.low[gap + 1]]
            high += [*made.high[here], maps.high[gap + 1]]
        return Maps(low, high)

    def first_pictures(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Pictures of phase 1, which its loss compares: (B, T, 3, H, W) and (B, T, 3, 4H, 4W)."""
        low = [self.picture_low(frame) for frame in maps.low]
        high = [self.picture_high(frame) for frame in maps.high]
        return torch.stack(low, dim=1), torch.stack(high, dim=1)

    def reconstruct(self, maps: Maps) -> Tensor:
        """Phases 2 to 4: pictures (B, T, 3, 4H, 4W); both lists are overwritten."""
        low, high = maps
        if self.local_refinement is not None:
            low, high = self.local_refinement(low, high)
        if self.global_refinement is not None:
            for frames, factors in zip((low, high), self.global_refinement(low, high), strict=True):
                for t, factor in enumerate(factors):
                    frames[t] = frames[t] * factor
        clips = len(low[0])
        pictures = [
            by_bands(self._enlarge, joined(low[part]), halo=2, scale=self.scale)
            + self.blending(joined(high[part]))
            for part in parts_of(len(low), low[0][:, None])
        ]
        by_time: Tensor = torch.cat(pictures).unflatten(0, (-1, clips))
        return by_time.transpose(0, 1)

    def _extract(self, frames: Tensor) -> Maps:
        """The maps of each input frame; S-SR, then the residual block and the way down."""
        clips = len(frames)
        low: list[Tensor] = []
        high: list[Tensor] = []
        for part in parts_of(frames.shape[1], frames):
            some = self.spatial(as_images(frames[:, part].transpose(0, 1)))
            high += some.split(clips)
            low += self.down(some).split(clips)
        return Maps(low, high)

    def _between(
        self, maps: Maps, forward: Tensor, backward: Tensor, between: list[tuple[int, float]]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The LR and HR maps of some (gap, time), eq. 1 for their flows."""
        low, high = (
            (
                joined([frames[gap] for gap, _ in between]),
                joined([frames[gap + 1] for gap, _ in between]),
            )
            for frames in maps
        )
        flows = [
            torch.cat([(1 - time) * forward[:, gap], time * backward[:, gap]], dim=1)
            for gap, time in between
        ]
        made_low, made_high = self.interpolation(low, high, torch.cat(flows))
        clips = len(forward)
        return made_low.split(clips), made_high.split(clips)

    def _enlarge(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 3, 4H, 4W), which look 1 + 1/2 + 1/4 + 1/4 rows of `features` far."""
        features = lrelu(self.upsample2(lrelu(self.upsample1(features))))
        pictures: Tensor = self.conv_last(lrelu(self.conv_hr(features)))
        return pictures


def flows_of(lr_clip: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from each frame of a clip (B, N, 3, H, W) to the next, and back: (B, N-1, 2, H, W)."""
    first, second = lr_clip[:, :-1].flatten(0, 1), lr_clip[:, 1:].flatten(0, 1)
    flows = farneback_flow(torch.cat([first, second]), torch.cat([second, first]))
    forward, backward = flows.to(lr_clip.dtype).chunk(2)
    return as_clip(forward, len(lr_clip)), as_clip(backward, len(lr_clip))


def _local_refinement(config: StinetConfig) -> STLR | None:
    match config.local_refinement:
        case "interacting":
            return STLR(config.channels, config.deformable_groups, interacts=True)
        case "separate":
            return STLR(config.channels, config.deformable_groups, interacts=False)
        case "none":
            return None


def _initialise(network: nn.Module) -> None:
    """Convolutions start Kaiming-normal with biases of zero; those of offsets are left at zero."""
    offsets = {module.conv for module in network.modules() if isinstance(module, OffsetConv)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module not in offsets:
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
