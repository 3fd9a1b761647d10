"""Work on the next batches in threads while the current one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stvsr-read-ahead")
    try:
        for items in batches:
            waiting.append((items, [pool.submit(work, item) for item in items]))
            if len(waiting) > depth:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(
    items: Sequence[Item], futures: Sequence[Future[Result]]
) -> tuple[Sequence[Item], list[Result]]:
    return items, [future.result() for future in futures]
