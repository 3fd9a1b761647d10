"""`upscale`: a video in, a video out."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.stages import run_command
from stvsr.core.config import Field


@flow(name="upscale")
def upscale(
    video: Annotated[str, Field(min_length=1)],
    out: Annotated[str, Field(min_length=1)],
    model: Annotated[str, Field(min_length=1)] = "stvsr/small",
) -> State[Any]:
    """Upscale a video, x4 in size and x2 in frame rate; it resumes where a run before it stopped.

    Args:
        video: the file; relative to the project.
        out: the video that is made.
        model: as `stvsr upscale --model` takes it.

    Returns:
        The state the run ends in.
    """
    return run_command(("upscale", video, out, "--model", model), {}, Path.cwd())
