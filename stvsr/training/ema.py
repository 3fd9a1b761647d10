"""The weights' exponential moving average."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """A copy of a network whose weights follow it slowly.

    In the first steps the decay is (1 + step) / (10 + step), so that a short run's average does
    not hang on to the initial weights.

    Attributes:
        model: the averaged network, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model`, which has done `step` steps; buffers are copied."""
        decay = min(self._decay, (1 + step) / (10 + step))
        follow = get_ema_multi_avg_fn(decay)
        follow(list(self.model.parameters()), list(model.parameters()), step)
        for averaged, current in zip(self.model.buffers(), model.buffers(), strict=True):
            averaged.copy_(current)
