"""Shards behind an fsspec address: the same bytes, read in ranges, and one line when it fails."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from stvsr.core.errors import ServiceError, ShardError
from stvsr.core.world import World
from stvsr.data.loading.loader import LoaderConfig, LoaderKind, train_batches
from stvsr.data.loading.order import clip_indices
from stvsr.data.shards.storage import RemoteStorage, absolute, inside, is_remote, open_storage
from stvsr.data.shards.write import ShardSet

ADDRESS = "memory://bucket/shards/train"


@pytest.fixture
def remote(tiny_shards_folder: Path) -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    memory.put(str(tiny_shards_folder), "/bucket/shards/train", recursive=True)
    yield ADDRESS
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("address", ["s3://bucket/set", "gs://b", "zip://x::s3://bucket/a.zip"])
def test_addresses_that_fsspec_reads_stay_as_they_are(address: str) -> None:
    assert is_remote(address)
    assert absolute(address) == address


@pytest.mark.parametrize("address", ["data/shards", "/data/s3:/x", Path("s3://bucket/set")])
def test_paths_are_local_and_become_absolute(address: str | Path) -> None:
    assert not is_remote(address)
    assert absolute(address) == str(Path(address).resolve())


def test_an_address_goes_on_with_one_slash() -> None:
    assert inside("s3://bucket/set", "train") == inside("s3://bucket/set/", "train")


def test_a_remote_set_holds_the_bytes_of_the_local_one(remote: str, tiny_shards: ShardSet) -> None:
    shards = ShardSet.open(remote)
    assert shards.keys == tiny_shards.keys
    assert shards.meta(3) == tiny_shards.meta(3)
    assert shards.files(7, ["hr2", "lr5"]) == tiny_shards.files(7, ["hr2", "lr5"])
    again = pickle.loads(pickle.dumps(shards))
    assert again.files(7, ["hr2"]) == tiny_shards.files(7, ["hr2"])


@pytest.mark.parametrize("kind", ["torch", "dali"])
def test_a_batch_is_one_ranged_read_per_clip_and_nothing_else(
    remote: str, tiny_shards: ShardSet, kind: LoaderKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.open(remote)
    reads: list[tuple[str, int]] = []
    genuine = RemoteStorage.read_range

    def noted(storage: RemoteStorage, name: str, start: int, stop: int) -> memoryview:
        reads.append((name, stop - start))
        return genuine(storage, name, start, stop)

    monkeypatch.setattr(RemoteStorage, "read_range", noted)
    list(
        train_batches(
            LoaderConfig(kind=kind),
            shards,
            seed=0,
            start_step=1000,
            stop_step=1001,
            global_batch=4,
            crop=16,
            world=World(),
            device=torch.device("cpu"),
        )
    )
    expected = []
    for clip in clip_indices(0, 1000, 4, len(shards)):
        files = tiny_shards.files(clip, [f"hr{n}" for n in range(1, 8)])
        files += tiny_shards.files(clip, ["lr1", "lr3", "lr5", "lr7"])
        expected.append(sum(map(len, files)))
    between = [
        read[1] - files
        for read, files in zip(
            sorted(reads, key=lambda read: read[1]), sorted(expected), strict=True
        )
    ]
    assert all(0 < rest < 16 * 1024 for rest in between)  # the tar's own headers and the JSON


def test_a_tar_that_shrank_is_damage_and_one_that_is_gone_too(
    remote: str, tiny_shards: ShardSet
) -> None:
    memory = fsspec.filesystem("memory")
    path = "/bucket/shards/train/000002.tar"
    memory.pipe(path, memory.cat(path)[:1000])
    with pytest.raises(ShardError, match=r"000002\.tar: found 1000 bytes, lineage\.json says"):
        ShardSet.open(remote)
    for _ in range(2):
        shards = ShardSet.open(remote, damaged_tars=True)
        with pytest.raises(ShardError, match=r"000002\.tar: member .* the tar ends after"):
            shards.files(len(shards) - 1, ["hr1"])
        if memory.exists(path):
            memory.rm(path)


def test_a_missing_set_is_one_line() -> None:
    with pytest.raises(ShardError, match=r"memory://nowhere/train: found no lineage\.json"):
        ShardSet.open("memory://nowhere/train")


def test_an_unknown_kind_of_address_is_one_line() -> None:
    with pytest.raises(ShardError, match="nothing://x: Protocol not known: nothing; allowed: a f"):
        open_storage("nothing://x")


def test_a_store_that_fails_is_no_damage(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = ShardSet.open(remote)

    def refuse(*_: object, **__: object) -> None:
        raise TimeoutError("the store took too long")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    batches = train_batches(
        LoaderConfig(kind="torch", on_damage="skip"),
        shards,
        seed=0,
        start_step=0,
        stop_step=1,
        global_batch=4,
        crop=16,
        world=World(),
        device=torch.device("cpu"),
    )
    with pytest.raises(ServiceError, match=r"train: cannot be read \(the store took too long\)"):
        list(batches)


def test_a_tar_that_cannot_be_read_is_no_damage(tiny_shards_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards_folder, tmp_path / "train"))
    (folder / "000001.tar").unlink()
    (folder / "000001.tar").mkdir()
    shards = ShardSet.open(folder, damaged_tars=True)
    with pytest.raises(ServiceError, match=r"000001\.tar: cannot be read \(it is a folder"):
        open_storage(folder).read_range("000001.tar", 0, 1)
    shards.files(0, ["hr1"])
