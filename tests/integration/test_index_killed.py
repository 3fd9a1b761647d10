"""An index that is killed while it inspects, and the run after it."""

import itertools
import logging
import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest

from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.index.inspection import Inspection
from stvsr.data.index.journal import InspectionJournal
from tests.support.clips import write_tiny_source

CLIPS = 60
JUDGED = 40


def make_index(source: Path, index: Path) -> None:
    build_index(source, index, IndexConfig())


def make_index_and_die(source: Path, index: Path) -> None:
    """Kill this process when it has come so far that its journal has been written to."""
    real, calls = InspectionJournal.add, itertools.count(1)

    def add(journal: InspectionJournal, clip: str, file_state: str, inspection: Inspection) -> None:
        real(journal, clip, file_state, inspection)
        if next(calls) == JUDGED:
            os.kill(os.getpid(), signal.SIGKILL)

    InspectionJournal.add = add  # type: ignore[assignment, method-assign]
    make_index(source, index)


@pytest.mark.slow
def test_a_killed_index_goes_on_with_the_verdicts_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_tiny_source(tmp_path / "source", CLIPS - 1, 1)
    make_index(source, tmp_path / "undisturbed")

    index, journal = tmp_path / "index", tmp_path / ".index.inspections.jsonl"
    run = multiprocessing.get_context("spawn").Process(
        target=make_index_and_die, args=(source, index)
    )
    run.start()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    assert not index.exists()

    caplog.set_level(logging.INFO)
    make_index(source, index)
    before = re.search(rf"(\d+) of {CLIPS} clips were inspected before", caplog.text)
    assert before is not None
    assert 1 <= int(before[1]) <= JUDGED
    for name in ("manifest.parquet", "summary.json", "summary.md"):
        assert (index / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not journal.exists()
