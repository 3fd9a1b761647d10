"""The process in which malformed inputs are tried, and the watch over it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

LIMIT_S = 60.0
"""A door that takes longer hangs."""

START_S = 240.0
"""The first input of a kind waits for imports, and for the whole project to be made."""

END_S = 10.0
"""Seconds in which a process that hangs may say where."""

LAST_WORDS = 3000
"""Characters of its log that are shown."""

PROJECT = Path(__file__).parents[2]


class Worker:
    """Tries inputs one after the other; a process that hangs or dies is a fault, and replaced."""

    def __init__(self, limit: float = LIMIT_S) -> None:
        self._limit = limit
        self._process: subprocess.Popen[str] | None = None
        self._seen: set[str] = set()
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")

    def try_input(self, kind: str, seed: int) -> str:
        """What is wrong with how an input is taken; "" if nothing is."""
        process = self._process or self._start()
        limit = self._limit if kind in self._seen else START_S
        self._seen.add(kind)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{kind} {seed}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], limit)
            answer = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, answer = [process.stdout], ""
        if answer:
            return str(json.loads(answer))
        self._end()
        return f"{'its process died' if ready else f'it hangs: {limit:g} s'}\n{self._last_words()}"

    def close(self) -> None:
        """End the process."""
        self._end()
        self._folder.cleanup()

    def _start(self) -> subprocess.Popen[str]:
        self._seen = set()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.malformed"],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        """Let the process say where it is, then kill it and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-LAST_WORDS:]


def counts(shares: Sequence[int], total: int) -> list[int]:
    """How many of `total` inputs each kind gets, at least one."""
    return [max(1, -(-total * share // sum(shares))) for share in shares]
