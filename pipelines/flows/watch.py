"""A flow run's watcher: it reports a flow whose process was killed together with its worker.

A worker reports the end of the flows that it started. Where both are killed, nobody does, and the
run would be "Running" for ever. The watcher is a process in a session of its own, whose standard
input is a pipe that only the flow's process holds open: it notices any end within seconds.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

GRACE_S = 10.0
"""Seconds that the worker gets to report the end itself."""

RETRY_S = 5.0
"""Seconds between two attempts to reach the server."""

ATTEMPTS = 720
"""Attempts: an hour, so that a server that was killed too can be started again."""

_ENDED = "ended"
"""The message of the flow's process at a normal end."""


@contextmanager
def watched(flow_run: str | None) -> Iterator[None]:
    """Have a process watch over this one while it runs a flow.

    Args:
        flow_run: id of the run; None: there is none, and nothing to watch.
    """
    if flow_run is None:
        yield
        return
    watcher = subprocess.Popen(
        [sys.executable, "-m", "pipelines.flows.watch", flow_run],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield
    finally:  # any end of this block is one that Prefect's engine in this process reports
        watcher.communicate(_ENDED)


def main() -> None:
    """Wait for the flow's process to end; if nobody reported that, do. The run is the argument."""
    if sys.stdin.read() == _ENDED:
        return
    time.sleep(GRACE_S)
    for _ in range(ATTEMPTS):
        if _report(UUID(sys.argv[1])):
            return
        time.sleep(RETRY_S)


def _report(flow_run: UUID) -> bool:
    """Set the run's state to "Crashed" if it is "Running"; false if the server does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    killed: State[None] = Crashed(message="The flow's process was killed; a new run resumes.")
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
            if state is not None and state.is_running():
                client.set_flow_run_state(flow_run, killed, force=True)
    except ObjectNotFound:
        return True  # it was deleted
    except Exception:  # of httpx's many: the server is down, or is just starting
        return False
    return True


if __name__ == "__main__":
    main()
