"""Choice of the code for an operator on CUDA: Triton kernels, or torch without Triton."""

import functools
import logging
from types import ModuleType

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def kernels_for(image: Tensor) -> ModuleType | None:
    """`stvsr.ops.triton_kernels`, or None: without Triton, and for float64, which they lack."""
    return None if image.dtype == torch.float64 else _triton_kernels()


@functools.cache
def _triton_kernels() -> ModuleType | None:
    """The kernels; where Triton is missing, None, and one warning in the process's life."""
    try:
        from stvsr.ops import triton_kernels

        return triton_kernels
    except ImportError as error:
        logger.warning(
            "Triton cannot be imported (%s): deformable operators take torch's own path on CUDA, "
            "which gives the same results more slowly; `pip install triton` makes them fast",
            error,
        )
        return None
