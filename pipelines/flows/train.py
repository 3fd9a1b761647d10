"""`train`: the whole pipeline of dvc.yaml for any model."""

import sys
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.parameters import (
    BatchSize,
    LearningRate,
    Seed,
    SourceKind,
    SourcePath,
    Steps,
    Workers,
)
from pipelines.flows.stages import run_here, run_pipeline
from stvsr.core.config import Field


@flow(name="train")
def train(
    model: Literal["stdan", "zooming_slowmo", "stinet", "rstt", "tmnet"] | None = None,
    preset: Annotated[str, Field(min_length=1)] | None = None,
    steps: Steps | None = None,
    batch_size: BatchSize | None = None,
    learning_rate: LearningRate | None = None,
    workers: Workers | None = None,
    source_kind: SourceKind | None = None,
    source_path: SourcePath | None = None,
    seed: Seed | None = None,
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
    parameters = {
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
    return run_pipeline(parameters, "train", "Scores and registered version")


if __name__ == "__main__":
    sys.exit(run_here(train))
