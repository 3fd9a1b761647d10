"""RSTT as its description reads: every block on the padded, rolled map, every mask written out.

Slow and large; the published layout in the published names, for tests to compare with.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.models.layers.frames import interleave
from tests.support.straightforward import lrelu

WINDOW, SHIFT, FRAMES = 4, 2, 4


class StraightforwardRstt:
    """RSTT over a mapping from published names to tensors; it takes clips of 4 frames."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int) -> None:
        self.weights, self.heads = weights, heads
        blocks = {name.split(".")[3] for name in weights if name.startswith("encoder_layers.0.b")}
        self.blocks = len(blocks)

    def __call__(self, clip: Tensor) -> Tensor:
        B, _, _, H, W = clip.shape
        x = F.leaky_relu(self.conv("input_proj.proj.0", clip.flatten(0, 1)), 0.01)
        x = F.pad(x, (0, -W % 8, 0, -H % 8)).unflatten(0, (B, FRAMES))
        encoded = []
        for i in range(4):
            for j in range(self.blocks):
                x = self.encoder_block(f"encoder_layers.{i}.blocks.{j}", x, j, self.heads * 2**i)
            encoded.append(x)
            if i < 3:
                name = f"downsample.{i}.conv.0"
                x = self.conv(name, x.flatten(0, 1), stride=2).unflatten(0, (B, -1))
        y = interleave(x, (x[:, :-1] + x[:, 1:]) / 2)
        for i in range(4):
            for j in range(self.blocks):
                name = f"decoder_layers.{i}.blocks.{j}"
                y = self.decoder_block(name, y, encoded[3 - i], j, self.heads * 2 ** (3 - i))
            if i < 3:
                name = f"upsample.{i}.deconv.0"
                weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
                y = F.conv_transpose2d(y.flatten(0, 1), weight, bias, stride=2)
                y = y.unflatten(0, (B, -1))
        return self.reconstruct(y[..., :H, :W]) + trilinear(clip)

    def reconstruct(self, y: Tensor) -> Tensor:
        x = lrelu(F.pixel_shuffle(self.conv("upconv1", y.flatten(0, 1)), 2))
        x = lrelu(F.pixel_shuffle(self.conv("upconv2", x), 2))
        x = self.conv("conv_last", lrelu(self.conv("HRconv", x)))
        return x.unflatten(0, (len(y), -1))

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.conv2d(x, weight, bias, stride, padding=1)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm over the channels of (B, T, C, h, w)."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x.movedim(2, -1), weight.shape, weight, bias).movedim(-1, 2)

    def encoder_block(self, name: str, x: Tensor, number: int, heads: int) -> Tensor:
        normed = self.norm(f"{name}.norm1", x)
        x = x + self.attention(f"{name}.attn", normed, normed, range(4), number, heads)
        return x + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x))

    def decoder_block(
        self, name: str, y: Tensor, dictionary: Tensor, number: int, heads: int
    ) -> Tensor:
        normed = self.norm(f"{name}.norm1", y)
        y = y + self.attention(f"{name}.attn1", normed, normed, range(7), number, heads)
        normed, known = self.norm(f"{name}.norm2", y), self.norm(f"{name}.norm_kv", dictionary)
        y = y + self.attention(f"{name}.attn2", normed, known, range(0, 7, 2), number, heads)
        return y + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm3", y))

    def mlp(self, name: str, x: Tensor) -> Tensor:
        hidden = F.gelu(self.linear(f"{name}.fc1", x.movedim(2, -1)))
        return self.linear(f"{name}.fc2", hidden).movedim(-1, 2)

    def attention(
        self, name: str, query: Tensor, key: Tensor, times: range, number: int, heads: int
    ) -> Tensor:
        """Attention of frames to frames at `times`, in windows that odd blocks shift."""
        h, w = query.shape[-2:]
        shift = [SHIFT * (number % 2) if side > WINDOW else 0 for side in (h, w)]
        q = self.linear(f"{name}.q", to_windows(query, shift)).unflatten(2, (heads, -1))
        kv = self.linear(f"{name}.kv", to_windows(key, shift)).unflatten(2, (2, heads, -1))
        q, (k, v) = q.transpose(1, 2), kv.permute(2, 0, 3, 1, 4)
        logits = q @ k.mT * q.shape[-1] ** -0.5 + self.position_bias(name, query.shape[1], times)
        logits = logits + shift_mask(h, w, shift, query.shape[:2], key.shape[:2], logits)
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return from_windows(self.linear(f"{name}.proj", mixed), query.shape, shift)

    def position_bias(self, name: str, frames: int, times: range) -> Tensor:
        table = self.weights[f"{name}.relative_position_bias_table"]
        places = [(y, x) for y in range(WINDOW) for x in range(WINDOW)]
        rows = [
            (t - s + frames - 1) * 49 + (y - v + 3) * 7 + (x - u + 3)
            for t in range(frames)
            for y, x in places
            for s in times
            for v, u in places
        ]
        return table[torch.tensor(rows)].view(16 * frames, 16 * len(times), -1).permute(2, 0, 1)


def to_windows(x: Tensor, shift: list[int]) -> Tensor:
    """(B, T, C, h, w) -> windows (W, T * 16, C) of the padded, rolled map: frame, row, column."""
    x = F.pad(x, (0, -x.shape[-1] % WINDOW, 0, -x.shape[-2] % WINDOW))
    x = x.roll([-step for step in shift], (-2, -1))
    x = x.unflatten(4, (-1, WINDOW)).unflatten(3, (-1, WINDOW))
    return x.permute(0, 3, 5, 1, 4, 6, 2).flatten(3, 5).flatten(0, 2)


def from_windows(windows: Tensor, shape: torch.Size, shift: list[int]) -> Tensor:
    """The inverse of `to_windows`, without the padding."""
    B, T, _, h, w = shape
    x = windows.unflatten(1, (T, WINDOW, WINDOW))
    x = x.unflatten(0, (B, (h + 3) // WINDOW, (w + 3) // WINDOW)).permute(0, 3, 6, 1, 4, 2, 5)
    return x.flatten(5, 6).flatten(3, 4).roll(shift, (-2, -1))[..., :h, :w]


def shift_mask(
    h: int, w: int, shift: list[int], query: torch.Size, key: torch.Size, like: Tensor
) -> Tensor:
    """-100 between a window's pixels that come from different regions: (W, 1, L_q, L_k)."""
    sides = [side + -side % WINDOW for side in (h, w)]
    regions = [
        (torch.arange(side) >= side - WINDOW).long() + (torch.arange(side) >= side - SHIFT).long()
        if step
        else torch.zeros(side, dtype=torch.long)
        for side, step in zip(sides, shift, strict=True)
    ]
    region = 3 * regions[0][:, None] + regions[1]
    of_query, of_key = (
        to_windows(region.expand(*frames, 1, *sides), [0, 0])[..., 0] for frames in (query, key)
    )
    return (of_query[:, None, :, None] != of_key[:, None, None]).to(like) * -100.0


def trilinear(clip: Tensor) -> Tensor:
    B, N, C, H, W = clip.shape
    volume, size = clip.transpose(1, 2), (2 * N - 1, 4 * H, 4 * W)
    return F.interpolate(volume, size, mode="trilinear", align_corners=False).transpose(1, 2)
