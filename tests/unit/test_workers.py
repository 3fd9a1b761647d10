import os
import signal
from pathlib import Path

import pytest

from stvsr.core.errors import SourceError, StvsrError
from stvsr.core.workers import AHEAD, map_parallel


def square(number: int) -> int:
    return number * number


def process_of(_: int) -> int:
    return os.getpid()


def leave_a_mark(path: Path) -> None:
    path.touch()


def refuse(number: int) -> int:
    raise SourceError(f"{number}.png: truncated")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(map_parallel(square, [3, 1, 2], workers, "squaring")) == [9, 1, 4]


def test_one_worker_is_this_process_and_two_are_others():
    assert set(map_parallel(process_of, [0, 1], 1, "asking")) == {os.getpid()}
    assert os.getpid() not in set(map_parallel(process_of, [0, 1], 2, "asking"))


def test_only_a_few_items_are_worked_on_before_results_are_taken(tmp_path):
    items = [tmp_path / str(number) for number in range(10 * AHEAD)]
    results = map_parallel(leave_a_mark, items, 2, "marking")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert 1 <= len(list(tmp_path.iterdir())) <= 2 * AHEAD + 1


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(SourceError, match=r"1\.png: truncated"):
        list(map_parallel(refuse, [1, 2, 3], 2, "reading"))


def test_a_worker_that_dies_is_one_clear_error():
    with pytest.raises(StvsrError, match="reading: a worker process died"):
        list(map_parallel(die, [1, 2, 3], 2, "reading"))
