"""Spatial-temporal deformable feature aggregation (STDAN, section 2.2).

`n` is the number of other frames in a chunk, `K` = k * k the points sampled per pixel.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.frames import as_clip
from stvsr.models.layers.parts import (
    by_bands,
    by_rows,
    cut,
    from_row,
    part_pixels,
    with_halo,
)
from stvsr.models.layers.pcd import OffsetConv, conv3x3, lrelu
from stvsr.models.layers.recompute import KEPT_NUMBERS, recomputed
from stvsr.ops import deformable_attention

CHUNK_PIXELS = 65536
"""Pixels, over clips and pairs of frames, whose offsets are in memory at once in training."""

HALO = 3
"""Rows above and below a band that its offsets depend on: those of three convolutions."""


class Maps(NamedTuple):
    """Maps of each frame that aggregation uses again and again: maps (B, E, H, W) of each kind."""

    key: tuple[Tensor, ...]
    value: tuple[Tensor, ...]
    from_key: tuple[Tensor, ...]
    """The key's share of the offset features; empty where it is made anew for each pair."""


class DeformedPoints(nn.Module):
    """Offsets and modulations of each pair's points, from the pair's query and key."""

    def __init__(self, embedding: int, groups: int, k: int) -> None:
        super().__init__()
        self.offset_conv1 = conv3x3(2 * embedding, embedding)
        self.offset_conv2 = conv3x3(embedding, embedding)
        self.conv_offset = OffsetConv(embedding, groups, k * k)
        self.numbers_kept = 5 * embedding + 4 * groups * k * k

    def from_query(self, query: Tensor) -> Tensor:
        """The query's share of `offset_conv1`, which is linear in [query, key]."""
        weight = self.offset_conv1.weight.chunk(2, dim=1)[0]
        return F.conv2d(query, weight, self.offset_conv1.bias, padding=1)

    def from_key(self, key: Tensor) -> Tensor:
        """The key's share of `offset_conv1`."""
        key = key.contiguous(memory_format=torch.channels_last)
        return F.conv2d(key, self.offset_conv1.weight.chunk(2, dim=1)[1], padding=1)

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

    def from_query(self, query: Tensor) -> Tensor:
        """Nothing depends on it."""
        return query

    def from_key(self, key: Tensor) -> Tensor:
        """Nothing depends on it."""
        return key

    def forward(self, from_query: Tensor, from_keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Offsets 0 (B, n, 1, K, 2, H, W) and modulations 1 (B, n, 1, K, H, W)."""
        B, _, H, W = from_query.shape
        shape = (B, len(from_keys), 1, self.points)
        return from_query.new_zeros(*shape, 2, H, W), from_query.new_ones(*shape, H, W)


class STDFA(nn.Module):
    """Each frame gathers from every other one by deformable attention, then mixes over time.

    Memory is bounded by a chunk, not by the number of pairs: a chunk of pairs is mixed into one map
    before the next begins. With gradients a chunk has `CHUNK_PIXELS` and is computed again in the
    backward pass; without, it is a band of rows, and of all frames keys and values alone are kept.
    """

    def __init__(
        self, channels: int, embedding: int, points: DeformedPoints | FixedPoints, T_top: int
    ) -> None:
        super().__init__()
        self.conv_first = conv3x3(channels, embedding)
        self.to_query = nn.Linear(embedding, embedding)
        self.to_key = nn.Linear(embedding, embedding)
        self.to_value = nn.Linear(embedding, embedding)
        self.points = points
        self.T_top = T_top
        self.conv_last = conv3x3(embedding, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, C, H, W); T >= 2. Without gradients `frames` is overwritten."""
        by_frame = frames.unbind(1)
        maps = self._project(frames.transpose(0, 1))
        if torch.is_grad_enabled():
            return torch.stack([x + self._new(x, maps, i) for i, x in enumerate(by_frame)], dim=1)
        for i, frame in enumerate(by_frame):
            frames[:, i] += self._new(frame, maps, i)
        return frames

    def _new(self, frame: Tensor, maps: Maps, i: int) -> Tensor:
        """The features that frame `i` (B, C, H, W) gains."""
        gained: Tensor = self.conv_last(self._gather(frame, maps, i))
        return gained

    def _project(self, by_frame: Tensor) -> Maps:
        """(T, B, C, H, W) -> the maps of each frame."""

        def of_all(to: nn.Linear) -> Tensor:
            def some(images: Tensor) -> Tensor:
                return self._embed(to, images).contiguous()  # as sampling wants it

            return as_clip(by_bands(some, by_frame.flatten(0, 1), halo=1, scale=1), len(by_frame))

        key, value = of_all(self.to_key), of_all(self.to_value)
        from_key: tuple[Tensor, ...] = ()
        if torch.is_grad_enabled():
            shares = self.points.from_key(key.flatten(0, 1))
            from_key = as_clip(shares, len(key)).unbind(0)
        return Maps(key.unbind(0), value.unbind(0), from_key)

    def _embed(self, to: nn.Linear, images: Tensor) -> Tensor:
        """Queries, keys or values of (B, C, H, W), as images (B, E, H, W)."""
        images = images.contiguous(memory_format=torch.channels_last)
        pixels: Tensor = to(self.conv_first(images).permute(0, 2, 3, 1))
        return pixels.permute(0, 3, 1, 2)

    def _gather(self, frame: Tensor, maps: Maps, i: int) -> Tensor:
        """Mix the values of all frames but `i` for frame `i`'s pixels (eqs 8-9): (B, E, H, W)."""
        others = [j for j in range(len(maps.key)) if j != i]

        def some(rows: slice) -> Tensor:
            return self._gather_rows(frame, maps, others, rows)

        return by_rows(some, frame)

    def _gather_rows(self, frame: Tensor, maps: Maps, others: list[int], rows: slice) -> Tensor:
        around, inner = with_halo(rows, HALO)
        wider, within = with_halo(around, 1)
        query = cut(self._embed(self.to_query, cut(frame, wider)), within)
        from_query = self.points.from_query(query)
        query = cut(query, inner)
        pixels = CHUNK_PIXELS if torch.is_grad_enabled() else part_pixels(query.device)
        length = max(1, pixels // frame[:, 0].numel())
        attend = self._attend if self._keeps(maps) else self._attend_recomputed
        parts = (
            attend(query, from_query, maps, others[start : start + length], rows)
            for start in range(0, len(others), length)
        )
        return functools.reduce(_mix_parts, parts)[0]

    def _keeps(self, maps: Maps) -> bool:
        """True if the intermediate results of all pairs together are small enough to be kept."""
        T = len(maps.key)
        return T * (T - 1) * self.points.numbers_kept * maps.key[0][:, 0].numel() <= KEPT_NUMBERS

    def _attend(
        self, query: Tensor, from_query: Tensor, maps: Maps, others: list[int], rows: slice
    ) -> tuple[Tensor, Tensor]:
        """Some rows' mix (B, E, h, W) of some other frames, and the mix's log weight (B, h, W)."""
        around, inner = with_halo(rows, HALO)
        if maps.from_key:
            from_keys = [maps.from_key[j] for j in others]
        else:
            from_keys = [self.points.from_key(cut(maps.key[j], around)) for j in others]
        offset, modulation = self.points(from_query, from_keys)
        mixed, weight = deformable_attention(
            query,
            _together([maps.key[j] for j in others]),
            _together([maps.value[j] for j in others]),
            from_row(cut(offset, inner), rows.start),
            cut(modulation, inner),
            self.T_top,
        )
        return _mix(mixed, weight)

    def _attend_recomputed(
        self, query: Tensor, from_query: Tensor, maps: Maps, others: list[int], rows: slice
    ) -> tuple[Tensor, Tensor]:
        return recomputed(self._attend, query, from_query, maps, others, rows)


def _mix_parts(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The mix, and its log weight, of two."""
    values, weights = (torch.stack(pair, dim=1) for pair in zip(first, second, strict=True))
    return _mix(values, weights)


def _together(maps: list[Tensor]) -> Tensor:
    """Maps (B, E, H, W) of n frames -> (B, n, E, H, W), without a copy where n is 1."""
    return torch.stack(maps, dim=1) if len(maps) > 1 else maps[0][:, None]


def _mix(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of weight (B, n, H, W) over n mixes the values (B, n, E, H, W), eqs 8-9.

    Returns:
        The mix (B, E, H, W) and the logarithm of the weights' sum (B, H, W): mixes of parts can
        so be mixed again.
    """
    share = weight.softmax(1).to(values.dtype)
    return (share[:, :, None] * values).sum(1), weight.logsumexp(1)
