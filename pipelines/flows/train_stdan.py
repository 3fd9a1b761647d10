"""`train-stdan`: the whole pipeline of dvc.yaml, from clips to a scored, registered network."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.stages import given, run_here, run_stages, show_results
from stvsr.core.config import Field


@flow(name="train-stdan")
def train_stdan(
    preset: Literal["small", "published"] | None = None,
    k: Literal[1, 3, 5] | None = None,
    T_top: Annotated[int, Field(ge=1, le=25)] | None = None,
    steps: Annotated[int, Field(ge=1)] | None = None,
    batch_size: Annotated[int, Field(ge=1)] | None = None,
    crop: Annotated[int, Field(ge=8, multiple_of=8)] | None = None,
    learning_rate: Annotated[float, Field(gt=0)] | None = None,
    precision: Literal["float32", "bf16"] | None = None,
    workers: Annotated[int, Field(ge=1)] | None = None,
    loader: Literal["dali", "torch"] | None = None,
    source_kind: Literal["sample", "rendered", "videos", "frames", "vimeo90k"] | None = None,
    source_path: Annotated[str, Field(min_length=1)] | None = None,
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None,
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
    project = Path.cwd()
    overrides = given(
        {
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
    )
    state = run_stages((), overrides, project)
    if state.is_completed():
        results = [
            project / "evaluation" / "metrics.json",
            project / "registration" / "version.json",
        ]
        show_results("train-stdan", "STDAN: scores and registered version", results)
    return state


if __name__ == "__main__":
    sys.exit(run_here(train_stdan))
