import itertools
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stvsr.core.clip import ClipBatch
from stvsr.core.errors import ParamsError, ShardError
from stvsr.core.world import World
from stvsr.data.clips.layout import frame_path
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.loading.augment import augmentation
from stvsr.data.loading.loader import LoaderConfig, LoaderKind, eval_clips, train_batches
from stvsr.data.loading.order import clip_indices
from stvsr.data.loading.samples import OnDamage
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig, ShardSet, write_shards

DEVICE = torch.device(os.environ.get("STVSR_TEST_DEVICE", "cpu"))
ALONE = World()
BOTH = pytest.mark.parametrize("kind", ["torch", "dali"])


def batches(
    shards: ShardSet,
    kind: LoaderKind = "torch",
    *,
    seed: int = 0,
    start: int = 0,
    stop: int = 6,
    global_batch: int = 4,
    crop: int = 16,
    world: World = ALONE,
    dtype: torch.dtype = torch.uint8,
    on_damage: OnDamage = "stop",
    decoded_mib: int = 0,
) -> Iterator[ClipBatch]:
    return train_batches(
        LoaderConfig(kind=kind, on_damage=on_damage, decoded_mib=decoded_mib),
        shards,
        seed=seed,
        start_step=start,
        stop_step=stop,
        global_batch=global_batch,
        crop=crop,
        world=world,
        device=DEVICE,
        dtype=dtype,
    )


def assert_same(one: ClipBatch, other: ClipBatch) -> None:
    assert one.keys == other.keys
    assert torch.equal(one.lr_clip, other.lr_clip)
    assert torch.equal(one.hr_clip, other.hr_clip)


def assert_same_stream(ones: Iterator[ClipBatch], others: Iterator[ClipBatch]) -> None:
    for one, other in itertools.zip_longest(ones, others):
        assert_same(one, other)


def gathered(parts: tuple[ClipBatch, ...]) -> ClipBatch:
    return ClipBatch(
        torch.cat([part.lr_clip for part in parts]),
        torch.cat([part.hr_clip for part in parts]),
        tuple(key for part in parts for key in part.keys),
    )


def damaged_copy(shards: ShardSet, tmp_path: Path, shard: str, member: str) -> ShardSet:
    folder = Path(shutil.copytree(shards.address, tmp_path / "damaged"))
    with tarfile.open(folder / shard) as tar:
        offset = tar.getmember(member).offset_data
    with (folder / shard).open("r+b") as file:
        file.seek(offset + 200)
        file.write(bytes(64))
    return ShardSet.open(folder)


def cut_copy(shards: ShardSet, tmp_path: Path, shard: str, member: str) -> ShardSet:
    """A set in which a tar ends in the middle of a member."""
    folder = Path(shutil.copytree(shards.address, tmp_path / "cut"))
    with tarfile.open(folder / shard) as tar:
        end = tar.getmember(member).offset_data + 100
    os.truncate(folder / shard, end)
    return ShardSet.open(folder, damaged_tars=True)


def packed_with_damage(source: Path, tmp_path: Path, clip: str, frame: int) -> ShardSet:
    """Shards of a source in which one frame's pixels were damaged after the index was made."""
    copy = Path(shutil.copytree(source, tmp_path / "source"))
    build_index(copy, tmp_path / "index", IndexConfig())
    path = frame_path(copy, clip, frame)
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(64) + content[264:])
    config = ShardsConfig(workers=1)
    write_shards(tmp_path / "index", "train", tmp_path / "out", config, DegradationConfig())
    return ShardSet.open(tmp_path / "out")


# what a batch is


@BOTH
def test_a_batch_has_the_documented_shapes_types_and_ranges(
    tiny_shards: ShardSet, kind: LoaderKind
) -> None:
    batch = next(batches(tiny_shards, kind, dtype=torch.float32))
    assert batch.lr_clip.shape == (4, 4, 3, 16, 16)
    assert batch.hr_clip.shape == (4, 7, 3, 64, 64)
    assert batch.lr_clip.dtype == batch.hr_clip.dtype == torch.float32
    assert batch.lr_clip.is_contiguous()
    assert batch.hr_clip.is_contiguous()
    assert 0.0 <= float(batch.hr_clip.min()) < float(batch.hr_clip.max()) <= 1.0


