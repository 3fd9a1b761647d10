"""The deformable ConvLSTM over a sequence of feature maps (Zooming Slow-Mo, section 3.2)."""

import torch
from torch import Tensor, nn

from stvsr.models.layers.frames import FeaturePyramid, as_clip, as_images
from stvsr.models.layers.pcd import StateAlignment, conv3x3


class ConvLstmCell(nn.Module):
    """One step: gates from a 3x3 convolution over the input and the hidden state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(2 * channels, 4 * channels)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Three maps (B, C, H, W) -> the new hidden and cell state."""
        gates = self.conv(torch.cat([x, hidden], dim=1))
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
        hidden = cell = torch.zeros_like(sequence[:, 0])
        results = []
        for x in sequence.unbind(1):
            hidden, cell = self.cell(x, hidden, cell)
            results.append(hidden)
        return torch.stack(results, dim=1)


class DeformableConvLstm(nn.Module):
    """A ConvLSTM whose hidden and cell state are first aligned to the map they meet."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.hidden_alignment = StateAlignment(channels, groups)
        self.cell_alignment = StateAlignment(channels, groups)
        self.cell = ConvLstmCell(channels)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> hidden states (B, T, C, H, W)."""
        hidden = cell = torch.zeros_like(sequence[:, 0])
        for_hidden: list[FeaturePyramid] = self.hidden_alignment.levels_by_step(sequence)
        for_cell: list[FeaturePyramid] = self.cell_alignment.levels_by_step(sequence)
        results = []
        for hidden_levels, cell_levels in zip(for_hidden, for_cell, strict=True):
            hidden = self.hidden_alignment(hidden_levels, hidden)
            cell = self.cell_alignment(cell_levels, cell)
            hidden, cell = self.cell(hidden_levels[0], hidden, cell)
            results.append(hidden)
        return torch.stack(results, dim=1)


class Bidirectional(nn.Module):
    """One recurrent network over the sequence and its reverse, in one batch, then mixed."""

    def __init__(self, recurrent: nn.Module, channels: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, C, H, W)."""
        states = self.recurrent(torch.cat([sequence, sequence.flip(1)]))
        forward, backward = states.chunk(2)
        both = torch.cat([forward, backward.flip(1)], dim=2)
        return as_clip(self.fusion(as_images(both)), len(sequence))
