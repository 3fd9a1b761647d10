"""The settings of an RSTT: the three published networks and a small one."""

from typing import Any, Literal, Self

from stvsr.core.config import Field, FieldError, model_validator
from stvsr.models.base import BaseModelConfig
from stvsr.models.presets import expand_preset

STAGES = 4
"""Resolutions of the encoder and of the decoder: full, 1/2, 1/4 and 1/8."""

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "S": {"blocks": 4},
    "M": {"blocks": 6},
    "L": {"blocks": 8},
    "small": {"channels": 16, "heads": 1, "blocks": 2, "hr_channels": 16, "global_skip": True},
}
"""Fields of each preset; a field that it leaves out has its default, the published value."""


class RsttConfig(BaseModelConfig):
    """An RSTT's architecture. `preset` fills in the fields that are not given themselves."""

    name: Literal["rstt"] = "rstt"
    """Name of the model."""

    preset: Literal["published", "S", "M", "L", "small"] = "published"
    """Where the other fields' defaults come from: the paper's RSTT-S (4,485,275 parameters),
    RSTT-M (6,079,895) or RSTT-L (7,674,515, also called `published`), or one small enough to train
    on two CPU cores."""

    channels: int = Field(96, ge=8, le=512)
    """Channels C of the encoder and the decoder; a multiple of 8 times `heads`."""

    heads: int = Field(2, ge=1, le=64)
    """Heads of the window attention at full size; twice as many at each smaller size."""

    blocks: int = Field(8, ge=1, le=64)
    """Blocks in each stage of the encoder and the decoder, shifted and not shifted in turn."""

    hr_channels: int = Field(64, ge=4, le=512)
    """Channels at four times the size."""

    global_skip: bool = False
    """Add the network's output to the bicubic+linear upscaling of its input (its last convolution
    then starts at zero) instead of to the trilinear one, whose frames lie at other times."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        return expand_preset(given, PRESETS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        most = self.heads * 2 ** (STAGES - 1)
        if self.channels % most:
            raise FieldError(
                "channels",
                f"found {self.channels}; allowed: a multiple of {most}, the heads at 1/8 of the "
                f"size with heads = {self.heads}; change one of them",
            )
        # of an encoder's and a decoder's block: 4 and 8 C^2 in attention, 4 C^2 in each MLP
        weights = STAGES * self.blocks * 20 * self.channels**2
        self.refuse_large_stack(weights, "channels", "blocks")
        return self
