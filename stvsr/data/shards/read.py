"""ShardSet: a whole set of shards, opened once and read at random."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stvsr.core.clip import SCALE
from stvsr.core.config import ContentError
from stvsr.core.errors import ShardError
from stvsr.core.image import UInt8Image
from stvsr.data.clips import png
from stvsr.data.shards.format import (
    HR_FRAMES,
    LAYOUT,
    LINEAGE,
    MEMBERS,
    SHARD_FILE,
    ClipMeta,
    Lineage,
    ShardIndex,
    ShardRecord,
    digest,
    index_file,
    key,
)
from stvsr.data.shards.storage import Address, Storage, inside, open_storage

AT_ONCE = 512
"""Indexes that are asked of a store together."""


def remedy(lineage: Lineage) -> str:
    """Remedy for a damaged shard, for messages."""
    return f"run `stvsr shard {lineage.split}`, which writes damaged shards anew"


@dataclass(frozen=True)
class _Places:
    """Positions of the members of one shard's clips: a row per clip, a column per `MEMBERS`."""

    keys: tuple[str, ...]
    lr_sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    crc32: NDArray[np.int64]

    @classmethod
    def of(cls, index: ShardIndex) -> "_Places":
        clips = index.clips
        return cls(
            keys=tuple(clip.clip for clip in clips),
            lr_sizes=np.array([clip.lr_size for clip in clips]),
            offsets=np.array([clip.offsets for clip in clips]),
            sizes=np.array([clip.sizes for clip in clips]),
            crc32=np.array([clip.crc32 for clip in clips]),
        )


class ShardSet:
    """A whole set of shards, read at random: any frames of any clip, by byte offset.

    It holds a few arrays of integers, and maps a local tar when it is first read from, so it is
    cheap to pickle and to hand to another process or thread.
    """

    def __init__(
        self,
        storage: Storage,
        lineage: Lineage,
        indexes: Iterable[ShardIndex],
        tar_sizes: Mapping[str, int],
    ) -> None:
        # Index by index: parsed ones of 90,000 clips would take ten times the arrays' memory.
        parts = [_Places.of(index) for index in indexes]
        self.lineage = lineage
        self.keys = tuple(key for part in parts for key in part.keys)
        self._storage = storage
        self._lr_sizes = np.concatenate([part.lr_sizes for part in parts])
        self._offsets = np.concatenate([part.offsets for part in parts])
        self._sizes = np.concatenate([part.sizes for part in parts])
        self._crc32 = np.concatenate([part.crc32 for part in parts])
        self._shards = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
        self._tar_sizes = [tar_sizes.get(record.shard, 0) for record in lineage.shards]

    @classmethod
    def open(cls, address: Address, *, damaged_tars: bool = False) -> "ShardSet":
        """Open a set and check that it is one: lineage, indexes, sizes. Tars are not read.

        Args:
            address: its folder, or where fsspec finds it, such as "s3://bucket/shards/train".
            damaged_tars: open it although a tar is missing or has another size; the members that
                are not there are then damaged ones.

        Raises:
            ShardError: the lineage is missing or damaged, an index is missing, damaged, of
                another shard or another degradation, or a tar is missing or has another size.
            ServiceError: a remote store does not answer or refuses.
        """
        storage = open_storage(address)
        lineage = read_lineage(storage)
        sizes = storage.sizes()
        opened = cls(storage, lineage, _read_indexes(storage, lineage, sizes), sizes)
        if not damaged_tars:
            for record in lineage.shards:
                _check_size(storage, record, sizes.get(record.shard), lineage)
        return opened

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def address(self) -> str:
        """The folder, or the address that fsspec knows it by."""
        return self._storage.address

    def lr_size(self, clip: int) -> tuple[int, int]:
        """(H, W) of a clip's LR frames, in pixels."""
        height, width = self._lr_sizes[clip]
        return int(height), int(width)

    def meta(self, clip: int) -> ClipMeta:
        """Facts of a clip besides its frames.

        Raises:
            ShardError, ServiceError: as `files`.
        """
        try:
            return ClipMeta.parse(bytes(self._members(clip, ["json"])[0]))
        except ContentError as error:
            raise ShardError(
                f"{self._where(clip, 'json')}: damaged ({error}); {remedy(self.lineage)}"
            ) from None

    def files(self, clip: int, frames: Sequence[str]) -> list[memoryview]:
        """The PNG files of frames such as "lr1" or "hr7", in one read from the first to the last.

        Returns:
            Views of the mapped tar, or of what a remote store sent.

        Raises:
            ShardError: bytes are missing or not those that were written; names tar, member, byte.
            ServiceError: a remote store does not answer or refuses.
        """
        return self._members(clip, [f"{frame}.png" for frame in frames])

    def size(self, clip: int, frame: str) -> tuple[int, int]:
        """(H, W) of a clip's frame, such as "lr1" or "hr7", in pixels."""
        height, width = self.lr_size(clip)
        scale = SCALE if frame in HR_FRAMES else 1
        return height * scale, width * scale

    def decode(
        self, clip: int, frame: str, content: memoryview, rows: int | None = None
    ) -> UInt8Image:
        """Decode one of `files`: (H, W, 3), RGB, 0..255, or its first `rows` rows.

        Raises:
            ShardError: it is damaged; names tar, member and byte.
        """
        try:
            return png.decode(content, self.size(clip, frame), rows)
        except ValueError as error:
            raise ShardError(
                f"{self._where(clip, f'{frame}.png')}: cannot be decoded ({error}); "
                f"{remedy(self.lineage)}"
            ) from None

    def frame(self, clip: int, frame: str) -> UInt8Image:
        """Read and decode one frame, such as "lr1": (H, W, 3), RGB, 0..255.

        Raises:
            ShardError, ServiceError: as `files` and `decode`.
        """
        return self.decode(clip, frame, self.files(clip, [frame])[0])

    def _members(self, clip: int, members: Sequence[str]) -> list[memoryview]:
        columns = [MEMBERS.index(member) for member in members]
        starts = [int(self._offsets[clip, column]) for column in columns]
        stops = [
            start + int(self._sizes[clip, column])
            for start, column in zip(starts, columns, strict=True)
        ]
        first = min(starts)
        span = self._read(clip, first, max(stops))
        contents = [
            span[start - first : stop - first] for start, stop in zip(starts, stops, strict=True)
        ]
        for member, column, content in zip(members, columns, contents, strict=True):
            self._check(clip, member, content, int(self._sizes[clip, column]))
        return contents

    def _read(self, clip: int, start: int, stop: int) -> memoryview:
        """Bytes of a clip's tar; fewer where it ends before."""
        shard = int(self._shards[clip])
        stop = min(stop, self._tar_sizes[shard])
        if start >= stop:
            return memoryview(b"")
        name = self.lineage.shards[shard].shard
        try:
            return self._storage.read_range(name, start, stop)
        except FileNotFoundError:
            return memoryview(b"")

    def _check(self, clip: int, member: str, content: memoryview, size: int) -> None:
        if len(content) < size:
            raise ShardError(
                f"{self._where(clip, member)}: the tar ends after {len(content)} of its {size} "
                f"bytes; {remedy(self.lineage)}"
            )
        if zlib.crc32(content) != self._crc32[clip, MEMBERS.index(member)]:
            raise ShardError(
                f"{self._where(clip, member)}: the {size} bytes there are not those that "
                f"were written (CRC-32 differs); {remedy(self.lineage)}"
            )

    def _where(self, clip: int, member: str) -> str:
        tar = inside(self.address, self.lineage.shards[self._shards[clip]].shard)
        offset = self._offsets[clip, MEMBERS.index(member)]
        return f"{tar}: member {key(self.keys[clip])}.{member} at byte {offset}"


