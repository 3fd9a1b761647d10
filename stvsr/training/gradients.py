"""All gradients in one piece of memory, so that ranks add them up in one exchange."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

_SIDE_VALUES = 4
"""Numbers that travel behind the gradients: loss, mean |offset|, damaged clips that were
replaced, and whether a rank would stop."""


@dataclass(frozen=True)
class StepSums:
    """Sums of a step over all ranks.

    Attributes:
        loss: the batch's loss.
        norm: L2 norm of its gradient.
        offset: mean |offset| of the deformable layers, pixels.
        replaced: damaged clips of the batch that were replaced.
        stop: whether any rank has a stop request.
    """

    loss: float
    norm: float
    offset: float
    replaced: int
    stop: bool


class FlatGradients:
    """The gradients of a network's parameters as views of one float32 vector.

    One all-reduce per step carries the gradients, the loss, the mean |offset| and the wish to stop,
    in an order that depends on the world's size only; so a run repeats itself bit for bit on the
    same ranks. A parameter that the loss does not reach has a gradient of zero on every rank.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], world_size: int) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._world_size = world_size
        self._vector = torch.zeros(
            sum(parameter.numel() for parameter in trained) + _SIDE_VALUES,
            device=trained[0].device,
        )
        self._gradients = self._vector[:-_SIDE_VALUES]
        start = 0
        for parameter in trained:
            parameter.grad = self._vector.as_strided(parameter.shape, parameter.stride(), start)
            start += parameter.numel()

    def zero(self) -> None:
        """Forget the last step."""
        self._vector.zero_()

    def sum_over_ranks(
        self, loss: Tensor, offset: Tensor, stop: bool, replaced: int = 0
    ) -> "StepSums":
        """Add up gradients, loss and wish to stop over all ranks.

        Args:
            loss: this rank's share of the batch's loss, without dimensions.
            offset: mean |offset| of this rank's deformable layers, pixels, without dimensions.
            stop: whether this rank was asked to stop.
            replaced: damaged clips of this rank's share that were replaced.
        """
        self._vector[-4] = loss
        self._vector[-3] = offset / self._world_size
        self._vector[-2].fill_(replaced)  # an assignment of a Python number waits for the GPU
        self._vector[-1].fill_(stop)
        if self._world_size > 1:
            torch.distributed.all_reduce(self._vector)
        norm = torch.linalg.vector_norm(self._gradients)
        numbers = torch.stack([*self._vector[-_SIDE_VALUES:], norm])
        total, mean, stand_ins, stops, length = numbers.tolist()
        return StepSums(
            loss=total, norm=length, offset=mean, replaced=round(stand_ins), stop=stops > 0
        )

    def cut(self, norm: float, limit: float) -> None:
        """Scale the gradient, whose L2 norm is `norm`, down to `limit`; 0: no limit."""
        if limit and norm > limit:
            self._gradients.mul_(limit / norm)