@BOTH
def test_a_batch_is_what_order_and_augmentation_say(
    tiny_shards: ShardSet, kind: LoaderKind
) -> None:
    """Written out with numpy, on its own: crop, flips, transposition, reversal."""
    for step, batch in enumerate(batches(tiny_shards, kind)):
        for slot, clip in enumerate(clip_indices(0, step, 4, len(tiny_shards))):
            how = augmentation(0, step, slot, tiny_shards.lr_size(clip), 16)
            frames = np.stack([tiny_shards.frame(clip, f"hr{n}") for n in range(1, 8)])
            frames = frames[:, 4 * how.top :, 4 * how.left :][:, :64, :64]
            frames = frames[:, :, ::-1] if how.flip_horizontal else frames
            frames = frames[:, ::-1] if how.flip_vertical else frames
            frames = frames.transpose(0, 2, 1, 3) if how.transpose else frames
            frames = frames[::-1] if how.reverse_time else frames
            found = batch.hr_clip[slot].permute(0, 2, 3, 1).cpu().numpy()
            np.testing.assert_array_equal(found, frames)
            assert batch.keys[slot] == tiny_shards.keys[clip]


@pytest.mark.gpu
def test_dali_and_torch_give_the_same_bytes(tiny_shards: ShardSet) -> None:
    assert_same_stream(
        batches(tiny_shards, "dali", stop=20), batches(tiny_shards, "torch", stop=20)
    )


@pytest.mark.parametrize("room", [1, 4 << 10], ids=["for some clips", "for all"])
def test_clips_that_stay_decoded_give_the_same_stream(tiny_shards: ShardSet, room: int) -> None:
    kept = batches(tiny_shards, decoded_mib=room, stop=12)
    assert_same_stream(kept, batches(tiny_shards, stop=12))


