"""Work spread over processes that end with the process that started them, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stvsr.core.errors import StvsrError
from stvsr.core.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8
"""Items per worker that are under way or done and not yet taken."""


def map_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, what: str
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in order, computed on `workers` processes, with progress.

    One worker, or one item, is done in this process. What `work` raises is raised here, and what
    has not begun is then left undone. Only a few items a worker are under way or waiting to be
    yielded at any time, so the memory it takes does not grow with their number.

    Args:
        work: a function of a module; it, the items and the results must be picklable.
        items: what to work on.
        workers: number of processes, >= 1.
        what: the work in a few words, for the progress display.

    Raises:
        StvsrError: a process died, as when memory runs out.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from progress(map(work, items), len(items), what)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield from progress(_in_order(pool, work, items, AHEAD * workers), len(items), what)
    except BrokenProcessPool:
        raise StvsrError(
            f"{what}: a worker process died, perhaps for memory; "
            "free some and run the same command again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, item))
    while waiting:
        yield waiting.popleft().result()


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
