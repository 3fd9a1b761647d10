"""`promote`: a registered version becomes champion, on request after a person's approval."""

import sys
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.states import Completed

from pipelines.flows.stages import run_command, run_here
from stvsr.core.config import Field

LONGEST_WAIT_S = 7 * 24 * 3600
"""Seconds that a run waits for its approval."""


class Approval(RunInput):
    """The form on the page of a paused run."""

    approve: bool
    """Promote the version."""
    reason: str = ""
    """Why, for the log."""


@flow(name="promote")
def promote(
    model: Annotated[str, Field(min_length=1)] = "stdan",
    version: Annotated[str, Field(min_length=1)] = "@challenger",
    ask: bool = False,
) -> State[Any]:
    """Make a version champion if it is better than the present one.

    Args:
        model: name of the registered model.
        version: @ALIAS or number.
        ask: pause first, until a person approves on the run's page.

    Returns:
        The state the run ends in.
    """
    if ask:
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(
                description=f"Promote {model} {version}?", approve=False
            ),
            timeout=LONGEST_WAIT_S,
        )
        get_run_logger().info("approval: %s %s", answer.approve, answer.reason)
        if not answer.approve:
            return Completed(message=f"{model} {version}: not approved; nothing was changed")
    return run_command(("registry", "promote", model, version), {}, Path.cwd())


if __name__ == "__main__":
    sys.exit(run_here(promote))
