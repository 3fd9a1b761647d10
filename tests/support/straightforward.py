"""STDAN as its description reads: pair by pair, every sampled K and V written out.

Written from the description alone (reference/stdan/MODEL.md) as functions of the published
checkpoint's tensors; it shares no code with `stvsr`. What ours is compared with, in values by
tests/model and in time and memory by benchmarks/models_cpu.py.
"""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

GROUPS = 8
HEADS = 6
WINDOW = 8


class StraightforwardStdan:
    """STDAN over a mapping from published names to tensors.

    Attributes:
        offset_name: name of the offsets' convolution within a deformable one.
    """

    offset_name = "conv_offset"

    def __init__(self, weights: Mapping[str, Tensor], k: int = 3, T_top: int = 2) -> None:
        self.weights, self.k, self.T_top = weights, k, T_top
        self.sample = sample

    def __call__(self, clip: Tensor) -> Tensor:
        """(1, N, 3, H, W), H and W multiples of 8 -> (1, 2N-1, 3, 4H, 4W)."""
        return torch.stack([self.one_clip(frames) for frames in clip])

    def one_clip(self, clip: Tensor) -> Tensor:
        frames = [self.extract(frame[None]) for frame in clip]
        gaps = self.interpolate([self.pyramid(frame, "") for frame in frames])
        sequence = [frames[0]]
        for gap, frame in zip(gaps, frames[1:], strict=True):
            sequence += [gap, frame]
        return torch.cat([self.reconstruct(x) for x in self.aggregate(sequence)])

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(
            x, weight, self.weights[f"{name}.bias"], stride, padding=weight.shape[2] // 2
        )

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        )

    # 1. Feature extraction

    def extract(self, frame: Tensor) -> Tensor:
        return self.swin_stage("feature_extraction", lrelu(self.conv("conv_first", frame)))

    def pyramid(self, x: Tensor, prefix: str) -> list[Tensor]:
        levels = [x]
        for level in ("L2", "L3"):
            x = lrelu(self.conv(f"{prefix}fea_{level}_conv1", x, stride=2))
            x = lrelu(self.conv(f"{prefix}fea_{level}_conv2", x))
            levels.append(x)
        return levels

    def swin_stage(self, name: str, image: Tensor) -> Tensor:
        first = self.conv(f"{name}.conv_first", image)
        x = self.norm(f"{name}.patch_embed.norm", first.permute(0, 2, 3, 1))
        group = 0
        while f"{name}.layers.{group}.conv.weight" in self.weights:
            start, block = x, 0
            prefix = f"{name}.layers.{group}"
            while f"{prefix}.residual_group.blocks.{block}.norm1.weight" in self.weights:
                x = self.swin_block(f"{prefix}.residual_group.blocks.{block}", x, 4 * (block % 2))
                block += 1
            x = self.conv(f"{prefix}.conv", x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + start
            group += 1
        x = self.norm(f"{name}.norm", x).permute(0, 3, 1, 2)
        return self.conv(f"{name}.conv_last", self.conv(f"{name}.conv_after_body", x) + first)

    def swin_block(self, name: str, x: Tensor, shift: int) -> Tensor:
        x = x + self.attention(f"{name}.attn", self.norm(f"{name}.norm1", x), shift)
        hidden = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.mlp.fc2", hidden)

    def attention(self, name: str, x: Tensor, shift: int) -> Tensor:
        _, H, W, E = x.shape
        windows = to_windows(x.roll((-shift, -shift), (1, 2)))
        qkv = self.linear(f"{name}.qkv", windows)
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        logits = (q * (E // HEADS) ** -0.5) @ k.transpose(-2, -1)
        logits = logits + self.position_bias(name)
        if shift:
            logits = logits + shift_mask(H, W, shift, x)[:, None]
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(windows.shape)
        x = from_windows(self.linear(f"{name}.proj", mixed), H, W)
        return x.roll((shift, shift), (1, 2))

    def position_bias(self, name: str) -> Tensor:
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + 7) * 15 + (x[:, None] - x + 7)
        table = self.weights[f"{name}.relative_position_bias_table"]
        return table[index].permute(2, 0, 1)

    # 2. LSTFI

    def interpolate(self, pyramids: list[list[Tensor]]) -> list[Tensor]:
        forward = self.one_direction(pyramids)
        if "fusion_f_b.weight" not in self.weights:
            return forward
        backward = self.one_direction(pyramids[::-1])[::-1]
        return [
            self.conv("fusion_f_b", torch.cat(both, 1))
            for both in zip(forward, backward, strict=True)
        ]

    def one_direction(self, pyramids: list[list[Tensor]]) -> list[Tensor]:
        cell, results = "pcd_align_modified.", []
        state = torch.zeros_like(pyramids[0][0])
        for first, second in itertools.pairwise(pyramids):
            y = self.conv(f"{cell}fusion", torch.cat(self.pcd(cell, first, second), 1))
            if f"{cell}fusion_1x1.weight" in self.weights:
                unit = f"{cell}pcd_h."
                levels, of_state = self.pyramid(y, unit), self.pyramid(state, unit)
                aligned = self.pcd(f"{unit}pcd_align.", levels, of_state)
                aligned_state = self.conv(f"{unit}fusion", torch.cat(aligned, 1))
                y = self.conv(f"{cell}fusion_1x1", torch.cat([aligned_state, y], 1))
                state = self.conv(f"{cell}conv_h2", lrelu(self.conv(f"{cell}conv_h1", y)))
            results.append(y)
        return results

    def pcd(self, name: str, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        return [self.branch(name, 1, first, second), self.branch(name, 2, second, first)]

    def branch(self, name: str, number: int, source: list[Tensor], other: list[Tensor]) -> Tensor:
        def conv(layer: str, *inputs: Tensor) -> Tensor:
            return self.conv(f"{name}{layer}_{number}", torch.cat(inputs, 1))

        def dcn(level: int, features: Tensor) -> Tensor:
            return self.dcn(f"{name}L{level}_dcnpack_{number}", source[level - 1], features)

        f = lrelu(conv("L3_offset_conv2", lrelu(conv("L3_offset_conv1", source[2], other[2]))))
        a = lrelu(dcn(3, f))
        for level in (2, 1):
            g = lrelu(conv(f"L{level}_offset_conv1", source[level - 1], other[level - 1]))
            g = lrelu(conv(f"L{level}_offset_conv2", g, 2 * up(f)))
            f = lrelu(conv(f"L{level}_offset_conv3", g))
            a = conv(f"L{level}_fea_conv", dcn(level, f), up(a))
            if level == 2:
                a = lrelu(a)
        return a

    def dcn(self, name: str, x: Tensor, features: Tensor) -> Tensor:
        offset, modulation = self.offsets(f"{name}.{self.offset_name}", features)
        samples = self.sample(x, offset, modulation)
        weight = self.weights[f"{name}.weight"]
        columns = samples.flatten(1, 2).flatten(2)
        out = weight.flatten(1) @ columns + self.weights[f"{name}.bias"][:, None]
        return out.unflatten(2, x.shape[2:])

    def offsets(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        one, two, three = self.conv(name, features).chunk(3, 1)
        offset = torch.cat([one, two], 1).unflatten(1, (GROUPS, -1, 2))
        return offset, three.sigmoid().unflatten(1, (GROUPS, -1))

    # 3. STDFA

    def aggregate(self, frames: list[Tensor]) -> list[Tensor]:
        if "stdfa.conv_first.weight" not in self.weights:
            return frames
        maps = [self.conv("stdfa.conv_first", frame).permute(0, 2, 3, 1) for frame in frames]
        q, k, v = (
            [self.linear(f"stdfa.qkv_maps.{name}", x).permute(0, 3, 1, 2) for x in maps]
            for name in ("w_qs", "w_ks", "w_vs")
        )
        results = []
        for i, frame in enumerate(frames):
            others = [j for j in range(len(frames)) if j != i]
            values, weights = zip(*[self.pair(q[i], k[j], v[j]) for j in others], strict=True)
            share = torch.stack(weights).softmax(0)
            mixed = (share[:, :, None] * torch.stack(values)).sum(0)
            results.append(frame + self.conv("stdfa.conv_last", mixed))
        return results

    def pair(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """V_{j->i} (1, E, H, W) and the pair's weight W (1, H, W)."""
        offset, modulation, T_top = self.points(q, k)
        keys = self.sample(k, offset, modulation)
        values = self.sample(v, offset, modulation)
        relevance = (q[:, :, None] * keys).sum(1)
        top, index = relevance.topk(T_top, dim=1)
        share = top.softmax(1)[:, None]
        index = index[:, None].expand(-1, k.shape[1], -1, -1, -1)
        mixed_key = (share * keys.gather(2, index)).sum(2)
        mixed_value = (share * values.gather(2, index)).sum(2)
        return mixed_value, (q * mixed_key).sum(1)

    def points(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, int]:
        name = "stdfa.deformable_corr"
        if f"{name}.offset_conv1.weight" not in self.weights:
            shape = (1, GROUPS, self.k**2, *q.shape[2:])
            return q.new_zeros(*shape[:3], 2, *shape[3:]), q.new_ones(shape), self.k**2
        features = lrelu(self.conv(f"{name}.offset_conv1", torch.cat([q, k], 1)))
        features = lrelu(self.conv(f"{name}.offset_conv2", features))
        offset, modulation = self.offsets(f"{name}.dcn_attention.conv_offset_mask", features)
        return offset, modulation, self.T_top

    # 4. Reconstruction

    def reconstruct(self, frame: Tensor) -> Tensor:
        x = self.swin_stage("feature_recon", frame)
        x = F.leaky_relu(self.conv("conv_before_upsample.0", x), 0.01)
        x = F.pixel_shuffle(self.conv("upsample.0", x), 2)
        x = F.pixel_shuffle(self.conv("upsample.2", x), 2)
        return self.conv("conv_last", x)


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def sample(x: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """(1, C, H, W) at offsets (1, G, K, 2, H, W) times the modulation: (1, C, K, H, W)."""
    _, C, H, W = x.shape
    _, G, K = modulation.shape[:3]
    side = round(K**0.5)
    steps = torch.arange(side, dtype=x.dtype, device=x.device) - side // 2
    dy, dx = steps.repeat_interleave(side), steps.repeat(side)
    rows = torch.arange(H, dtype=x.dtype, device=x.device)
    columns = torch.arange(W, dtype=x.dtype, device=x.device)
    y = offset[0, :, :, 0] + dy[:, None, None] + rows[:, None]
    x_position = offset[0, :, :, 1] + dx[:, None, None] + columns
    groups = x.reshape(G, C // G, H * W)
    sampled = 0
    for row in (y.floor(), y.floor() + 1):
        for column in (x_position.floor(), x_position.floor() + 1):
            weight = (1 - (y - row).abs()) * (1 - (x_position - column).abs())
            weight = weight * ((row >= 0) & (row < H) & (column >= 0) & (column < W))
            index = (row.clamp(0, H - 1) * W + column.clamp(0, W - 1)).long().flatten(1)
            corner = groups.gather(2, index[:, None].expand(-1, C // G, -1))
            sampled = sampled + corner.unflatten(2, (K, H, W)) * weight[:, None]
    return (sampled * modulation[0][:, None]).reshape(1, C, K, H, W)


def to_windows(x: Tensor) -> Tensor:
    _, H, W, E = x.shape
    x = x.reshape(H // WINDOW, WINDOW, W // WINDOW, WINDOW, E).transpose(1, 2)
    return x.reshape(-1, WINDOW * WINDOW, E)


def from_windows(x: Tensor, H: int, W: int) -> Tensor:
    x = x.reshape(H // WINDOW, W // WINDOW, WINDOW, WINDOW, -1).transpose(1, 2)
    return x.reshape(1, H, W, -1)


def shift_mask(H: int, W: int, shift: int, like: Tensor) -> Tensor:
    """-100 between pixels of a window that come from different regions: (windows, 64, 64)."""
    region = like.new_zeros(1, H, W, 1)
    cuts = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for i, rows in enumerate(cuts):
        for j, columns in enumerate(cuts):
            region[:, rows, columns] = 3 * i + j
    windows = to_windows(region)[..., 0]
    return (windows[:, None] != windows[:, :, None]) * -100.0
