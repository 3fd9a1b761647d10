"""Mean offset of the deformable layers; it grows without limit when they fail."""

import torch
from torch import Tensor, nn

from stvsr.models.layers.pcd import OffsetConv

ALARM_PX = 100.0
"""Mean |offset| in pixels above which a deformable layer no longer looks at its surroundings."""


class OffsetMeter:
    """The mean |offset| over a network's deformable layers, read once per step.

    Its hooks run in the forward pass while the network trains, compiled or not; the meter is
    made before the network is compiled and after copies of it are.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        layers = [module for module in model.modules() if isinstance(module, OffsetConv)]
        self._sum_and_count = torch.zeros(2, device=device)
        self.has_layers = bool(layers)
        for layer in layers:
            layer.register_forward_hook(self._add)

    def read(self) -> Tensor:
        """The mean since the last reading, in pixels, without dimensions; 0 where none ran."""
        total, count = self._sum_and_count.unbind()
        mean = total / count.clamp(min=1)
        self._sum_and_count.zero_()
        return mean

    def _add(self, layer: nn.Module, _: object, outputs: tuple[Tensor, Tensor]) -> None:
        if layer.training:
            self._sum_and_count[0] += outputs[0].detach().abs().mean()
            self._sum_and_count[1] += 1
