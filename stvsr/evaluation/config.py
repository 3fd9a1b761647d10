"""Configuration of an evaluation."""

from typing import Literal

from stvsr.core.config import Config, Field


class EvaluateConfig(Config):
    """Scoring of a model folder on the test clips, and the pictures that go with it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the network; `auto` takes the GPU where there is one."""
    clips: int | None = Field(default=None, ge=1, le=1_000_000)
    """Score only the first so many test clips; null scores all of them."""
    strip_size: int = Field(default=112, ge=32, le=256, multiple_of=4)
    """Side of the square that the strips show, in HR pixels."""
