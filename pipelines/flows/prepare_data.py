"""`prepare-data`: clips to shards, with the stages of dvc.yaml."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State

from pipelines.dvc_cli import data_version
from pipelines.flows.parameters import Seed, SourceKind, SourcePath
from pipelines.flows.stages import given, run_here, run_stages
from stvsr.core.config import Field

STAGES = ("shard@train", "shard@test")


@flow(name="prepare-data")
def prepare_data(
    source_kind: SourceKind | None = None,
    source_path: SourcePath | None = None,
    degradation: Literal["bicubic", "bicubic-uint8", "gaussian-bd", "pillow"] | None = None,
    clips_per_shard: Annotated[int, Field(ge=1)] | None = None,
    seed: Seed | None = None,
) -> State[Any]:
    """Make the shards that training and evaluation read.

    A parameter that is left out has the value in params.yaml; a given one holds for this run.

    Args:
        source_kind: where clips come from.
        source_path: folder of the clips; relative to the project.
        degradation: how LR frames are made from HR frames.
        clips_per_shard: clips in one tar.
        seed: seed of the sample's scenes.

    Returns:
        The state the run ends in.
    """
    project = Path.cwd()
    overrides = given(
        {
            "seed": seed,
            "source.kind": source_kind,
            "source.path": source_path,
            "degradation.name": degradation,
            "shards.clips_per_shard": clips_per_shard,
        }
    )
    state = run_stages(STAGES, overrides, project)
    if state.is_completed():
        versions = [{"stage": stage, "md5": data_version(stage, project)} for stage in STAGES]
        create_table_artifact(versions, key="data-versions")
    return state


if __name__ == "__main__":
    sys.exit(run_here(prepare_data))
