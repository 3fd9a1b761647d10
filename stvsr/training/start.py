"""The start of a run: weights of another network, and parameters that stay frozen."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from stvsr.artifact import check_finite
from stvsr.core.errors import CheckpointError, ParamsError

SHOWN_MISFITS = 10
"""Tensors that a refusal lists; the others are counted."""


def misfits(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Why tensors of one network do not serve another, by name; empty if each has its like.

    Args:
        expected: the state of the network that starts, on any device, `meta` included.
        weights: the state of the one it starts from.
    """
    found: dict[str, str] = {}
    for name in (*expected, *(name for name in weights if name not in expected)):
        if name not in weights:
            found[name] = f"absent, expected {_kind(expected[name])}"
        elif name not in expected:
            found[name] = f"{_kind(weights[name])}, expected none of this name"
        elif weights[name].shape != expected[name].shape:
            found[name] = f"{_kind(weights[name])}, expected {_kind(expected[name])}"
    return found


def refuse_misfits(found: Mapping[str, str], source: str) -> None:
    """Refuse a start of which a tensor does not fit.

    Raises:
        CheckpointError: a line for each tensor of `misfits`.
    """
    if not found:
        return
    lines = [f"{source}: tensor {name}: found {why}" for name, why in found.items()]
    if len(lines) > SHOWN_MISFITS:
        more = len(lines) - SHOWN_MISFITS
        lines = [*lines[:SHOWN_MISFITS], f"{source}: {more} more tensors do not fit"]
    remedy = (
        "set `model` to the network that train.start_from names, or train.start_partly: true to "
        "start from the tensors that fit, or train.start_from: null for random weights"
    )
    raise CheckpointError(lines, remedy=remedy)


def start_at(model: nn.Module, weights: Mapping[str, Tensor], source: str, *, partly: bool) -> None:
    """Copy weights into a network by name.

    Args:
        model: the network that starts.
        weights: what it starts from.
        source: what a refusal begins with.
        partly: leave tensors that do not fit as they are, instead of refusing.

    Raises:
        CheckpointError: a tensor does not fit, or has a value that is not finite; or none fits.
    """
    state = model.state_dict()
    found = misfits(state, weights)
    if not partly:
        refuse_misfits(found, source)
    fitting = {name: tensor for name, tensor in weights.items() if name not in found}
    if not fitting:
        raise CheckpointError(
            f"{source}: none of its {len(weights)} tensors fits the network of `model`",
            remedy="set `model` to the network that train.start_from names",
        )
    check_finite(fitting, source)
    model.load_state_dict({**state, **fitting})


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep the parameters whose names fit one of the patterns, such as `extraction.*`, as they are.

    Raises:
        ParamsError: a pattern fits no name, or all parameters would be frozen.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ParamsError(
                f"train.freeze: found {pattern!r}, which fits no parameter's name; names begin "
                f"with {', '.join(_beginnings(names))}"
            )
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ParamsError(
            f"train.freeze: found {', '.join(patterns)}, which fits every parameter; "
            "leave some to be trained"
        )


def _beginnings(names: Iterable[str]) -> list[str]:
    return sorted({name.partition(".")[0] for name in names})


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
