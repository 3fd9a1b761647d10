"""Progress of long loops: a bar on a terminal, a plain line now and then everywhere else."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stvsr.core.escape import one_line
from stvsr.core.terminal import PlainConsole

logger = logging.getLogger(__name__)

LOG_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], total: int, what: str, *, done: int = 0) -> Iterator[Item]:
    """Yield the items of `iterable` and show how many of `total` are done.

    An item counts as done when the next one is asked for. On a terminal (standard error) this is
    a bar; elsewhere a log line "WHAT 24/72" every `LOG_EVERY` seconds and one at the end.

    Args:
        iterable: what to walk through, once, in its own order.
        total: number of items there are.
        what: the work in a few words, such as "rendering clips".
        done: items that were done before, which `iterable` does not yield.
    """
    if sys.stderr.isatty():
        return _with_bar(iterable, total, what, done)
    return _with_log(iterable, total, what, done)


def _with_bar(iterable: Iterable[Item], total: int, what: str, done: int) -> Iterator[Item]:
    described = TextColumn("{task.description}", markup=False)
    columns = (described, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as bar:
        yield from bar.track(iterable, total, done, description=one_line(what))


def _with_log(iterable: Iterable[Item], total: int, what: str, done: int) -> Iterator[Item]:
    last = time.monotonic()
    for item in iterable:
        if time.monotonic() - last >= LOG_EVERY:
            logger.info("%s %d/%d", what, done, total)
            last = time.monotonic()
        yield item
        done += 1
    logger.info("%s %d/%d", what, done, total)
