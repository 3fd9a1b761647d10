"""The log of a run, shown by the command that started it, with a bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stvsr.core.escape import one_line
from stvsr.core.terminal import PlainConsole
from stvsr.training.history import newest_step


class Follower:
    """Shows what was added to a run's log since the last look."""

    def __init__(self, log: Path, history: Path, steps: int, bar: Progress | None) -> None:
        self._log = log
        self._history = history
        self._seen = log.stat().st_size if log.exists() else 0
        self._bar = bar
        self._task = bar.add_task("training", total=steps) if bar else None

    def look(self) -> None:
        """Print new whole lines of the log and move the bar."""
        for line in map(one_line, self._new_lines()):
            if self._bar:
                self._bar.console.print(line, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=newest_step(self._history))

    def _new_lines(self) -> list[str]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._seen)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._seen += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


@contextmanager
def following(log: Path, history: Path, steps: int) -> Iterator[Follower]:
    """Yield a Follower of a run: plain lines, and on a terminal a bar below them."""
    if not sys.stderr.isatty():
        follower = Follower(log, history, steps, None)
        yield follower
        follower.look()
        return
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as bar:
        follower = Follower(log, history, steps, bar)
        yield follower
        follower.look()
