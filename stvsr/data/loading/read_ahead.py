"""Work on the next batches in threads while the current one is used."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

NICER = 5
"""By how much reading gives way: where cores are short it gets a quarter of one, and not none."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    work: Callable[[Item], Result],
    batches: Iterable[Sequence[Item]],
    *,
    threads: int,
    depth: int,
) -> Generator[tuple[Sequence[Item], list[Result]], None, None]:
    """Yield each batch with its items' results, in order, while later batches are worked on.

    Closed in the middle, it drops the work that has not begun, waits for the items that have
    (one per thread at most) and leaves no thread behind. An item's error is raised when its batch
    is asked for.

    Args:
        work: what is done to each item; called in threads.
        batches: taken one by one, never more than `depth` beyond the batch that is yielded.
        threads: items worked on at a time.
        depth: batches that are under way beyond the one that is yielded, at least 1.
    """
    waiting: deque[tuple[Sequence[Item], list[Future[Result]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stvsr-read-ahead", initializer=give_way)
    try:
        for items in batches:
            waiting.append((items, [pool.submit(work, item) for item in items]))
            if len(waiting) > depth:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def give_way() -> None:
    """Give this thread, and those it starts, a lower priority than the others have.

    What is read ahead has a whole step's time, and a step on a CPU waits for the slowest of its
    own threads. Only Linux has priorities of threads; elsewhere nothing changes.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, niceness + NICER)


def _finished(
    items: Sequence[Item], futures: Sequence[Future[Result]]
) -> tuple[Sequence[Item], list[Result]]:
    return items, [future.result() for future in futures]
