"""A stage of RSTT: blocks at one resolution, with windows that are shifted in turn."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.rstt.blocks import DecoderBlock, EncoderBlock, normalised
from stvsr.models.rstt.windows import PLACES, SHIFT, WINDOW, Windows, inverse, windows_of

FRAMES = 4
"""Frames that the network takes."""

QUERIES = 2 * FRAMES - 1
"""Frames that it makes."""


class EncoderStage(nn.Module):
    """Blocks of frames that look at each other."""

    index: Tensor

    def __init__(self, channels: int, heads: int, rates: Sequence[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(channels, heads, FRAMES, rate) for rate in rates)
        times = torch.arange(FRAMES)
        self.register_buffer("index", relative_position_index(times, times), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 4, C, h, w) -> (B, 4, C, h, w)."""
        grids = _grids(frames)
        tokens, order = _reorder(_to_pixels(frames), None, grids[0]), grids[0].order
        for i, block in enumerate(self.blocks):
            windows = grids[i % 2]
            if i:
                tokens, order = _reorder(tokens, order, windows), windows.order
            tokens = block(tokens, windows, self.index)
        return _to_frames(tokens, order, frames)


class DecoderStage(nn.Module):
    """Blocks of queries that look at each other and at the encoder's frames of their size."""

    index: Tensor
    dictionary_index: Tensor

    def __init__(self, channels: int, heads: int, rates: Sequence[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(channels, heads, QUERIES, FRAMES, rate) for rate in rates
        )
        times = torch.arange(QUERIES)
        for name, others in (("index", times), ("dictionary_index", times[::2])):
            index = relative_position_index(times, others)
            self.register_buffer(name, index, persistent=False)

    def forward(self, queries: Tensor, dictionary: Tensor) -> Tensor:
        """(B, 7, C, h, w), and the dictionary (B, 4, C, h, w) -> (B, 7, C, h, w)."""
        grids = _grids(queries)[: len(self.blocks)]
        dictionaries = _in_windows(dictionary, grids)
        tokens, order = _reorder(_to_pixels(queries), None, grids[0]), grids[0].order
        for i, block in enumerate(self.blocks):
            windows = grids[i % 2]
            if i:
                tokens, order = _reorder(tokens, order, windows), windows.order
            tokens = block(tokens, windows, self.index, dictionaries[i % 2], self.dictionary_index)
        return _to_frames(tokens, order, queries)


def _grids(frames: Tensor) -> list[Windows]:
    """The windows of the blocks that are not shifted, and of those that are."""
    height, width = frames.shape[-2:]
    return [windows_of(height, width, shift, frames.device) for shift in (0, SHIFT)]


def _in_windows(dictionary: Tensor, grids: list[Windows]) -> list[Tensor]:
    """A dictionary as all blocks read it: normalised, and in the order of each grid's windows."""
    known = normalised(_to_pixels(dictionary))
    return [_reorder(known, None, windows) for windows in grids]


def _to_pixels(frames: Tensor) -> Tensor:
    """(B, T, C, h, w) -> (B, P, T, C) of the map padded with zeros to whole windows, row by row."""
    height, width = frames.shape[-2:]
    padded = F.pad(frames, (0, -width % WINDOW, 0, -height % WINDOW))
    return padded.permute(0, 3, 4, 1, 2).flatten(1, 2)


def _reorder(tokens: Tensor, order: Tensor | None, windows: Windows) -> Tensor:
    """Tokens in the pixels' order, or in that of other windows -> (B, n, L, C) in the windows'.

    Args:
        tokens: (B, P, T, C) or (B, n, L, C).
        order: of the other windows, which they are in; None: row by row.
        windows: which they shall be in.
    """
    B, C = len(tokens), tokens.shape[-1]
    index = windows.order if order is None else inverse(order)[windows.order]
    by_pixel = tokens.reshape(B, len(index), -1, C).index_select(1, index)
    by_window: Tensor = by_pixel.view(B, len(index) // PLACES, -1, C)
    return by_window


def _to_frames(tokens: Tensor, order: Tensor, like: Tensor) -> Tensor:
    """(B, n, L, C) of windows in this order -> (B, T, C, h, w) as `like` is, without padding."""
    B, T, C, height, width = like.shape
    by_pixel = tokens.reshape(B, len(order), T, C).index_select(1, inverse(order))
    padded: Tensor = by_pixel.unflatten(1, (-1, width + -width % WINDOW))
    return padded[:, :height, :width].permute(0, 3, 4, 1, 2)


def relative_position_index(times: Tensor, others: Tensor) -> Tensor:
    """Where each pair of tokens finds its bias: (L_q, L_k), rows of the bias table.

    Args:
        times: of the frames of those that look, 0, 1, ....
        others: of the frames that they look at, on the same scale.
    """
    reach, span = WINDOW - 1, 2 * WINDOW - 1
    steps = torch.arange(WINDOW)
    distance = steps[:, None] - steps + reach
    # (row, column, frame) of the one, then of the other
    dy = distance[:, None, None, :, None, None]
    dx = distance[:, None, None, :, None]
    dt = (times[:, None] - others + len(times) - 1)[:, None, None, :]
    index = span**2 * dt + span * dy + dx
    return index.flatten(3).flatten(0, 2)
