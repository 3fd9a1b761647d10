"""A training step's forward and backward pass, recorded once as a CUDA graph and replayed."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before the recording: kernels are compiled and chosen, and memory is set aside."""


class StepGraph:
    """All kernels of a pass, launched at once.

    A small network's step has thousands of kernels that each take less time on the GPU than their
    launch does on the CPU. A graph fixes them, with the memory they read and write: so the batch
    is copied into the same two tensors each time, its shape never changes, and what `compute`
    does besides kernels (Python, hooks) happens only while it is recorded.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """

    def __init__(
        self, compute: Callable[[Tensor, Tensor], Tensor], lr_clip: Tensor, hr_clip: Tensor
    ) -> None:
        """Record the pass.

        Args:
            compute: from a batch's clips, sets the gradients and gives the loss; it is called a
                few times, which must be harmless, and must not wait for the GPU.
            lr_clip: clips on the GPU, like all that will follow.
            hr_clip: so too.
        """
        self._inputs = (lr_clip.clone(), hr_clip.clone())
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_CALLS):
                compute(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # only this thread's calls: the loader's thread copies the next batch to the GPU meanwhile
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._loss = compute(*self._inputs)

    def replay(self, lr_clip: Tensor, hr_clip: Tensor) -> Tensor:
        """Run the recorded pass on other clips; the next call overwrites the loss."""
        for target, source in zip(self._inputs, (lr_clip, hr_clip), strict=True):
            target.copy_(source)
        self._graph.replay()
        return self._loss
