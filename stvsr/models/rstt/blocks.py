"""The blocks of RSTT's encoder and decoder: attention within windows of all frames, and MLPs.

A LayerNorm's scale and shift are part of the product that follows it, so tokens come normalised
without them. Where a map is padded, its tokens there are zeros behind the LayerNorm: the product
gives its bias for them. They are keys like all others.

Source: RSTT (arXiv 2203.14186), section 3; the numbers are the published network's.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.layers.swin import DropPath
from stvsr.models.rstt.windows import PLACES, WINDOW, Windows, by_windows, wrap_mask
from stvsr.ops import cross_window_attention, window_attention

OWN_PIXEL = 4.0
"""Addend of `look_at_own_pixel` to the bias: nearly half of the weight of 64 tokens."""

Biases = dict[tuple[bool, bool], Tensor]
"""What is added to the logits (heads, L_q, L_k) of each kind of windows, by what it wraps."""


class EncoderBlock(nn.Module):
    """`x + attn(norm1(x))`, then `x + mlp(norm2(x))`, each under stochastic depth."""

    def __init__(self, channels: int, heads: int, frames: int, rate: float) -> None:
        super().__init__()
        self.frames = frames
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, frames)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = mlp(channels)
        self.drop_path = DropPath(rate)

    def forward(self, tokens: Tensor, windows: Windows, index: Tensor) -> Tensor:
        """(B, n, L, C) -> (B, n, L, C); `index` (L, L) finds the relative-position bias.

        Without gradients the result takes the tokens' place.
        """
        update = functools.partial(self._update, self.attn.biases(index, windows))
        return by_windows(update, windows, tokens)

    def _update(self, biases: Biases, windows: Windows, tokens: Tensor) -> Tensor:
        inside = windows.tokens_inside(self.frames)
        attended = self.attn.to_itself(normalised(tokens), self.norm1, biases, windows, inside)
        tokens = tokens + self.drop_path(attended)
        result: Tensor = tokens + self.drop_path(feed_forward(self.mlp, self.norm2, tokens))
        return result


class DecoderBlock(nn.Module):
    """Queries look at themselves, then at the encoder's dictionary, then an MLP.

    `x + attn1(norm1(x))`, `x + attn2(norm2(x), norm_kv(dictionary))`, `x + mlp(norm3(x))`, each
    under stochastic depth.
    """

    def __init__(
        self, channels: int, heads: int, frames: int, dictionary_frames: int, rate: float
    ) -> None:
        super().__init__()
        self.frames, self.dictionary_frames = frames, dictionary_frames
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = WindowAttention(channels, heads, frames)
        self.norm2 = nn.LayerNorm(channels)
        self.norm_kv = nn.LayerNorm(channels)
        self.attn2 = WindowAttention(channels, heads, frames)
        self.norm3 = nn.LayerNorm(channels)
        self.mlp = mlp(channels)
        self.drop_path = DropPath(rate)

    def forward(
        self,
        tokens: Tensor,
        windows: Windows,
        index: Tensor,
        dictionary: Tensor,
        dictionary_index: Tensor,
    ) -> Tensor:
        """Update the queries.

        Args:
            tokens: the queries, (B, n, L, C); without gradients the result takes their place.
            windows: theirs and the dictionary's.
            index: (L, L), finds the relative-position bias between queries.
            dictionary: normalised, (B, n, L_k, C).
            dictionary_index: (L, L_k), finds that of queries and dictionary.
        """
        biases = self.attn1.biases(index, windows), self.attn2.biases(dictionary_index, windows)
        return by_windows(functools.partial(self._update, *biases), windows, tokens, dictionary)

    def _update(
        self, own: Biases, cross: Biases, windows: Windows, tokens: Tensor, dictionary: Tensor
    ) -> Tensor:
        inside = windows.tokens_inside(self.frames)
        attended = self.attn1.to_itself(normalised(tokens), self.norm1, own, windows, inside)
        tokens = tokens + self.drop_path(attended)
        q = self.attn2.queries(normalised(tokens), self.norm2, inside)
        inside = windows.tokens_inside(self.dictionary_frames)
        kv = self.attn2.keys_and_values(dictionary, self.norm_kv, inside)
        tokens = tokens + self.drop_path(self.attn2.to_others(q, kv, cross, windows))
        result: Tensor = tokens + self.drop_path(feed_forward(self.mlp, self.norm3, tokens))
        return result


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias per head and displacement in time and space."""

    def __init__(self, channels: int, heads: int, frames: int) -> None:
        super().__init__()
        displacements = (2 * frames - 1) * (2 * WINDOW - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(displacements, heads))
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.normal_(self.relative_position_bias_table, std=0.02)

    def look_at_own_pixel(self) -> None:
        """Start with most of the weight on the same pixel at the same time, where there is one."""
        table = self.relative_position_bias_table.data
        table[len(table) // 2] += OWN_PIXEL

    def biases(self, index: Tensor, windows: Windows) -> Biases:
        """What is added to the logits, for each kind of windows.

        The published network adds -100 where a pixel may not look; behind the softmax -inf is the
        same.
        """
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        biases = {}
        for kind in windows.kinds:
            mask = wrap_mask(kind.wraps, bias)
            for dim, tokens in enumerate(index.shape):
                mask = mask.repeat_interleave(tokens // PLACES, dim)
            biases[kind.wraps] = bias + mask if any(kind.wraps) else bias
        return biases

    def to_itself(
        self,
        tokens: Tensor,
        norm: nn.LayerNorm,
        biases: Biases,
        windows: Windows,
        inside: Tensor | None,
    ) -> Tensor:
        """Each window's tokens attend to each other: (B, n, L, C) -> (B, n, L, C)."""
        weight = torch.cat([self.q.weight, self.kv.weight])
        bias = torch.cat([self.q.bias, self.kv.bias])
        qkv = project(tokens, norm, weight, bias, inside)

        def attend(added: Tensor, qkv: Tensor) -> Tensor:
            return window_attention(qkv, added, None)

        attended: Tensor = self.proj(_by_kind(attend, biases, windows, qkv))
        return attended

    def queries(self, tokens: Tensor, norm: nn.LayerNorm, inside: Tensor | None) -> Tensor:
        """(B, n, L, C) -> (B, n, L, C)."""
        return project(tokens, norm, self.q.weight, self.q.bias, inside)

    def keys_and_values(self, tokens: Tensor, norm: nn.LayerNorm, inside: Tensor | None) -> Tensor:
        """(B, n, L, C) -> (B, n, L, 2C)."""
        return project(tokens, norm, self.kv.weight, self.kv.bias, inside)

    def to_others(self, q: Tensor, kv: Tensor, biases: Biases, windows: Windows) -> Tensor:
        """Queries (B, n, L_q, C) attend to keys and values (B, n, L_k, 2C): (B, n, L_q, C)."""

        def attend(added: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            return cross_window_attention(q, kv, added)

        attended: Tensor = self.proj(_by_kind(attend, biases, windows, q, kv))
        return attended


def _by_kind(
    attend: Callable[..., Tensor], biases: Biases, windows: Windows, *tokens: Tensor
) -> Tensor:
    """Attend kind by kind, since each has another bias: tokens (B, n, ...) -> (B, n, L, C)."""
    counts = [kind.count for kind in windows.kinds]
    pieces = zip(*(tensor.split(counts, dim=1) for tensor in tokens), strict=True)
    attended = [
        attend(biases[kind.wraps], *(piece.flatten(0, 1) for piece in some)).unflatten(
            0, (-1, kind.count)
        )
        for kind, some in zip(windows.kinds, pieces, strict=True)
    ]
    return torch.cat(attended, dim=1) if len(attended) > 1 else attended[0]


def mlp(channels: int) -> nn.Sequential:
    """C -> 2C -> C."""
    return nn.Sequential(
        nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
    )


def feed_forward(layers: nn.Sequential, norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """`layers(norm(tokens))`."""
    first = layers[0]
    hidden = project(normalised(tokens), norm, first.weight, first.bias, None)  # type: ignore[arg-type]
    result: Tensor = layers[1:](hidden)
    return result


def normalised(tokens: Tensor) -> Tensor:
    """A LayerNorm over the channels (..., C) without scale and shift."""
    return F.layer_norm(tokens, tokens.shape[-1:])


def project(
    tokens: Tensor, norm: nn.LayerNorm, weight: Tensor, bias: Tensor, inside: Tensor | None
) -> Tensor:
    """A Linear of normalised tokens, with the norm's scale and shift in its weights.

    Args:
        tokens: (..., C), `normalised`.
        norm: whose scale and shift are meant.
        weight: (C', C) of the Linear.
        bias: (C',) of the Linear: its result for zeros.
        inside: whether a token is one of the picture; those that are not count as zeros behind
            the norm. None where all are.
    """
    result = F.linear(tokens, weight * norm.weight, bias + weight @ norm.bias)
    return result if inside is None else torch.where(inside, result, bias.to(result.dtype))
