"""`stvsr shards verify`: re-read every byte of shard sets and name all damage."""

import hashlib
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stvsr.core.errors import ShardError
from stvsr.core.escape import one_line
from stvsr.core.workers import available_cores, map_parallel
from stvsr.data.shards.format import (
    HR_FRAMES,
    LINEAGE,
    LR_FRAMES,
    MEMBERS,
    Lineage,
    ShardIndex,
    ShardRecord,
    digest,
    index_file,
    inputs_digest,
    json_bytes,
    key,
    tar_header,
)
from stvsr.data.shards.read import ShardSet, checked_index, read_lineage, remedy
from stvsr.data.shards.storage import Address, Storage, inside, open_storage


@dataclass(frozen=True)
class Verified:
    """Result of verifying one set.

    Attributes:
        address: the set.
        clips: clips the lineage names.
        shards: shards the lineage names.
        size: bytes of the tars, as the lineage has them.
        faults: one line for each thing that is not as it was written.
    """

    address: str
    clips: int
    shards: int
    size: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    storage: Storage
    record: ShardRecord
    lineage: Lineage
    size: int | None


@dataclass(frozen=True)
class _Found:
    faults: tuple[str, ...]
    sources: tuple[str, ...] = ()


def verify_sets(addresses: Sequence[Address]) -> None:
    """Verify sets on all cores and print a line for each valid one.

    Raises:
        ShardError: something is not as it was written; the text has a line for each such thing.
        ServiceError: a remote store does not answer or refuses.
    """
    faults: list[str] = []
    for address in addresses:
        verified = verify_set(address, available_cores())
        faults += verified.faults
        if not verified.faults:
            sys.stdout.write(
                f"{one_line(verified.address)}: valid, {verified.clips} clips in "
                f"{verified.shards} shards, {verified.size / 1e6:,.1f} MB\n"
            )
    if faults:
        raise ShardError(faults)


def verify_set(address: Address, workers: int) -> Verified:
    """Read all of a set and compare it with its indexes and its lineage.

    Lineage and indexes belong together; each tar has its size, its SHA-256, and between the
    members exactly what the writer puts there; each member has its CRC-32; each PNG decodes, each
    JSON names its clip; and no other file is beside them.

    Args:
        address: folder or fsspec address of the set.
        workers: processes that read, one shard at a time each.

    Raises:
        ServiceError: a remote store does not answer or refuses.
    """
    storage = open_storage(address)
    try:
        lineage = read_lineage(storage)
        content = storage.read_whole([LINEAGE])[0]
    except ShardError as error:
        return Verified(storage.address, 0, 0, 0, (str(error),))
    sizes = storage.sizes()
    tasks = [_Task(storage, record, lineage, sizes.get(record.shard)) for record in lineage.shards]
    found = list(map_parallel(_verify_shard, tasks, workers, f"verifying {storage.address}"))
    faults = [fault for shard in found for fault in shard.faults]
    if content != json_bytes(lineage, indent=1):
        faults.append(
            f"{inside(storage.address, LINEAGE)}: its bytes are not those that belong to "
            "what it says; write the shards again"
        )
    faults += _faults_of_lineage(storage.address, lineage, [s for f in found for s in f.sources])
    faults += _strangers(storage.address, lineage, sizes)
    size = sum(record.size for record in lineage.shards)
    return Verified(storage.address, lineage.clips, len(tasks), size, tuple(faults))


def _verify_shard(task: _Task) -> _Found:
    name = task.record.shard
    tar, path = (inside(task.storage.address, file) for file in (name, index_file(name)))
    missing = f"missing, though {LINEAGE} lists its shard; {remedy(task.lineage)}"
    try:
        (content,) = task.storage.read_whole([index_file(name)])
        index = checked_index(path, content, task.record, task.lineage)
    except FileNotFoundError:
        return _Found((f"{path}: {missing}",))
    except ShardError as error:
        return _Found((str(error),))
    sources = tuple(f"{clip.clip} {clip.source}" for clip in index.clips)
    if task.size is None:
        return _Found((f"{tar}: {missing}",), sources)
    shard = task.storage.read_range(name, 0, task.size)
    clips = _opened(task, index, shard)
    faults = [*_faults_of_members(clips, tar), *_faults_between(tar, index, shard)]
    if not faults:
        faults += _faults_of_record(clips, task.record, index)
    if not faults and hashlib.sha256(shard).hexdigest() != task.record.sha256:
        faults.append(f"{tar}: its SHA-256 is not the one in {LINEAGE}; {remedy(task.lineage)}")
    return _Found(tuple(faults), sources)


