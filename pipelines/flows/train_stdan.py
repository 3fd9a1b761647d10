"""`train-stdan`: the whole pipeline of dvc.yaml, from clips to a scored, registered network."""

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


@flow(name="train-stdan")
def train_stdan(
    preset: Literal["small", "published"] | None = None,
    k: Literal[1, 3, 5] | None = None,
    T_top: Annotated[int, Field(ge=1, le=25)] | None = None,
    steps: Steps | None = None,
    batch_size: BatchSize | None = None,
    crop: Annotated[int, Field(ge=8, multiple_of=8)] | None = None,
    learning_rate: LearningRate | None = None,
    precision: Literal["float32", "bf16"] | None = None,
    workers: Workers | None = None,
    loader: Literal["dali", "torch"] | None = None,
    source_kind: SourceKind | None = None,
    source_path: SourcePath | None = None,
    seed: Seed | None = None,
) -> State[Any]:
    """Train a STDAN, score it against the baseline, report, and register it.

    A parameter that is left out has the value in params.yaml; a given one holds for this run.

    Args:
        preset: the paper's network, or the small one that trains without a GPU.
        k: side of the aggregation's window; k * k points are sampled.
        T_top: points kept of the k * k.
        steps: optimizer steps.
        batch_size: clips per step, over all workers.
        crop: side of the crop in LR pixels, a multiple of 8.
        learning_rate: Adam's learning rate at its highest.
        precision: arithmetic of the forward pass.
        workers: processes that train together.
        loader: what reads the shards.
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
        "loader.kind": loader,
        "model.preset": preset,
        "model.k": k,
        "model.T_top": T_top,
        "train.steps": steps,
        "train.batch_size": batch_size,
        "train.crop": crop,
        "train.learning_rate": learning_rate,
        "train.precision": precision,
        "train.workers": workers,
    }
    return run_pipeline(parameters, "train-stdan", "STDAN: scores and registered version")


if __name__ == "__main__":
    sys.exit(run_here(train_stdan))
