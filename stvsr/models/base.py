"""StvsrModel: what every model takes and gives, checked and padded in one place."""

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.core.clip import SCALE
from stvsr.core.config import Config, FieldError
from stvsr.core.errors import InputError
from stvsr.models.layers.naming import Rule

MIDDLE = (0.5,)
"""The one time of each gap for twice the rate."""

LARGEST_STACK = 500_000_000
"""Weights at most of all repeated blocks of a network: 2 GB, sixty times the published networks."""


class BaseModelConfig(Config):
    """The fields that every model's configuration has."""

    name: str
    """Name of the model."""
    preset: str
    """Where the other fields' defaults come from."""

    def refuse_large_stack(self, weights: int, *fields: str) -> None:
        """Refuse fields that are allowed one by one, and whose product is not.

        Args:
            weights: of all repeated blocks together.
            fields: names of those that multiply.

        Raises:
            FieldError: there are more than `LARGEST_STACK`.
        """
        if weights > LARGEST_STACK:
            found = ", ".join(f"{name} = {getattr(self, name)}" for name in fields)
            raise FieldError(
                fields[0],
                f"{found} make {weights:,} weights; allowed: {LARGEST_STACK:,}; lower one of them",
            )


@dataclass(frozen=True)
class ModelEntry:
    """A model as the rest of the project knows it.

    Attributes:
        config: its configuration; the defaults are the published network.
        build: makes the network of a configuration.
        recipe: how the published network was trained: fields of `train` that differ from their
            defaults.
        rules: from our parameter names to the published ones; empty where no checkpoint is
            published.
        ignored: last parts of published names that hold no weights.
        copies: from published names under which a tensor is in a checkpoint once more, since two
            parts of the network share it, to its own.
        sizes: presets of the networks whose checkpoints are published.
    """

    config: type[BaseModelConfig]
    build: Callable[[Any], "StvsrModel"]
    recipe: Mapping[str, object]
    rules: tuple[Rule, ...] = ()
    ignored: tuple[str, ...] = ()
    copies: tuple[Rule, ...] = ()
    sizes: tuple[str, ...] = ("published",)
    name: str = field(init=False)

    @property
    def published(self) -> BaseModelConfig:
        """The configuration of the published network."""
        return self._preset("published")

    @property
    def published_sizes(self) -> tuple[BaseModelConfig, ...]:
        """The configurations of all networks whose checkpoints are published."""
        return tuple(map(self._preset, self.sizes))

    def _preset(self, preset: str) -> BaseModelConfig:
        return self.config.model_validate({"name": self.name, "preset": preset})

    def __post_init__(self) -> None:
        name = self.config.model_fields["name"].default
        if not self.recipe:
            raise ValueError(
                f"{name}: registered without a recipe; say how its published network is trained, "
                "at least `steps`"
            )
        object.__setattr__(self, "name", name)


