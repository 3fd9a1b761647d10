"""A network as one graph of torch's own operators, whose height, width and batch stay symbols."""

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from stvsr.models import StvsrModel
from stvsr.models.layers import parts, pcd, swin
from stvsr.models.stdan import stdfa
from stvsr.ops.registration import Operator

EXAMPLE = (2, 19, 27)
"""Batch, height and width of the clip that is traced: different, no multiples, no 1 anywhere."""

AXES = ("batch", "frames", "channels", "height", "width")
"""Names of a clip's axes."""

UNLIMITED = 1 << 60
"""More numbers than a tensor has."""


class _Everything(int):
    """A number of which any size is a part: as many as there are fit in."""

    def __floordiv__(self, size: Any) -> int:
        return UNLIMITED


class Padded(nn.Module):
    """A network's `forward` without its checks: padding, network, crop."""

    def __init__(self, network: StvsrModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr_clip: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> (B, 2T-1, 3, 4H, 4W), any H and W."""
        B, T, _, H, W = lr_clip.shape
        multiple, s = self.network.size_multiple, self.network.scale
        if multiple > 1:
            # rounded up by division, which torch sees to be a multiple; `-H % multiple` it does not
            below, right = ((x + multiple - 1) // multiple * multiple - x for x in (H, W))
            images = F.pad(lr_clip.flatten(0, 1), (0, right, 0, below), mode="replicate")
            lr_clip = images.unflatten(0, (B, T))
        return self.network.super_resolve(lr_clip)[..., : s * H, : s * W]


def trace(
    network: StvsrModel, frames: int, operators: Mapping[str, Callable[..., Any]]
) -> ExportedProgram:
    """Trace a network; an axis that its code needs as a number is fixed, the others are symbols.

    Args:
        network: in evaluation mode, on the CPU; its parameters are frozen.
        frames: of the clip that is traced, and so of every clip where their number is fixed.
        operators: what replaces our own operators, by their names.
    """
    # sizes that are the same by chance may count as the same symbol
    batch, height, width = (size + (size == frames) for size in EXAMPLE)
    clip = torch.rand(batch, frames, 3, height, width)
    shapes = {"lr_clip": {axis: Dim.AUTO for axis, name in enumerate(AXES) if name != "channels"}}
    network.requires_grad_(False)
    with torch.enable_grad(), all_at_once(operators):
        program = torch.export.export(Padded(network), (clip,), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    return program


def axes_of(program: ExportedProgram) -> dict[str, int | str]:
    """The size of each axis of a traced program's clip, by its name; a symbol where any fits."""
    (clip,) = (
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.target == program.graph_signature.user_inputs[0]
    )
    # a symbol that the code needed as a number may still look like one: str(size) is that number
    sizes = zip(AXES, map(str, clip.shape), strict=True)
    return {name: int(size) if size.isdigit() else size for name, size in sizes}


@contextmanager
def all_at_once(operators: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Keep the networks' code from asking for a size's value, and exchange our operators.

    How much they do at once follows from sizes: here it is all. `len` gives a number, so
    they use the first axis in its place. `chunk` gives a list of unknown length where the axis is a
    symbol. The modules stay as they are for training, whose fingerprint they decide.
    """

    def length(value: Any) -> Any:
        return value.shape[0] if isinstance(value, Tensor) else builtins.len(value)

    def double(x: Tensor) -> Tensor:
        size = [2 * length for length in x.shape[-2:]]  # from a factor, it would be a rounded float
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    def chunk(tensor: Tensor, chunks: int, dim: int = 0) -> Sequence[Tensor]:
        equal: Tensor = tensor.unflatten(dim, (chunks, -1))
        return equal.unbind(dim)

    def at_once(function: Callable[[slice], Tensor], length: int, step: int, dim: int) -> Tensor:
        return function(slice(0, length))

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("stvsr.models"):
                stack.enter_context(patch.object(module, "len", length, create=True))
        for owner, attribute, value in (
            (parts, "_piecewise", at_once),
            (swin, "KEPT_NUMBERS", UNLIMITED),
            (stdfa, "KEPT_NUMBERS", UNLIMITED),
            (stdfa, "CHUNK_PIXELS", _Everything()),
            (pcd, "double", double),
            (Tensor, "chunk", chunk),
            (Operator, "__call__", lambda self, *inputs: operators[self.name](*inputs)),
        ):
            stack.enter_context(patch.object(owner, attribute, value))
        yield
