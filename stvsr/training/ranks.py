"""Exchanges between the ranks of a run, besides gradients."""

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from stvsr.core.errors import TrainingError
from stvsr.core.world import World

Value = TypeVar("Value")


class Ranks:
    """A process among its peers; alone, nothing is sent. All ranks make the same calls."""

    def __init__(self, world: World, device: torch.device) -> None:
        self._world = world
        self._device = device

    def check(self) -> None:
        """Refuse several ranks that cannot reach each other.

        Raises:
            TrainingError: `torch.distributed` is not initialised.
        """
        if self._world.size > 1 and not torch.distributed.is_initialized():
            raise TrainingError(
                f"training with {self._world.size} workers needs torch.distributed; start it "
                "with torchrun or through `stvsr train`"
            )

    def of_all(self, mine: Value) -> list[Value]:
        """Gather one value from each rank, in the order of the ranks."""
        if self._world.size == 1:
            return [mine]
        gathered: list[Any] = [None] * self._world.size
        torch.distributed.all_gather_object(gathered, mine)
        return gathered

    def as_on_main(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        if self._world.size == 1:
            return value
        shared = torch.tensor(value, device=self._device)
        torch.distributed.broadcast(shared, src=0)
        return int(shared.item())

    def start_alike(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank rank 0's tensors, in place."""
        if self._world.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)
