"""An index that is killed while it judges, and the run after it."""

import logging
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
from tiny_clips import write_tiny_source

from stvsr.data.index import IndexConfig, build_index

CLIPS = 60


def make_index(source: Path, index: Path) -> None:
    build_index(source, index, IndexConfig())


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_killed_index_goes_on_with_the_verdicts_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_tiny_source(tmp_path / "source", CLIPS - 1, 1)
    make_index(source, tmp_path / "undisturbed")

    index, journal = tmp_path / "index", tmp_path / ".index.verdicts.jsonl"
    run = multiprocessing.get_context("spawn").Process(target=make_index, args=(source, index))
    run.start()
    while lines_of(journal) < 2 and run.is_alive():
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert not index.exists()

    caplog.set_level(logging.INFO)
    make_index(source, index)
    before = re.search(rf"(\d+) of {CLIPS} clips were judged before", caplog.text)
    assert before is not None
    assert 1 <= int(before[1]) < CLIPS
    for name in ("manifest.parquet", "summary.json", "summary.md"):
        assert (index / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not journal.exists()
