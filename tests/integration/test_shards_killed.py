"""A run that is killed, or runs out of disk, while it writes shards, and the run after it."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import psutil
import pytest
from PIL import Image

from stvsr.core.errors import ShardError
from stvsr.core.files import sha256_of
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig, write_shards
from tests.support.clips import held_up, write_tiny_source
from tests.support.waiting import wait_until


def write_singles(index: Path, out: Path, workers: int) -> None:
    config = ShardsConfig(clips_per_shard=1, workers=workers)
    write_shards(index, "train", out, config, DegradationConfig())


def whole_shards(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.idx")}


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_with_the_shards_that_are_whole(
    many_index: Path, tmp_path: Path, workers: int
) -> None:
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    write_singles(many_index, undisturbed, 1)

    run = multiprocessing.get_context("spawn").Process(
        target=write_singles, args=(many_index, out, workers)
    )
    with held_up(many_index.parent / "source", "00007/0001"):  # so it cannot end before the kill
        run.start()
        wait_until("two shards", lambda: len(whole_shards(out)) >= 2)
        family = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid, signal.SIGKILL)  # type: ignore[arg-type]
        run.join()
        wait_until("the end of the workers", lambda: not any(map(is_running, family)))

    kept = whole_shards(out)
    assert 2 <= len(kept) < 60
    assert not (out / "lineage.json").exists()
    write_singles(many_index, out, workers)
    assert {name: whole_shards(out)[name] for name in kept} == kept
    assert {path.name: sha256_of(path) for path in out.iterdir()} == {
        path.name: sha256_of(path) for path in undisturbed.iterdir()
    }


def write_with_little_room(index: Path, out: Path, most: int, said: Path) -> None:
    """Write pairs on a disk that takes no file larger than `most` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        write_pairs(index, out)
    except ShardError as error:
        said.write_text(str(error))


def write_pairs(index: Path, out: Path) -> None:
    config = ShardsConfig(clips_per_shard=2, workers=1)
    write_shards(index, "train", out, config, DegradationConfig())


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_whole_shards_and_the_same_call_goes_on(
    tmp_path: Path,
) -> None:
    source = write_tiny_source(tmp_path / "source", 4, 1)
    for clip in ("00001/0001", "00001/0002"):  # small ones, so that the first shard has room
        for frame in (source / "sequences" / clip).iterdir():
            Image.open(frame).crop((0, 0, 64, 64)).save(frame)
    build_index(source, tmp_path / "index", IndexConfig())
    write_pairs(tmp_path / "index", tmp_path / "whole")
    small, large = ((tmp_path / "whole" / f"{n:06d}.tar").stat().st_size for n in (0, 1))

    out, said = tmp_path / "out", tmp_path / "said"
    run = multiprocessing.get_context("spawn").Process(
        target=write_with_little_room,
        args=(tmp_path / "index", out, (small + large) // 2, said),
    )
    run.start()
    run.join()
    assert (
        "cannot be written (File too large); 1 of 2 shards are whole and stay" in said.read_text()
    )
    assert sorted(path.name for path in out.iterdir()) == ["000000.idx", "000000.tar"]

    kept = whole_shards(out)
    write_pairs(tmp_path / "index", out)
    assert {name: whole_shards(out)[name] for name in kept} == kept
    assert {path.name: sha256_of(path) for path in out.iterdir()} == {
        path.name: sha256_of(path) for path in (tmp_path / "whole").iterdir()
    }


@pytest.fixture(scope="module")
def many_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 clips: more than are under way when the clip is reached that is held up."""
    folder = tmp_path_factory.mktemp("many")
    build_index(write_tiny_source(folder / "source", 60, 1), folder / "index", IndexConfig())
    return folder / "index"