def _opened(task: _Task, index: ShardIndex, shard: memoryview) -> ShardSet:
    """The shard as a set of its own, whose bytes were read already."""
    lineage = task.lineage.model_copy(update={"shards": (task.record,)})
    held = _Held(task.storage.address, shard)
    return ShardSet(held, lineage, [index], {task.record.shard: len(shard)})


def _faults_of_members(clips: ShardSet, tar: str) -> Iterator[str]:
    """Read every member as a loader would."""
    for number, name in enumerate(clips.keys):
        for frame in (*HR_FRAMES, *LR_FRAMES):
            try:
                clips.frame(number, frame)
            except ShardError as error:
                yield str(error)
        try:
            meta = clips.meta(number)
        except ShardError as error:
            yield str(error)
        else:
            if (meta.clip, meta.split) != (name, clips.lineage.split):
                yield f"{tar}: the JSON of clip {name} is that of {meta.split} clip {meta.clip}"


def _faults_of_record(clips: ShardSet, record: ShardRecord, index: ShardIndex) -> Iterator[str]:
    """Compare what the lineage says of a valid shard with the shard."""
    path = inside(clips.address, LINEAGE)
    there = {"size": index.size, "sha256": index.sha256, "clips": len(index.clips)}
    for name, value in there.items():
        if getattr(record, name) != value:
            yield f"{path}: {record.shard}: says {name} {getattr(record, name)}, its index {value}"
    lineage = clips.lineage
    metas = [clips.meta(number) for number in range(len(clips))]
    sources = [clip.source for clip in index.clips]
    if index.inputs != inputs_digest(lineage.code, lineage.degradation, metas, sources):
        yield (
            f"{path}: {record.shard}: its index was made from other code or clips than {LINEAGE} "
            f"says; {remedy(lineage)}"
        )


def _faults_between(tar: str, index: ShardIndex, shard: memoryview) -> Iterator[str]:
    """Compare the headers, the padding and the end of a tar with what the writer puts there."""
    end = 0
    for clip in index.clips:
        for member, offset, size in zip(MEMBERS, clip.offsets, clip.sizes, strict=True):
            name = f"{key(clip.clip)}.{member}"
            expected = bytes(-end % tarfile.BLOCKSIZE) + tar_header(name, size)
            if offset != end + len(expected):
                yield f"{tar}: member {name} is at byte {end + len(expected)}, not {offset}"
                return
            yield from _difference(f"{tar}: header of member {name}", shard, end, expected)
            end = offset + size
    yield from _difference(f"{tar}: end of the tar", shard, end, bytes(max(0, index.size - end)))
    if len(shard) != index.size:
        yield f"{tar}: found {len(shard)} bytes, its index says {index.size}"


def _difference(what: str, shard: memoryview, start: int, expected: bytes) -> Iterator[str]:
    """The first byte that is not as expected; bytes that are missing are another's fault."""
    found = shard[start : start + len(expected)]
    if found == expected[: len(found)]:
        return
    first = next(n for n, (is_, due) in enumerate(zip(found, expected, strict=False)) if is_ != due)
    yield f"{what}: damaged at byte {start + first}"


def _faults_of_lineage(address: str, lineage: Lineage, sources: Sequence[str]) -> Iterator[str]:
    is_complete = len(sources) == lineage.clips
    if is_complete and lineage.source != digest("\n".join(sources).encode()):
        yield f"{inside(address, LINEAGE)}: source is not that of its clips"


def _strangers(address: str, lineage: Lineage, sizes: Mapping[str, int]) -> Iterator[str]:
    names = {name for r in lineage.shards for name in (r.shard, index_file(r.shard))}
    for name in sorted(set(sizes) - names - {LINEAGE}):
        yield f"{inside(address, name)}: no part of the set; {remedy(lineage)}"


class _Held:
    """A storage of one tar that is in memory."""

    def __init__(self, address: str, shard: memoryview) -> None:
        self.address = address
        self._shard = shard

    def sizes(self) -> dict[str, int]:
        """Nobody asks."""
        return {}

    def read_whole(self, names: Sequence[str]) -> list[bytes]:
        """Nobody asks."""
        return []

    def read_range(self, name: str, start: int, stop: int) -> memoryview:
        """As `Storage.read_range`."""
        return self._shard[start:stop]