def read_lineage(storage: Storage) -> Lineage:
    """Read the lineage of a set.

    Raises:
        ShardError: it is missing or damaged.
        ServiceError: a remote store does not answer or refuses.
    """
    path = inside(storage.address, LINEAGE)
    try:
        return Lineage.parse(storage.read_whole([LINEAGE])[0])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"{storage.address}: found no {LINEAGE}, so the shards are missing or not all written "
            f"({error.strerror or error}); run `dvc repro`, or `stvsr shard` with the split you "
            "need"
        ) from None
    except ContentError as error:
        raise ShardError(
            f"{path}: not a lineage of layout {LAYOUT} ({error}); write the shards again"
        ) from None


def _read_indexes(
    storage: Storage, lineage: Lineage, sizes: Mapping[str, int]
) -> Iterator[ShardIndex]:
    """Read all shards' indexes, many at a time, and hold them to the lineage."""
    for record in lineage.shards:
        if not SHARD_FILE.fullmatch(record.shard):
            where = inside(storage.address, LINEAGE)
            raise ShardError(f"{where}: {record.shard!r} is no shard's name (NNNNNN.tar)")
    names = [index_file(record.shard) for record in lineage.shards]
    for name in names:
        if name not in sizes:
            raise ShardError(
                f"{inside(storage.address, name)}: missing, though {LINEAGE} lists its shard; "
                f"{remedy(lineage)}"
            )
    for start in range(0, len(names), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        contents = storage.read_whole(names[some])
        for name, content, record in zip(names[some], contents, lineage.shards[some], strict=True):
            yield checked_index(inside(storage.address, name), content, record, lineage)


def checked_index(path: str, content: bytes, record: ShardRecord, lineage: Lineage) -> ShardIndex:
    """Parse the index of a shard, which is at `path`, and hold it to the lineage.

    Raises:
        ShardError: it is damaged, of another shard or of another degradation.
    """
    try:
        index = ShardIndex.parse(content)
    except ContentError as error:
        raise ShardError(f"{path}: damaged ({error}); {remedy(lineage)}") from None
    if index.shard != record.shard:
        raise ShardError(f"{path}: the index of another shard, {index.shard}; {remedy(lineage)}")
    if index.degradation != lineage.degradation:
        raise ShardError(
            f"{path}: mixed degradations: this shard's is {index.degradation}, the set's "
            f"is {lineage.degradation}; {remedy(lineage)}"
        )
    if digest(content) != record.index_sha256:
        raise ShardError(f"{path}: not the index that {LINEAGE} names; {remedy(lineage)}")
    return index


def _check_size(storage: Storage, record: ShardRecord, found: int | None, lineage: Lineage) -> None:
    tar = inside(storage.address, record.shard)
    if found is None:
        raise ShardError(f"{tar}: missing, though {LINEAGE} lists it; {remedy(lineage)}")
    if found != record.size:
        raise ShardError(
            f"{tar}: found {found} bytes, {LINEAGE} says {record.size}: the shard is truncated "
            f"or another one; {remedy(lineage)}"
        )
