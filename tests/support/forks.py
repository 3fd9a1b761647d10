"""Processes that start at once: forks of one that has imported everything and has one thread.

A fork of a test's own process can wait for ever for a lock that another thread held.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class Forks:
    """Starts functions of modules, each with a path, in processes of their own."""

    def __init__(self, *modules: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks", *modules],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, function: str, path: Path) -> int:
        """Start MODULE:FUNCTION with a path; returns the process's id."""
        return self._ask(f"{function} {path}")

    def status_of(self, process: int) -> int:
        """Wait for a process's end; its exit status, negative where a signal ended it."""
        return self._ask(f"wait {process}")

    def __enter__(self) -> "Forks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate()

    def _ask(self, line: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def main(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a child prints is no answer
    for line in sys.stdin:
        word, _, argument = line.rstrip("\n").partition(" ")
        if word == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(int(argument), 0)[1]), file=answers)
            continue
        child = os.fork()
        if child == 0:
            status = 1
            try:
                module, _, function = word.partition(":")
                getattr(sys.modules[module], function)(Path(argument))
                status = 0
            finally:
                os._exit(status)
        print(child, file=answers)


if __name__ == "__main__":
    main(sys.argv[1:])
