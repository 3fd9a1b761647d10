"""Spatial-temporal deformable feature aggregation (STDAN, section 2.2).

`n` is the number of other frames in a chunk, `K` = k * k the points sampled per pixel.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.frames import as_clip, as_images
from stvsr.models.layers.pcd import OffsetConv, conv3x3, lrelu
from stvsr.models.layers.recompute import KEPT_NUMBERS, recomputed
from stvsr.ops import deformable_attention

CHUNK_PIXELS = 65536
"""Pixels, over clips and pairs of frames, whose offsets are in memory at once."""


class Maps(NamedTuple):
    """What aggregation needs of each frame: T maps (B, E, H, W) of each kind."""

    query: tuple[Tensor, ...]
    key: tuple[Tensor, ...]
    value: tuple[Tensor, ...]
    from_query: tuple[Tensor, ...]
    """The query's share of the offset features."""
    from_key: tuple[Tensor, ...]
    """The key's share of the offset features."""


class DeformedPoints(nn.Module):
    """Offsets and modulations of each pair's points, from the pair's query and key."""

    def __init__(self, embedding: int, groups: int, k: int) -> None:
        super().__init__()
        self.offset_conv1 = conv3x3(2 * embedding, embedding)
        self.offset_conv2 = conv3x3(embedding, embedding)
        self.conv_offset = OffsetConv(embedding, groups, k * k)
        self.numbers_kept = 5 * embedding + 4 * groups * k * k

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame's shares of `offset_conv1`, which is linear in [query, key]."""
        for_query, for_key = self.offset_conv1.weight.chunk(2, dim=1)
        from_query = F.conv2d(query, for_query, self.offset_conv1.bias, padding=1)
        return from_query, F.conv2d(key, for_key, padding=1)

    def forward(self, from_query: Tensor, from_keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Shares (B, E, H, W) -> offsets (B, n, G, K, 2, H, W), modulations (B, n, G, K, H, W)."""
        # frames first in the batch, so that concatenating keeps the channels last in memory
        features = torch.cat([lrelu(from_query + share) for share in from_keys])
        features = lrelu(self.offset_conv2(features))
        offset, modulation = self.conv_offset(features)
        pairs = (len(from_keys), len(from_query))
        return offset.unflatten(0, pairs).transpose(0, 1), modulation.unflatten(0, pairs).transpose(
            0, 1
        )


class FixedPoints(nn.Module):
    """The k x k pixels around, neither displaced nor modulated (the ablations Omega 2 and 3)."""

    def __init__(self, embedding: int, k: int) -> None:
        super().__init__()
        self.points = k * k
        self.numbers_kept = 3 * embedding + 3 * k * k

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing needs preparing."""
        return query, key

    def forward(self, from_query: Tensor, from_keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Offsets 0 (B, n, 1, K, 2, H, W) and modulations 1 (B, n, 1, K, H, W)."""
        B, _, H, W = from_query.shape
        shape = (B, len(from_keys), 1, self.points)
        return from_query.new_zeros(*shape, 2, H, W), from_query.new_ones(*shape, H, W)


class STDFA(nn.Module):
    """Each frame gathers from every other one by deformable attention, then mixes over time.

    Memory is bounded by `CHUNK_PIXELS`, not by the number of pairs: a chunk of pairs is mixed
    into one map before the next begins, and computed again in the backward pass.
    """

    def __init__(
        self, channels: int, embedding: int, points: DeformedPoints | FixedPoints, kept: int
    ) -> None:
        super().__init__()
        self.conv_first = conv3x3(channels, embedding)
        self.to_query = nn.Linear(embedding, embedding)
        self.to_key = nn.Linear(embedding, embedding)
        self.to_value = nn.Linear(embedding, embedding)
        self.points = points
        self.kept = kept
        self.conv_last = conv3x3(embedding, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, C, H, W); T >= 2."""
        return frames + torch.stack(self._aggregate(frames), dim=1)

    def _aggregate(self, frames: Tensor) -> list[Tensor]:
        """What each frame gains, (B, C, H, W); the maps, the most of the memory, end with it."""
        maps = self._project(frames)
        T = frames.shape[1]
        return [self.conv_last(self._gather(maps, i, T)) for i in range(T)]

    def _project(self, frames: Tensor) -> Maps:
        pixels = self.conv_first(as_images(frames)).permute(0, 2, 3, 1)
        query, key, value = (
            project(pixels).permute(0, 3, 1, 2)
            for project in (self.to_query, self.to_key, self.to_value)
        )
        from_query, from_key = self.points.prepare(query, key)
        by_frame = (
            as_clip(images, len(frames)).unbind(1)
            for images in (query, key, value, from_query, from_key)
        )
        return Maps(*by_frame)

    def _gather(self, maps: Maps, i: int, T: int) -> Tensor:
        """Mix the values of all frames but `i` for frame `i`'s pixels (eqs 8-9): (B, E, H, W)."""
        others = [j for j in range(T) if j != i]
        length = max(1, CHUNK_PIXELS // maps.query[i][:, 0].numel())
        chunks = [others[start : start + length] for start in range(0, len(others), length)]
        if self._keeps(maps):
            parts = [self._attend(maps, i, chunk) for chunk in chunks]
        else:
            parts = [recomputed(self._attend, maps, i, chunk) for chunk in chunks]
        return _mix(*(torch.stack(part, dim=1) for part in zip(*parts, strict=True)))[0]

    def _keeps(self, maps: Maps) -> bool:
        """Whether the intermediate results of all pairs together are small enough to be kept."""
        T = len(maps.query)
        return T * (T - 1) * self.points.numbers_kept * maps.query[0][:, 0].numel() <= KEPT_NUMBERS

    def _attend(self, maps: Maps, i: int, others: list[int]) -> tuple[Tensor, Tensor]:
        """Frame `i`'s mix (B, E, H, W) of some others, and the mix's log weight (B, H, W)."""
        offset, modulation = self.points(maps.from_query[i], [maps.from_key[j] for j in others])
        key = torch.stack([maps.key[j] for j in others], dim=1)
        value = torch.stack([maps.value[j] for j in others], dim=1)
        mixed, weight = deformable_attention(
            maps.query[i], key, value, offset, modulation, self.kept
        )
        return _mix(mixed, weight)


def _mix(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of weight (B, n, H, W) over n mixes the values (B, n, E, H, W), eqs 8-9.

    Returns:
        The mix (B, E, H, W) and the logarithm of the weights' sum (B, H, W): mixes of parts can
        so be mixed again.
    """
    share = weight.softmax(1).to(values.dtype)
    return (share[:, :, None] * values).sum(1), weight.logsumexp(1)
