"""Training speed, and the share of time spent waiting for data."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Meter:
    """Times the phases of steps between two readings; validation and saving stay outside."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._waited = 0.0
        self._worked = 0.0
        self._steps = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time the fetching of a batch."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time a step, which ends by waiting for the device."""
        start = time.perf_counter()
        yield
        self._worked += time.perf_counter() - start
        self._steps += 1

    def read(self, batch_size: int) -> dict[str, float]:
        """Means since the last reading, none where that saw no step; then start anew.

        Returns:
            "step_seconds", "clips_per_second" over all workers, "data_wait" (the share of the
            time, 0 to 1) and "peak_memory_mib" (of the GPU, or of the process on a CPU).
        """
        if not self._steps:
            return {}
        total = self._waited + self._worked
        reading = {
            "step_seconds": total / self._steps,
            "clips_per_second": batch_size * self._steps / total,
            "data_wait": self._waited / total,
            "peak_memory_mib": self._peak_memory() / 2**20,
        }
        self._waited, self._worked, self._steps = 0.0, 0.0, 0
        return reading

    def _peak_memory(self) -> int:
        """Bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
