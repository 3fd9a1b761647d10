"""Progress of long loops: a bar on a terminal, a plain line now and then everywhere else."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stvsr.core.escape import one_line
from stvsr.core.terminal import PlainConsole

logger = logging.getLogger(__name__)

LOG_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""

Item = TypeVar("Item")


def progress(
    iterable: Iterable[Item], total: int, what: str, *, done: int = 0, unit: str = ""
) -> Iterator[Item]:
    """Yield the items of `iterable` and show how many of `total` are done.

    An item counts as done when the next one is asked for. On a terminal (standard error) this is
    a bar; elsewhere a log line "WHAT 24/72" every `LOG_EVERY` seconds and one at the end.

    Args:
        iterable: what to walk through, once, in its own order.
        total: number of items there are.
        what: the work in a few words, such as "rendering clips".
        done: items that were done before, which `iterable` does not yield.
        unit: what items are called where their speed is shown too, such as "frames"; or empty.
    """
    if sys.stderr.isatty():
        return _with_bar(iterable, total, what, done, unit)
    return _with_log(iterable, total, what, done, unit)


def _with_bar(
    iterable: Iterable[Item], total: int, what: str, done: int, unit: str
) -> Iterator[Item]:
    described = TextColumn("{task.description}", markup=False)
    columns: list[ProgressColumn] = [
        described,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if unit:
        columns.append(_SpeedColumn(unit))
    with Progress(*columns, console=PlainConsole(stderr=True)) as bar:
        yield from bar.track(iterable, total, done, description=one_line(what))


class _SpeedColumn(ProgressColumn):
    """Items per second, as rich measures them for the time that is left."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """See rich."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} {self._unit}/s")


def _with_log(
    iterable: Iterable[Item], total: int, what: str, done: int, unit: str
) -> Iterator[Item]:
    last = began = time.monotonic()
    before = done
    for item in iterable:
        now = time.monotonic()
        if now - last >= LOG_EVERY:
            speed = _speed(now - began, done - before, total - done, unit)
            logger.info("%s %d/%d%s", what, done, total, speed)
            last = now
        yield item
        done += 1
    logger.info("%s %d/%d", what, done, total)


def _speed(seconds: float, items: int, left: int, unit: str) -> str:
    """Speed and time left in words; nothing before there is a speed."""
    if not unit or not items or seconds <= 0:
        return ""
    speed = items / seconds
    minutes, rest = divmod(round(left / speed), 60)
    hours, minutes = divmod(minutes, 60)
    return f", {speed:.3g} {unit}/s, {hours}:{minutes:02d}:{rest:02d} left"
