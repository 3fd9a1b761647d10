"""The settings of a STDAN: the published network, the small one that trains on a CPU, ablations."""

from typing import Any, Literal, Self

from stvsr.core.config import Field, FieldError, model_validator
from stvsr.models.base import BaseModelConfig
from stvsr.models.presets import expand_preset

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "channels": 16,
        "embedding": 16,
        "deformable_groups": 2,
        "heads": 1,
        "extraction_groups": 1,
        "reconstruction_groups": 2,
        "blocks_per_group": 2,
        "global_skip": True,
    },
}
"""Fields of each preset; a field that it leaves out has its default, the published value."""


class StdanConfig(BaseModelConfig):
    """A STDAN's architecture. `preset` fills in the fields that are not given themselves."""

    name: Literal["stdan"] = "stdan"
    """Name of the model."""

    preset: Literal["published", "small"] = "published"
    """Where the other fields' defaults come from: the paper's network (8,292,843 parameters), or
    one small enough to train on two CPU cores."""

    channels: int = Field(64, ge=8, le=512)
    """Feature channels C; a multiple of `deformable_groups`."""

    embedding: int = Field(72, ge=8, le=512)
    """Embedding channels E of attention; a multiple of `heads` and of `deformable_groups`."""

    deformable_groups: int = Field(8, ge=1, le=64)
    """Groups G of channels that share their offsets."""

    heads: int = Field(6, ge=1, le=64)
    """Heads of the window attention."""

    extraction_groups: int = Field(2, ge=1, le=32)
    """Residual groups of the Swin stage before interpolation."""

    reconstruction_groups: int = Field(6, ge=1, le=32)
    """Residual groups of the Swin stage after aggregation."""

    blocks_per_group: int = Field(6, ge=1, le=32)
    """Swin blocks in each residual group, shifted and not shifted in turn."""

    interpolation: Literal["long-short", "short"] = "long-short"
    """How the frames between are made: from all frames through a hidden state (LSTFI), or from
    the two neighbours only."""

    aggregation: Literal["deformable", "fixed", "none"] = "deformable"
    """How a frame gathers from the others: k x k displaced points of which T_top are kept
    (STDFA), the k x k pixels around, or not at all."""

    k: Literal[1, 3, 5] = 3
    """Side of the aggregation's window; k * k points per pixel and frame."""

    T_top: int = Field(2, ge=1, le=25)
    """Points kept of the k * k, the most relevant ones; for "deformable" aggregation."""

    global_skip: bool = False
    """Add the network's output to the bicubic+linear upscaling of its input (its last convolution
    then starts at zero) instead of making the whole picture."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        return expand_preset(given, PRESETS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        points = self.k * self.k
        if self.aggregation == "deformable" and self.T_top > points:
            raise FieldError(
                "T_top",
                f"found {self.T_top} with k = {self.k}: only k * k = {points} points are "
                f"sampled; allowed: 1..{points}; lower T_top or raise k",
            )
        for field, divisor in (
            ("channels", "deformable_groups"),
            ("embedding", "deformable_groups"),
            ("embedding", "heads"),
        ):
            if getattr(self, field) % getattr(self, divisor):
                raise FieldError(
                    field,
                    f"found {getattr(self, field)}; allowed: a multiple of "
                    f"{divisor} = {getattr(self, divisor)}; change one of them",
                )
        blocks = (self.extraction_groups + self.reconstruction_groups) * self.blocks_per_group
        sizes = ("embedding", "extraction_groups", "reconstruction_groups", "blocks_per_group")
        self.refuse_large_stack(8 * blocks * self.embedding**2, *sizes)
        return self
