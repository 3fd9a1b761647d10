"""The settings of a TMNet: the published network, and a small one."""

from typing import Any, Literal, Self

from stvsr.core.config import Field, FieldError, model_validator
from stvsr.models.base import BaseModelConfig
from stvsr.models.presets import expand_preset

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "channels": 16,
        "deformable_groups": 2,
        "front_blocks": 2,
        "back_blocks": 6,
        "global_skip": True,
    },
}
"""Fields of each preset; a field that it leaves out has its default, the published value."""


class TmnetConfig(BaseModelConfig):
    """A TMNet's architecture. `preset` fills in the fields that are not given themselves."""

    name: Literal["tmnet"] = "tmnet"
    """Name of the model."""

    preset: Literal["published", "small"] = "published"
    """Where the other fields' defaults come from: the paper's network (12,263,523 parameters), or
    one small enough to train on two CPU cores."""

    channels: int = Field(64, ge=8, le=512)
    """Feature channels C; a multiple of `deformable_groups`."""

    deformable_groups: int = Field(8, ge=1, le=64)
    """Groups G of channels that share their offsets."""

    front_blocks: int = Field(5, ge=0, le=256)
    """Residual blocks k1 of the feature extractor."""

    back_blocks: int = Field(40, ge=0, le=256)
    """Residual blocks k2 of the reconstruction."""

    global_skip: bool = False
    """Add the network's output to the bicubic+linear upscaling of its input (its last convolution
    then starts at zero) instead of making the whole picture."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        return expand_preset(given, PRESETS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.channels % self.deformable_groups:
            raise FieldError(
                "channels",
                f"found {self.channels}; allowed: a multiple of "
                f"deformable_groups = {self.deformable_groups}; change one of them",
            )
        blocks = self.front_blocks + self.back_blocks
        sizes = ("channels", "front_blocks", "back_blocks")
        self.refuse_large_stack(18 * blocks * self.channels**2, *sizes)
        return self