class StvsrModel(nn.Module, ABC):
    """A network from T_in low-resolution frames to 2 * T_in - 1 frames of four times the size.

    Attributes:
        scale: spatial scale s, HR over LR.
        size_multiple: heights and widths that `super_resolve` takes are multiples of it.
        memory_factor: memory of a clip without gradients, over that of a STDAN with as many
            channels.
    """

    scale = SCALE
    size_multiple = 1
    memory_factor = 1.0

    def forward(self, lr_clip: Tensor) -> Tensor:
        """Double the rate and quadruple the size of a clip of any height, width and length.

        Args:
            lr_clip: (B, T_in, 3, H, W), T_in >= 2, RGB in [0, 1], floating point, any strides.
                A clip of another type than the weights is converted to theirs.

        Returns:
            (B, 2 * T_in - 1, 3, 4H, 4W), not clamped.

        Raises:
            InputError: no tensor, other channels, one frame, integers, or (in evaluation, or on a
                CPU) NaN.
        """
        return self._at_any_size(lr_clip, self.super_resolve)

    @abstractmethod
    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """`forward` for a checked clip whose height and width are multiples of `size_multiple`."""

    def _at_any_size(self, lr_clip: Tensor, super_resolve: Callable[[Tensor], Tensor]) -> Tensor:
        self._check(lr_clip)
        height, width = lr_clip.shape[-2:]
        padded = pad_to_multiple(lr_clip.to(self._dtype(lr_clip)), self.size_multiple)
        return super_resolve(padded)[..., : self.scale * height, : self.scale * width]

    def _check(self, lr_clip: object) -> None:
        if not isinstance(lr_clip, Tensor):
            shape = getattr(lr_clip, "shape", None)
            found = f"{type(lr_clip).__name__}{f' of shape {tuple(shape)}' if shape else ''}"
            raise InputError(
                f"lr_clip: found a {found}; expected a torch tensor (clips, frames, 3, height, "
                "width), floating point in [0, 1]; convert it (for numpy: torch.from_numpy)"
            )
        found = f"a {lr_clip.dtype} tensor of shape {tuple(lr_clip.shape)}"
        expected = "expected (clips, frames, 3, height, width)"
        if lr_clip.ndim != 5:
            raise InputError(f"lr_clip: found {found}; {expected}; add or merge dimensions")
        clips, frames, channels, height, width = lr_clip.shape
        if not lr_clip.is_floating_point():
            raise InputError(
                f"lr_clip: found {found}; expected floating point in [0, 1]; "
                "convert it (for uint8: lr_clip.float() / 255)"
            )
        if channels != 3:
            raise InputError(
                f"lr_clip: found {found} with {channels} channels; {expected}; convert it to RGB"
            )
        if frames < 2:
            raise InputError(
                f"lr_clip: found {found} with {frames} frame(s); at least 2 are needed to "
                "make the one between; hand in a longer clip"
            )
        if 0 in (clips, height, width):
            raise InputError(f"lr_clip: found {found}, which is empty; {expected}")
        if self._looks_for_nan(lr_clip) and not bool(torch.isfinite(lr_clip).all()):
            raise InputError(
                f"lr_clip: found NaN or infinity in {found}; expected finite values in [0, 1]; "
                "check how the frames were read"
            )

    def _looks_for_nan(self, lr_clip: Tensor) -> bool:
        """Not while compiling, and not where looking would stall a training step's launches."""
        return not torch.compiler.is_compiling() and not (self.training and lr_clip.is_cuda)

    def _dtype(self, lr_clip: Tensor) -> torch.dtype:
        """The weights' type, or the clip's own for a model without weights."""
        first = next(self.parameters(), None)
        return lr_clip.dtype if first is None else first.dtype


class AnyTimeModel(StvsrModel):
    """A network that makes frames at any times between two, of which the middle is one.

    Attributes:
        longest_window: frames at most that it takes at once for other times than the middle; None:
            any number.
    """

    longest_window: int | None = None

    @property
    def knows_other_times(self) -> bool:
        """False where the weights were trained for the middle alone and are of no use elsewhere."""
        return True

    def forward(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """Quadruple the size of a clip, and make frames at some times of each gap.

        Args:
            lr_clip: see `StvsrModel.forward`.
            times: of each gap, rising, 0 < t < 1; one in the middle doubles the rate.

        Returns:
            (B, T_in + (T_in - 1) * len(times), 3, 4H, 4W), not clamped.

        Raises:
            InputError: see `StvsrModel.forward`; or the times are no such.
        """
        bounds = (0.0, *times, 1.0)
        if not times or any(not first < second for first, second in itertools.pairwise(bounds)):
            raise InputError(f"times: found {[*times]}; expected rising ones between 0 and 1")
        return self._at_any_size(lr_clip, functools.partial(self.super_resolve, times=times))

    @abstractmethod
    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        """`forward` for a checked clip whose height and width are multiples of `size_multiple`."""


def pad_to_multiple(clip: Tensor, multiple: int) -> Tensor:
    """Repeat a clip's last row and column until (H, W) are multiples of `multiple`."""
    height, width = clip.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return clip
    images = F.pad(clip.flatten(0, 1), (0, right, 0, below), mode="replicate")
    padded: Tensor = images.unflatten(0, clip.shape[:2])
    return padded
