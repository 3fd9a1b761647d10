"""TMNet as its description reads: gap by gap, time by time, one direction after the other.

Written from the description alone (reference/tmnet/MODEL.md) as functions of the published
checkpoint's tensors. What ours, which makes shared parts once, is compared with.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.straightforward import StraightforwardStdan, lrelu, up


class StraightforwardTmnet(StraightforwardStdan):
    """TMNet over a mapping from published names to tensors."""

    offset_name = "conv_offset_mask"

    def __call__(self, clip: Tensor, times: Sequence[float] | None = None) -> Tensor:
        """(B, N, 3, H, W), H and W multiples of 4 -> (B, T, 3, 4H, 4W); one time if not given."""
        return torch.stack([self.clip_at(frames, times) for frames in clip])

    def clip_at(self, clip: Tensor, times: Sequence[float] | None) -> Tensor:
        frames = [self.residuals("feature_extraction", self.first(frame[None])) for frame in clip]
        pyramids = [self.pyramid(frame, "") for frame in frames]
        sequence = frames[:1]
        for first, second in itertools.pairwise(pyramids):
            for time in times or (None,):
                branches = [
                    self.timed_branch(1, first, second, None if time is None else 2 * time - 1),
                    self.timed_branch(2, second, first, None if time is None else 1 - 2 * time),
                ]
                sequence.append(self.conv("fusion", torch.cat(branches, 1)))
            sequence.append(second[0])
        aggregated = self.both_directions(self.compare(sequence))
        return torch.cat(list(map(self.picture, aggregated, sequence)))

    def first(self, frame: Tensor) -> Tensor:
        return lrelu(self.conv("conv_first", frame))

    def residuals(self, name: str, x: Tensor) -> Tensor:
        i = 0
        while f"{name}.{i}.conv1.weight" in self.weights:
            x = x + self.conv(f"{name}.{i}.conv2", self.conv(f"{name}.{i}.conv1", x).relu())
            i += 1
        return x

    def timed_branch(
        self, number: int, source: list[Tensor], other: list[Tensor], tau: float | None
    ) -> Tensor:
        def conv(layer: str, *inputs: Tensor) -> Tensor:
            return self.conv(f"pcd_align.{layer}_{number}", torch.cat(inputs, 1))

        f = a = source[2]
        for level in (3, 2, 1):
            g = lrelu(conv(f"L{level}_offset_conv1", source[level - 1], other[level - 1]))
            if level < 3:
                g = lrelu(conv(f"L{level}_offset_conv2", g, 2 * up(f)))
            last = "conv2" if level == 3 else "conv3"
            f = lrelu(conv(f"L{level}_offset_{last}", g))
            if tau is not None:
                f = f + self.modulation(f"pcd_align.TMB_{' AB'[number]}_l{level}", g, tau)
            sampled = self.dcn(f"pcd_align.L{level}_dcnpack_{number}", source[level - 1], f)
            a = sampled if level == 3 else conv(f"L{level}_fea_conv", sampled, up(a))
            if level > 1:
                a = lrelu(a)
        return a

    def modulation(self, name: str, g: Tensor, tau: float) -> Tensor:
        for i in (0, 2):
            g = lrelu(self.conv(f"{name}.f_process.{i}", g))
        m = g.new_full((1, 1, 1, 1), tau)
        for i in (0, 2, 4):
            m = lrelu(F.conv2d(m, self.weights[f"{name}.t_process.{i}.weight"]))
        return g * m

    def compare(self, sequence: list[Tensor]) -> list[Tensor]:
        results = []
        for i, here in enumerate(sequence):
            before, after = sequence[max(i - 1, 0)], sequence[min(i + 1, len(sequence) - 1)]
            fused = torch.cat(
                [
                    self.beside("layersAtB", before, here),
                    here,
                    self.beside("layersCtB", after, here),
                ],
                1,
            )
            for layer in (0, 2, 4):
                fused = lrelu(self.conv(f"layersFusion.{layer}", fused))
            results.append(here + self.conv("layersFusion.6", fused))
        return results

    def beside(self, name: str, neighbour: Tensor, here: Tensor) -> Tensor:
        features = lrelu(self.conv(f"{name}Offset.0", torch.cat([neighbour, here], 1)))
        return lrelu(self.dcn(name, neighbour, self.conv(f"{name}Offset.2", features)))

    def both_directions(self, sequence: list[Tensor]) -> list[Tensor]:
        forward, backward = self.recur(sequence), self.recur(sequence[::-1])[::-1]
        return [
            self.conv("ConvBLSTM.conv_1x1", torch.cat(pair, 1))
            for pair in zip(forward, backward, strict=True)
        ]

    def recur(self, sequence: list[Tensor]) -> list[Tensor]:
        name, results = "ConvBLSTM.forward_net", []
        hidden = cell = torch.zeros_like(sequence[0])
        for x in sequence:
            hidden = self.align_state(f"{name}.pcd_h.", x, hidden)
            cell = self.align_state(f"{name}.pcd_c.", x, cell)
            gates = self.conv(f"{name}.cell_list.0.conv", torch.cat([x, hidden], 1))
            i, f, o, g = gates.chunk(4, 1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            results.append(hidden)
        return results

    def align_state(self, unit: str, x: Tensor, state: Tensor) -> Tensor:
        both = self.pcd(f"{unit}pcd_align.", self.pyramid(x, unit), self.pyramid(state, unit))
        return self.conv(f"{unit}fusion", torch.cat(both, 1))

    def picture(self, aggregated: Tensor, skipped: Tensor) -> Tensor:
        x = self.residuals("recon_trunk", aggregated) + skipped
        for layer in ("upconv1", "upconv2"):
            x = lrelu(F.pixel_shuffle(self.conv(layer, x), 2))
        return self.conv("conv_last", lrelu(self.conv("HRconv", x)))
