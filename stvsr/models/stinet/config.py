"""The settings of a STINet: the published network, a small one, and the ablations."""

from typing import Any, Literal, Self

from stvsr.core.config import Field, FieldError, model_validator
from stvsr.models.base import BaseModelConfig
from stvsr.models.presets import expand_preset

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "channels": 16,
        "deformable_groups": 2,
        "projections": 2,
        "shared_blocks": 1,
        "global_skip": True,
    },
}
"""Fields of each preset; a field that it leaves out has its default, the published value."""


class StinetConfig(BaseModelConfig):
    """A STINet's architecture. `preset` fills in the fields that are not given themselves."""

    name: Literal["stinet"] = "stinet"
    """Name of the model."""

    preset: Literal["published", "small"] = "published"
    """Where the other fields' defaults come from: the paper's network (11,761,602 parameters), or
    one small enough to train on two CPU cores."""

    channels: int = Field(64, ge=8, le=512)
    """Feature channels C; even, and a multiple of `deformable_groups`."""

    deformable_groups: int = Field(8, ge=1, le=64)
    """Groups G of channels that share their offsets."""

    projections: int = Field(5, ge=1, le=16)
    """Up-projections of the spatial network, which has one down-projection less."""

    shared_blocks: int = Field(5, ge=0, le=256)
    """Residual blocks of the interpolation that LR and HR maps go through alike."""

    local_refinement: Literal["interacting", "separate", "none"] = "interacting"
    """How a frame gathers from its two neighbours: by deformable alignment whose LR and HR offset
    features are mixed (ST-LR), are not (ST-LR without Inet), or not at all."""

    global_refinement: bool = True
    """True if all frames' means weigh the channels through a graph (ST-GR)."""

    global_skip: bool = False
    """Add the network's output to the bicubic+linear upscaling of its input (its last convolutions
    then start at zero) instead of making the whole picture."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        return expand_preset(given, PRESETS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for divisor, named in (
            (self.deformable_groups, f"deformable_groups = {self.deformable_groups}"),
            (2, "2"),
        ):
            if self.channels % divisor:
                raise FieldError(
                    "channels",
                    f"found {self.channels}; allowed: a multiple of {named}; change one of them",
                )
        weights = 64 * 6 * self.projections + 18 * self.shared_blocks
        sizes = ("channels", "projections", "shared_blocks")
        self.refuse_large_stack(weights * self.channels**2, *sizes)
        return self
