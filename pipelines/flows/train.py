"""`train`: the whole pipeline of dvc.yaml for any model."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.stages import given, run_here, run_stages, show_results
from stvsr.core.config import Field


@flow(name="train")
def train(
    model: Literal["stdan", "zooming_slowmo", "stinet", "rstt", "tmnet"] | None = None,
    preset: Annotated[str, Field(min_length=1)] | None = None,
    steps: Annotated[int, Field(ge=1)] | None = None,
    batch_size: Annotated[int, Field(ge=1)] | None = None,
    learning_rate: Annotated[float, Field(gt=0)] | None = None,
    workers: Annotated[int, Field(ge=1)] | None = None,
    source_kind: Literal["sample", "rendered", "videos", "frames", "vimeo90k"] | None = None,
    source_path: Annotated[str, Field(min_length=1)] | None = None,
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None,
) -> State[Any]:
    """Train a network, score it against the baseline, report, and register it.

    A parameter that is left out has the value in params.yaml; a given one holds for this run.

    Args:
        model: which network.
        preset: of the model, such as small or published.
        steps: optimizer steps.
        batch_size: clips per step, over all workers.
        learning_rate: Adam's learning rate at its highest.
        workers: processes that train together.
        source_kind: where clips come from.
        source_path: folder of the clips; relative to the project.
        seed: seed of everything random.

    Returns:
        The state the run ends in.
    """
    project = Path.cwd()
    overrides = given(
        {
            "seed": seed,
            "source.kind": source_kind,
            "source.path": source_path,
            "model.name": model,
            "model.preset": preset,
            "train.steps": steps,
            "train.batch_size": batch_size,
            "train.learning_rate": learning_rate,
            "train.workers": workers,
        }
    )
    state = run_stages((), overrides, project)
    if state.is_completed():
        results = [
            project / "evaluation" / "metrics.json",
            project / "registration" / "version.json",
        ]
        show_results("train", "Scores and registered version", results)
    return state


if __name__ == "__main__":
    sys.exit(run_here(train))
