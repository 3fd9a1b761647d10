"""Spatial-temporal global refinement: a graph of all frames' LR and HR means (STINet, III-D)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.stinet.blocks import Down

STRENGTH = 0.1
"""Share of a map's product with its node's output that is added to it."""


class GraphSage(nn.Module):
    """A GraphSAGE layer of the kind `gcn`: a linear map of the mean over a node's neighbourhood."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, nodes: Tensor, mean: Tensor) -> Tensor:
        """Nodes (B, n, C) and the means' weights (n, n) or (B, n, n) -> (B, n, C')."""
        mapped: Tensor = self.linear(mean @ nodes)
        return mapped + self.bias


class STGR(nn.Module):
    """Four graph layers over 2T nodes: the HR frames, then the LR frames.

    The published network computes the edges' attributes and does not use them (and so has
    `down`); neither do we.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = [channels, *[4 * channels] * 3, channels]
        self.layers = nn.ModuleList(GraphSage(*pair) for pair in itertools.pairwise(sizes))
        self.down = Down(channels)

    def forward(self, low: list[Tensor], high: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Factors (B, C, 1, 1) of the LR and of the HR maps, from each frame's maps (B, C, ...)."""
        nodes = torch.stack([frame.mean((-2, -1)) for frame in (*high, *low)], dim=1)
        mean = _neighbourhoods(len(high)).to(nodes)
        for layer in self.layers[:-1]:
            nodes = F.relu_(layer(nodes, mean))
        nodes = self.layers[-1](nodes, mean)
        factors = [1 + STRENGTH * node[..., None, None] for node in nodes.unbind(1)]
        return factors[len(high) :], factors[: len(high)]


def _neighbourhoods(frames: int) -> Tensor:
    """Weights (2T, 2T) of each node's mean over itself and the nodes with an edge to it.

    The published edges: from each frame to all later ones among the HR nodes, and among the LR
    nodes, and from each HR node to the LR node of its frame.
    """
    earlier = torch.ones(frames, frames).tril()
    none, same = torch.zeros(frames, frames), torch.eye(frames)
    edges = torch.cat([torch.cat([earlier, none], dim=1), torch.cat([same, earlier], dim=1)])
    return edges / edges.sum(1, keepdim=True)
