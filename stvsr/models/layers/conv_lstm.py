"""The deformable ConvLSTM over a sequence of feature maps (Zooming Slow-Mo, section 3.2).

What of a step does not depend on the states, the shares of its input map, is made for all steps
before the recurrence, and once for both directions of time.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import FeaturePyramid, as_clip, as_images
from stvsr.models.layers.parts import by_images
from stvsr.models.layers.pcd import PcdBranch, StateAlignment, conv3x3, lrelu, share_of_conv

Shares = tuple[Tensor, ...]
"""Maps (B, ...) that a step takes of its input; the first is the input's share of the gates."""

ALIGNED = 9
"""Tensors of an input map that the alignment of one state takes: 3 levels, 3 of each branch."""


class ConvLstmCell(nn.Module):
    """One step: gates from a 3x3 convolution over the input and the hidden state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = conv3x3(2 * channels, 4 * channels)

    def shares_by_step(self, sequence: Tensor) -> list[Shares]:
        """The gates' share (B, 4C, H, W) of each map of (B, T, C, H, W)."""
        return _by_step([share_of_conv(self.conv, as_images(sequence), 0)], len(sequence))

    def forward(self, share: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """A step's share and the states (B, C, H, W) -> the new hidden and cell state."""
        gates = share + share_of_conv(self.conv, hidden, self.channels)
        input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=1)
        cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
        return output_gate.sigmoid() * cell.tanh(), cell


class PlainConvLstm(nn.Module):
    """A ConvLSTM whose states are used where they are (the paper's ablation c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cell = ConvLstmCell(channels)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> hidden states (B, T, C, H, W)."""
        return self.recur(self.shares_by_step(sequence))

    def shares_by_step(self, sequence: Tensor) -> list[Shares]:
        """Input of `recur`: the shares of each map of (B, T, C, H, W)."""
        return self.cell.shares_by_step(sequence)

    def recur(self, steps: Iterable[Shares]) -> Tensor:
        """Hidden states (B, T, C, H, W) of T steps."""
        results: list[Tensor] = []
        hidden = cell = None
        for (share,) in steps:
            if hidden is None or cell is None:
                hidden = cell = torch.zeros_like(share[:, : self.cell.channels])
            hidden, cell = self.cell(share, hidden, cell)
            results.append(hidden)
        return torch.stack(results, dim=1)


class DeformableConvLstm(nn.Module):
    """A ConvLSTM whose hidden and cell state are first aligned to the map they meet."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.hidden_alignment = ComparedAlignment(channels, groups)
        self.cell_alignment = ComparedAlignment(channels, groups)
        self.cell = ConvLstmCell(channels)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> hidden states (B, T, C, H, W)."""
        return self.recur(self.shares_by_step(sequence))

    def shares_by_step(self, sequence: Tensor) -> list[Shares]:
        """Input of `recur`: the shares of each map of (B, T, C, H, W)."""
        parts = (self.cell, self.hidden_alignment, self.cell_alignment)
        by_part = (part.shares_by_step(sequence) for part in parts)
        return [sum(shares, ()) for shares in zip(*by_part, strict=True)]

    def recur(self, steps: Iterable[Shares]) -> Tensor:
        """Hidden states (B, T, C, H, W) of T steps."""
        results: list[Tensor] = []
        hidden = cell = None
        for gates, *aligned in steps:
            for_hidden, for_cell = tuple(aligned[:ALIGNED]), tuple(aligned[ALIGNED:])
            if hidden is None or cell is None:
                hidden = cell = torch.zeros_like(for_hidden[0])
            hidden = self.hidden_alignment(for_hidden, hidden)
            cell = self.cell_alignment(for_cell, cell)
            hidden, cell = self.cell(gates, hidden, cell)
            results.append(hidden)
        return torch.stack(results, dim=1)


class ComparedAlignment(StateAlignment):
    """Alignment of a state to a map whose share in the comparison of both was made before."""

    def shares_by_step(self, sequence: Tensor) -> list[Shares]:
        """The levels of each map of (B, T, C, H, W) and their shares: `ALIGNED` tensors a step."""
        levels = self.pyramid(as_images(sequence))
        shares = [
            share_of_conv(level.offset_conv1, maps, 0 if branch == 0 else maps.shape[1])
            for branch, own in enumerate(self.alignment.ways)
            for level, maps in zip(own.levels, levels, strict=True)
        ]
        return _by_step([*levels, *shares], len(sequence))

    def forward(self, features: Shares, state: Tensor) -> Tensor:
        """A step of `shares_by_step` and the state (B, C, H, W) -> (B, C, H, W)."""
        return by_images(self._align, *features, state)

    def _align(self, *maps: Tensor) -> Tensor:
        channels = maps[-1].shape[1]
        source, states = (maps[0], maps[1], maps[2]), self.pyramid(maps[-1])
        first, second = self.alignment.ways
        return self.alignment.fuse(
            first.align(source, _compared(first, maps[3:6], states, channels)),
            second.align(states, _compared(second, maps[6:9], states, 0)),
        )


class Bidirectional(nn.Module):
    """One recurrent network over the sequence and its reverse, in one batch, then mixed."""

    def __init__(self, recurrent: PlainConvLstm | DeformableConvLstm, channels: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, C, H, W)."""
        forward, backward = self._both_ways(sequence).chunk(2)
        both = torch.cat([forward, backward.flip(1)], dim=2)
        return as_clip(self.fusion(as_images(both)), len(sequence))

    def _both_ways(self, sequence: Tensor) -> Tensor:
        """The states (2 * B, T, C, H, W) of the sequence and of its reverse."""
        steps = self.recurrent.shares_by_step(sequence)
        both_ways = (
            tuple(torch.cat(pair) for pair in zip(*steps_at, strict=True))
            for steps_at in zip(steps, reversed(steps), strict=True)
        )
        return self.recurrent.recur(both_ways)


def _by_step(maps: Iterable[Tensor], clips: int) -> list[Shares]:
    """Some (B * T, ...) as those of each of T steps, (B, ...)."""
    return list(zip(*(as_clip(each, clips).unbind(1) for each in maps), strict=True))


def _compared(
    branch: PcdBranch, shares: Sequence[Tensor], states: FeaturePyramid, first: int
) -> FeaturePyramid:
    """The first offset features of a branch, at each level.

    Args:
        branch: of the alignment.
        shares: the input map's, level by level.
        states: the state's pyramid.
        first: where the state's channels begin in the comparison.
    """
    fine, middle, coarse = (
        lrelu(share + share_of_conv(level.offset_conv1, state, first))
        for level, share, state in zip(branch.levels, shares, states, strict=True)
    )
    return fine, middle, coarse
