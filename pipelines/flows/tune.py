"""`tune`: a search with Ray Tune on the shards that are there."""

import sys
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.parameters import Seed, Steps
from pipelines.flows.stages import given, run_command, run_here, show_results
from stvsr.core.config import Field


@flow(name="tune")
def tune(
    trials: Annotated[int, Field(ge=1)] | None = None,
    steps: Steps | None = None,
    seed: Seed | None = None,
) -> State[Any]:
    """Search k, T_top and the learning rate; the result is in `tune/`.

    A parameter that is left out has the value in params.yaml; a given one holds for this run.

    Args:
        trials: trials to start.
        steps: steps of a trial that is not stopped early.
        seed: seed of everything random.

    Returns:
        The state the run ends in.
    """
    project = Path.cwd()
    overrides = given({"seed": seed, "tune.trials": trials, "tune.steps": steps})
    state = run_command(("tune",), overrides, project)
    if state.is_completed():
        show_results("tune", "The best trial", [project / "tune" / "best.json"])
    return state


if __name__ == "__main__":
    sys.exit(run_here(tune))
