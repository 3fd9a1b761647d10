"""Waiting for something that another process does."""

import time
from collections.abc import Callable

DEADLINE_S = 900
"""How long a command, or what one waits for, may take on a busy machine: it only ends a hang."""


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`.

    Raises:
        TimeoutError: it was not within `DEADLINE_S`; the text names `what`.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.05)
