"""The Swin stage: residual groups of window-attention blocks on one resolution.

Inside, a map is (B, H, W, E): tokens are pixels, and convolutions see it as channels-last images.
Sources: Swin Transformer (arXiv 2103.14030); the stage as STDAN uses it (arXiv 2203.06841).
"""

import torch
from torch import Tensor, nn

from stvsr.models.layers.parts import by_parts, by_rows
from stvsr.models.layers.pcd import conv3x3
from stvsr.models.layers.recompute import KEPT_NUMBERS, recomputed
from stvsr.ops import window_attention

WINDOW = 8
"""Side of an attention window, in pixels; a stage takes multiples of it."""

DROP_PATH = 0.1
"""Stochastic-depth rate of a stage's last block; it rises linearly from 0. Training only."""


class SwinStage(nn.Module):
    """Maps C channels to C through residual groups of Swin blocks on E channels."""

    def __init__(self, channels: int, embedding: int, heads: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.blocks = groups * blocks
        rates = [DROP_PATH * i / max(1, self.blocks - 1) for i in range(self.blocks)]
        self.conv_first = conv3x3(channels, embedding)
        self.embed_norm = nn.LayerNorm(embedding)
        self.groups = nn.ModuleList(
            [
                SwinGroup(embedding, heads, rates[i * blocks : (i + 1) * blocks])
                for i in range(groups)
            ]
        )
        self.norm = nn.LayerNorm(embedding)
        self.conv_after_body = conv3x3(embedding, embedding)
        self.conv_last = conv3x3(embedding, channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); H and W multiples of `WINDOW`."""
        first = self.conv_first(images)
        tokens = self.embed_norm(first.permute(0, 2, 3, 1))
        mask = _shift_mask(tokens)
        # an MLP's hidden results are five maps: those of `norm2`, and twice two of fc1 and GELU
        keep = self.blocks * 5 * tokens.numel() <= KEPT_NUMBERS
        for group in self.groups:
            tokens = group(tokens, mask, keep)
        body = self.conv_after_body(self.norm(tokens).permute(0, 3, 1, 2))
        result: Tensor = self.conv_last(body + first)
        return result


class SwinGroup(nn.Module):
    """Swin blocks with alternating shift, a convolution, and the group's own input."""

    def __init__(self, embedding: int, heads: int, drop_rates: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                SwinBlock(embedding, heads, shift=WINDOW // 2 * (i % 2), drop_rate=rate)
                for i, rate in enumerate(drop_rates)
            ]
        )
        self.conv = conv3x3(embedding, embedding)

    def forward(self, tokens: Tensor, mask: Tensor, keep: bool) -> Tensor:
        """(B, H, W, E) -> (B, H, W, E); see `SwinBlock`."""
        x = tokens
        for block in self.blocks:
            x = block(x, mask, keep)
        residual: Tensor = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return residual + tokens


class SwinBlock(nn.Module):
    """`x + attn(norm1(x))`, then `x + mlp(norm2(x))`, each under stochastic depth."""

    def __init__(self, embedding: int, heads: int, shift: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embedding)
        self.attn = WindowAttention(embedding, heads, shift)
        self.norm2 = nn.LayerNorm(embedding)
        self.mlp = nn.Sequential(
            nn.Linear(embedding, 2 * embedding), nn.GELU(), nn.Linear(2 * embedding, embedding)
        )
        self.drop_path = DropPath(drop_rate)

    def forward(self, tokens: Tensor, mask: Tensor, keep: bool) -> Tensor:
        """Add both branches.

        Args:
            tokens: (B, H, W, E).
            mask: (windows, L, L), for windows that wrap.
            keep: whether the MLP keeps its hidden results for the backward pass.

        Returns:
            (B, H, W, E).
        """
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), mask))
        hidden = self._feed_forward(tokens) if keep else recomputed(self._feed_forward, tokens)
        result: Tensor = tokens + self.drop_path(hidden)
        return result

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        def some(rows: slice) -> Tensor:
            mixed: Tensor = self.mlp(self.norm2(tokens[:, rows]))
            return mixed.permute(0, 3, 1, 2)

        return by_rows(some, tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DropPath(nn.Module):
    """Stochastic depth: in training, zero a whole image's branch with the given probability."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> (B, ...); kept images are scaled by 1 / (1 - rate)."""
        if not self.training or self.rate == 0.0:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)


class WindowAttention(nn.Module):
    """Self-attention within (shifted) windows, with a learned bias per head and displacement."""

    relative_position_index: Tensor

    def __init__(self, embedding: int, heads: int, shift: int) -> None:
        super().__init__()
        self.heads, self.shift = heads, shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        self.qkv = nn.Linear(embedding, 3 * embedding)
        self.proj = nn.Linear(embedding, embedding)
        index = _relative_position_index()
        self.register_buffer("relative_position_index", index, persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, E) -> (B, H, W, E); `mask` (windows, L, L) is for the windows that wrap."""
        B, H, W, _ = tokens.shape
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), (1, 2))
        windows, bias = _to_windows(tokens), self._bias()

        def some(part: slice) -> Tensor:
            masks = _masks_of(mask, part) if self.shift else None
            mixed = window_attention(self.qkv(windows[part]), bias, masks)
            attended: Tensor = self.proj(mixed)
            return attended

        attended = by_parts(some, len(windows), WINDOW * WINDOW, windows.device)
        tokens = _from_windows(attended, B, H, W)
        if self.shift:
            tokens = tokens.roll((self.shift, self.shift), (1, 2))
        return tokens

    def _bias(self) -> Tensor:
        """The relative-position bias, (heads, L, L)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


def _masks_of(mask: Tensor, windows: slice) -> Tensor:
    """The masks (b, L, L) of some of all images' windows; of all, one image's are enough."""
    if windows.start == 0 and windows.stop % len(mask) == 0:
        return mask
    return mask[torch.arange(windows.start, windows.stop, device=mask.device) % len(mask)]


def _to_windows(tokens: Tensor) -> Tensor:
    """(B, H, W, E) -> (B * windows, L, E), windows row by row."""
    B, H, W, E = tokens.shape
    split = tokens.view(B, H // WINDOW, WINDOW, W // WINDOW, WINDOW, E)
    return split.transpose(2, 3).reshape(-1, WINDOW * WINDOW, E)


def _from_windows(windows: Tensor, B: int, H: int, W: int) -> Tensor:
    """The inverse of `_to_windows`."""
    split = windows.view(B, H // WINDOW, W // WINDOW, WINDOW, WINDOW, -1)
    return split.transpose(2, 3).reshape(B, H, W, -1)


def _relative_position_index() -> Tensor:
    """Where each pair of a window's pixels finds its bias: (L, L), (dy + 7) * 15 + (dx + 7)."""
    steps = torch.arange(WINDOW)
    y, x = steps.repeat_interleave(WINDOW), steps.repeat(WINDOW)
    dy, dx = y[:, None] - y, x[:, None] - x
    return (dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1


def _shift_mask(tokens: Tensor) -> Tensor:
    """-inf between a shifted window's pixels that were no neighbours before, else 0: (M, L, L)."""
    _, H, W, _ = tokens.shape
    shift = WINDOW // 2

    def regions(length: int) -> Tensor:
        position = torch.arange(length, device=tokens.device)
        return (position >= length - WINDOW).long() + (position >= length - shift).long()

    region = 3 * regions(H)[:, None] + regions(W)
    windows = _to_windows(region[None, :, :, None])[..., 0]
    different = windows[:, :, None] != windows[:, None]
    return tokens.new_zeros(different.shape).masked_fill_(different, -torch.inf)
