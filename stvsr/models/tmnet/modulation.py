"""Controllable feature interpolation: maps at any times between two frames (TMNet).

`K` is the number of times of each gap. What does not depend on the time is made once for all.
"""

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stvsr.models.base import MIDDLE
from stvsr.models.layers.frames import FeaturePyramid, as_clip, as_images
from stvsr.models.layers.interpolation import align_pairs
from stvsr.models.layers.pcd import (
    LRELU_SLOPE,
    PcdAlignment,
    PcdBranch,
    Pyramid,
    conv3x3,
    double,
    lrelu,
    share_of_conv,
)


class TMB(nn.Module):
    """A temporal modulation block: adds to offset features a term that the time weighs.

    The published network takes the time as tau in (-1, 1), 0 in the middle of the gap; the paper
    takes t and 1 - t. Here its last convolution starts at zero, so that a network that was
    trained for the middle alone can be told from others.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.term = nn.Sequential(
            conv3x3(channels, channels),
            nn.LeakyReLU(LRELU_SLOPE, inplace=True),
            conv3x3(channels, channels),
            nn.LeakyReLU(LRELU_SLOPE, inplace=True),
        )
        layers: list[nn.Module] = []
        for inputs in (1, channels, channels):
            conv = nn.Conv2d(inputs, channels, 1, bias=False)
            layers += [conv, nn.LeakyReLU(LRELU_SLOPE, inplace=True)]
        self.time = nn.Sequential(*layers)
        nn.init.zeros_(conv.weight)

    @property
    def is_trained(self) -> bool:
        """True if the time has any weight."""
        *_, last = self.time.parameters()
        return bool(last.any())

    def forward(self, features: Tensor, guide: Tensor, taus: Sequence[float], maps: int) -> Tensor:
        """Modulate the offset features of some maps.

        Args:
            features: (maps * K, C, H, W), map by map, or (maps, C, H, W), the same at all times.
            guide: what the term is made of, as `features`.
            taus: the K times.
            maps: how many maps there are.

        Returns:
            (maps * K, C, H, W), map by map.
        """
        terms = as_clip(self.term(guide), maps) * self.factors(taus)
        return (as_clip(features, maps) + terms).flatten(0, 1)

    def factors(self, taus: Sequence[float]) -> Tensor:
        """Each time's factor of each channel, (K, C, 1, 1).

        Without biases and between LeakyReLUs, a time's factors are |tau| times those of its sign.
        """
        one = next(self.time.parameters()).new_ones(1, 1, 1, 1)
        after, before = self.time(torch.cat([one, -one])).split(1)
        return torch.cat([abs(tau) * (after if tau > 0 else before) for tau in taus])


class ModulatedBranch(PcdBranch):
    """PCD of one map, guided by another, at some times between them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, groups)
        self.modulations = nn.ModuleList([TMB(channels) for _ in range(3)])

    def at_times(
        self, source: FeaturePyramid, other: FeaturePyramid, taus: Sequence[float]
    ) -> Tensor:
        """Pyramids of both maps (B, ...) -> the aligned maps (B * K, C, H, W), map by map."""
        fine, middle, coarse = (
            (i, level.compare(*maps), maps[0].repeat_interleave(len(taus), dim=0))
            for i, (level, *maps) in enumerate(zip(self.levels, source, other, strict=True))
        )
        features, aligned = self._coarsest(*coarse, taus)
        features, aligned = self._finer(*middle, taus, (features, aligned))
        _, aligned = self._finer(*fine, taus, (features, lrelu(aligned)))
        return aligned

    def _coarsest(
        self, i: int, compared: Tensor, source: Tensor, taus: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Level `i` as `PcdLevel` has it, of maps that were compared (B, ...) and their source."""
        level, maps = self.levels[i], len(compared)
        features = lrelu(level.offset_conv2(compared))
        features = self.modulations[i](features, compared, taus, maps)
        return features, level.sample(source, features)

    def _finer(
        self,
        i: int,
        compared: Tensor,
        source: Tensor,
        taus: Sequence[float],
        coarser: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """See `_coarsest`; `coarser` is what that gave for the coarser level."""
        level, maps = self.levels[i], len(compared)
        coarse_features, coarse_aligned = coarser
        same = share_of_conv(level.offset_conv2, compared, 0)
        timed = share_of_conv(level.offset_conv2, double(2 * coarse_features), compared.shape[1])
        guide = lrelu((as_clip(same, maps) + as_clip(timed, maps)).flatten(0, 1))
        features = self.modulations[i](lrelu(level.offset_conv3(guide)), guide, taus, maps)
        return features, level.sample(source, features, coarse_aligned)


class ModulatedAlignment(PcdAlignment):
    """Both ways at once, at some times."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, groups)
        self.branches = nn.ModuleList([ModulatedBranch(channels, groups) for _ in range(2)])

    @property
    def ways(self) -> tuple[ModulatedBranch, ModulatedBranch]:
        """See `PcdAlignment`."""
        return self.branches[0], self.branches[1]  # type: ignore[return-value]  # as made above

    @property
    def is_modulated(self) -> bool:
        """True if any of the temporal modulation blocks is trained."""
        blocks = (block for block in self.modules() if isinstance(block, TMB))
        return any(block.is_trained for block in blocks)

    def at_times(
        self, first: FeaturePyramid, second: FeaturePyramid, times: Sequence[float]
    ) -> Tensor:
        """Two maps' pyramids (B, ...) -> the maps between them (B * K, C, H, W), map by map.

        In the middle the modulation adds nothing, and is left out.
        """
        if tuple(times) == MIDDLE:
            return self(first, second)  # type: ignore[no-any-return]
        after, before = self.ways
        return self.fuse(
            after.at_times(first, second, [2 * time - 1 for time in times]),
            before.at_times(second, first, [1 - 2 * time for time in times]),
        )


class ControllableInterpolation(nn.Module):
    """Each gap at some times, from its two neighbours aligned by PCD that knows the time."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels)
        self.alignment = ModulatedAlignment(channels, groups)

    def forward(self, frames: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """Interpolate all gaps.

        Args:
            frames: (B, N, C, H, W); H and W multiples of 4.
            times: of each gap, 0 < t < 1.

        Returns:
            (B, (N-1) * K, C, H, W): all times of the first gap, then of the second, ...
        """
        levels = [
            as_clip(level, len(frames)).unbind(1) for level in self.pyramid(as_images(frames))
        ]
        pairs = list(itertools.pairwise(range(frames.shape[1])))
        at_times = functools.partial(self.alignment.at_times, times=times)
        gaps: Tensor = align_pairs(at_times, levels, pairs)
        by_pair: Tensor = gaps.unflatten(0, (len(pairs), len(frames), -1))
        return by_pair.transpose(0, 1).flatten(1, 2)