def test_a_clip_with_room_is_decoded_once(
    tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    decode = ShardSet.decode

    def counted(shards: ShardSet, clip: int, *named: Any) -> Any:
        decoded.append(clip)
        return decode(shards, clip, *named)

    monkeypatch.setattr(ShardSet, "decode", counted)
    assert len(list(batches(tiny_shards, decoded_mib=4 << 10, stop=12))) == 12
    # a clip that two threads want at the same moment may be decoded by both
    assert len(decoded) <= 2 * 11 * len(tiny_shards)
    assert len(list(batches(tiny_shards, stop=12))) == 12
    assert len(decoded) > 12 * 4 * 11


def test_dali_keeps_no_decoded_clips() -> None:
    with pytest.raises(ValueError, match="kind dali keeps no decoded clips; choose kind torch"):
        LoaderConfig(kind="dali", decoded_mib=1)


def test_floats_are_the_levels_divided_by_255(tiny_shards: ShardSet) -> None:
    levels = next(batches(tiny_shards)).hr_clip
    floats = next(batches(tiny_shards, dtype=torch.float32)).hr_clip
    assert torch.equal(floats, levels.float() / 255)


# the stream


@BOTH
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_gather_to_the_stream_of_one(
    tiny_shards: ShardSet, kind: LoaderKind, ranks: int
) -> None:
    parts = [batches(tiny_shards, kind, world=World(rank, ranks)) for rank in range(ranks)]
    together = (gathered(part) for part in zip(*parts, strict=True))
    assert_same_stream(together, batches(tiny_shards, kind))


@BOTH
def test_started_at_a_step_it_goes_on_as_the_uninterrupted_stream(
    tiny_shards: ShardSet, kind: LoaderKind
) -> None:
    whole = batches(tiny_shards, kind, stop=9)
    assert_same_stream(batches(tiny_shards, kind, start=4, stop=9), itertools.islice(whole, 4, 9))


@BOTH
def test_nothing_before_the_first_step_is_read(
    tiny_shards: ShardSet, kind: LoaderKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[int] = set()
    genuine = ShardSet.files

    def noted(shards: ShardSet, clip: int, frames: Sequence[str]) -> list[memoryview]:
        read.add(clip)
        return genuine(shards, clip, frames)

    monkeypatch.setattr(ShardSet, "files", noted)
    list(batches(tiny_shards, kind, start=100_000, stop=100_001))
    assert read == set(clip_indices(0, 100_000, 4, len(tiny_shards)))


def test_every_clip_comes_once_an_epoch(tiny_shards: ShardSet) -> None:
    keys = [key for batch in batches(tiny_shards, stop=6) for key in batch.keys]
    assert sorted(keys[:12]) == sorted(keys[12:]) == sorted(tiny_shards.keys)
    assert keys[:12] != keys[12:]


def test_seeds_give_different_streams(tiny_shards: ShardSet) -> None:
    one, other = (next(batches(tiny_shards, seed=seed)) for seed in (0, 1))
    assert not torch.equal(one.hr_clip, other.hr_clip)


@BOTH
def test_a_batch_may_be_larger_than_the_set(tiny_shards: ShardSet, kind: LoaderKind) -> None:
    (batch,) = batches(tiny_shards, kind, stop=1, global_batch=30)
    assert len(batch.keys) == 30
    assert sorted(batch.keys[:12]) == sorted(tiny_shards.keys)


@BOTH
def test_no_steps_give_no_batches(tiny_shards: ShardSet, kind: LoaderKind) -> None:
    assert list(batches(tiny_shards, kind, start=5, stop=5)) == []


@BOTH
def test_closed_in_the_middle_it_leaves_no_thread(tiny_shards: ShardSet, kind: LoaderKind) -> None:
    before = {*threading.enumerate()}  # a stream that is not collected yet may have some too
    with closing(batches(tiny_shards, kind, stop=1000)) as stream:  # type: ignore[type-var]
        next(stream)
        started = {thread for thread in threading.enumerate() if "read-ahead" in thread.name}
        assert started - before
    assert not {*threading.enumerate()} & (started - before)


@BOTH
def test_its_threads_give_way_to_the_one_that_trains(
    tiny_shards: ShardSet, kind: LoaderKind
) -> None:
    with closing(batches(tiny_shards, kind, stop=1000)) as stream:  # type: ignore[type-var]
        next(stream)
        found = {t.native_id for t in threading.enumerate() if "read-ahead" in t.name}
        if kind == "dali":
            tasks = Path("/proc/self/task").iterdir()
            of_dali = {int(task.name) for task in tasks if "DALI" in (task / "comm").read_text()}
            assert of_dali
            found |= of_dali
        niceness = [os.getpriority(os.PRIO_PROCESS, thread) for thread in found if thread]
    assert min(niceness) > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


# what is refused


@pytest.mark.parametrize("ranks", [3, 8])
def test_a_global_batch_the_ranks_do_not_divide_is_refused_at_once(
    tiny_shards: ShardSet, ranks: int
) -> None:
    words = f"train.batch_size: found 4, which {ranks} workers do not divide"
    with pytest.raises(ParamsError, match=words):
        batches(tiny_shards, world=World(0, ranks))


def test_a_crop_larger_than_the_clips_is_refused_at_once_with_the_sizes(
    tiny_shards: ShardSet,
) -> None:
    words = r"train.crop: found 32; allowed is 1 to 24, .* clip 00001/0001 are 40x24"
    with pytest.raises(ParamsError, match=words):
        batches(tiny_shards, crop=32)


@BOTH
def test_a_damaged_member_stops_the_stream_with_shard_member_and_byte(
    tiny_shards: ShardSet, tmp_path: Path, kind: LoaderKind
) -> None:
    shards = damaged_copy(tiny_shards, tmp_path, "000001.tar", "00002_0002.hr5.png")
    words = r"000001\.tar: member 00002_0002\.hr5\.png at byte \d+: .*CRC-32 differs"
    with pytest.raises(ShardError, match=words):
        list(batches(shards, kind))


@BOTH
def test_a_file_that_was_damaged_before_it_was_packed_is_named_too(
    tiny_source: Path, tmp_path: Path, kind: LoaderKind
) -> None:
    """Its checksum is right and only the decoder sees it."""
    shards = packed_with_damage(tiny_source, tmp_path, "00001/0002", frame=4)
    words = r"000000\.tar: member 00001_0002\.hr4\.png at byte \d+: cannot be decoded"
    with pytest.raises(ShardError, match=words):
        list(batches(shards, kind))


@BOTH
def test_more_ranks_than_clips_are_refused_at_once(tiny_shards: ShardSet, kind: LoaderKind) -> None:
    with pytest.raises(ParamsError, match=r"train\.workers: found 13; allowed is at most 12"):
        batches(tiny_shards, kind, global_batch=26, world=World(0, 13))


# replacement of damaged clips


DAMAGES = ("changed bytes", "undecodable pixels", "a tar that ends early")


@pytest.fixture(scope="module")
def damaged_sets(
    tiny_source: Path, tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[ShardSet, set[str]]]:
    """By what is wrong with it: a set, and its damaged clips."""
    folders = [tmp_path_factory.mktemp("damage") for _ in DAMAGES]
    sets = (
        damaged_copy(tiny_shards, folders[0], "000001.tar", "00002_0002.hr5.png"),
        packed_with_damage(tiny_source, folders[1], "00002/0002", frame=4),
        cut_copy(tiny_shards, folders[2], "000002.tar", "00003_0001.lr3.png"),
    )
    clips: tuple[set[str], ...] = ({"00002/0002"}, {"00002/0002"}, {"00003/0001", "00003/0002"})
    return dict(zip(DAMAGES, zip(sets, clips, strict=True), strict=True))


@pytest.mark.parametrize("what", DAMAGES)
def test_the_next_sound_clip_stands_in_and_the_damage_is_told(
    damaged_sets: dict[str, tuple[ShardSet, set[str]]], tiny_shards: ShardSet, what: str
) -> None:
    shards, damaged = damaged_sets[what]
    due = [key for batch in batches(tiny_shards) for key in batch.keys]
    stand_ins = {
        "00002/0002": "00002/0003",
        "00003/0001": "00001/0001",
        "00003/0002": "00001/0001",
    }
    shown, told = [], []  # type: ignore[var-annotated]
    for batch in batches(shards, on_damage="skip"):
        shown += batch.keys
        told += batch.damage
    assert shown == [stand_ins[key] if key in damaged else key for key in due]
    assert len(told) == 2 * len(damaged)
    assert len(set(told)) == len(damaged)  # the same words each time, reversed in time or not
    for line in told:
        (key,) = (key for key in damaged if line.endswith(f"replaces {key}"))
        assert f".tar: member {key.replace('/', '_')}." in line
        assert " at byte " in line


@pytest.mark.gpu
@pytest.mark.parametrize("what", DAMAGES)
def test_with_stand_ins_dali_and_torch_still_give_the_same_stream(
    damaged_sets: dict[str, tuple[ShardSet, set[str]]], what: str
) -> None:
    shards, _ = damaged_sets[what]
    streams = [list(batches(shards, kind, on_damage="skip")) for kind in ("dali", "torch")]
    assert_same_stream(*map(iter, streams))
    assert [batch.damage for batch in streams[0]] == [batch.damage for batch in streams[1]]


@BOTH
@pytest.mark.parametrize("what", DAMAGES)
def test_with_stand_ins_ranks_still_gather_to_the_stream_of_one(
    damaged_sets: dict[str, tuple[ShardSet, set[str]]], what: str, kind: LoaderKind
) -> None:
    shards, _ = damaged_sets[what]
    parts = [
        batches(shards, kind, on_damage="skip", start=2, world=World(rank, 2)) for rank in range(2)
    ]
    together = (gathered(part) for part in zip(*parts, strict=True))
    assert_same_stream(together, batches(shards, kind, on_damage="skip", start=2))


@BOTH
def test_without_a_sound_clip_the_stream_ends(
    tiny_shards: ShardSet, tmp_path: Path, kind: LoaderKind
) -> None:
    folder = Path(shutil.copytree(tiny_shards.address, tmp_path / "empty"))
    for tar in folder.glob("*.tar"):
        os.truncate(tar, 0)
    shards = ShardSet.open(folder, damaged_tars=True)
    with pytest.raises(ShardError, match=r"none of its 12 clips is valid; the first: .*ends after"):
        next(batches(shards, kind, on_damage="skip"))


@BOTH
def test_a_tar_that_ends_early_stops_the_stream_where_it_is_not_to_be_skipped(
    damaged_sets: dict[str, tuple[ShardSet, set[str]]], kind: LoaderKind
) -> None:
    shards, _ = damaged_sets["a tar that ends early"]
    words = r"000002\.tar: member 00003_000\d\.\w+\.png at byte \d+: the tar ends after \d+ of its"
    with pytest.raises(ShardError, match=words):
        list(batches(shards, kind))


# clips to score


def test_eval_clips_are_whole_single_and_in_order(tiny_source: Path, tiny_shards: ShardSet) -> None:
    clips = list(eval_clips(tiny_shards, [7, 2], dtype=torch.uint8))
    assert [clip.keys for clip in clips] == [(tiny_shards.keys[7],), (tiny_shards.keys[2],)]
    assert clips[0].lr_clip.shape == (1, 4, 3, 24, 40)
    assert clips[0].hr_clip.shape == (1, 7, 3, 96, 160)
    path = frame_path(tiny_source, tiny_shards.keys[2], 3)
    expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert torch.equal(clips[1].hr_clip[0, 2], expected)


def test_all_clips_are_scored_by_default_in_floats(tiny_shards: ShardSet) -> None:
    clips = list(eval_clips(tiny_shards))
    assert [clip.keys[0] for clip in clips] == list(tiny_shards.keys)
    assert clips[0].lr_clip.dtype == torch.float32
    assert float(clips[0].hr_clip.max()) <= 1.0
