"""Types of the parameters that several flows have; the server refuses other values."""

from typing import Annotated, Literal

from stvsr.core.config import Field

Seed = Annotated[int, Field(ge=0, lt=2**31)]
SourceKind = Literal["sample", "rendered", "videos", "frames", "vimeo90k"]
SourcePath = Annotated[str, Field(min_length=1)]
Steps = Annotated[int, Field(ge=1)]
BatchSize = Annotated[int, Field(ge=1)]
LearningRate = Annotated[float, Field(gt=0)]
Workers = Annotated[int, Field(ge=1)]
