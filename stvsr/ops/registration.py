"""Operators that torch dispatches by device, traces without a graph break and differentiates."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


class Operator:
    """One operator of torch.library; calling it dispatches on the device of its tensors.

    `torch.library.custom_op` gives the same, but its first call imports torch's compiler: 150 MiB
    and a second, for nothing in a process that only runs a model.
    """

    def __init__(self, name: str, kernel: Callable[..., Any]) -> None:
        """Define `stvsr::name` by its kernel's type hints; the kernel runs on any device."""
        self.name = f"stvsr::{name}"
        schema = torch.library.infer_schema(kernel, mutates_args=())
        torch.library.define(self.name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(self.name, "default", kernel)
        self._overload = getattr(torch.ops.stvsr, name).default

    def __call__(self, *inputs: Any) -> Any:
        """Run the operator on inputs in the order of its kernel's."""
        return self._overload(*inputs)

    def register_kernel(self, device: str) -> Callable[[Kernel], Kernel]:
        """Decorate the kernel of one type of device."""

        def register(kernel: Kernel) -> Kernel:
            torch.library.impl(self.name, device, kernel)
            return kernel

        return register

    def register_fake(self, kernel: Kernel) -> Kernel:
        """Decorate what gives the results' shapes, types and strides, without computing them."""
        torch.library.register_fake(self.name, kernel)
        return kernel

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., None]
    ) -> None:
        """Say how gradients are made, and what the forward pass saves for that."""
        torch.library.register_autograd(self.name, backward, setup_context=setup_context)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorate the kernel that defines an `Operator`."""
    return lambda kernel: Operator(name, kernel)
