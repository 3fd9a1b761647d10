"""Format of a set of shards: names, the index beside each tar, the lineage.

docs/data-contract.md shows them by example.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from stvsr.core.clip import SEPTUPLET
from stvsr.core.config import Config, Count, Field, Sha256, field_validator, model_validator
from stvsr.core.files import MIB
from stvsr.data.clips.layout import CLIP_NAME, Motion, Split
from stvsr.data.shards.degrade import DegradationConfig

LAYOUT: Final = 1
"""Number of the tar's and the index's layout; raised when either changes."""

HR_FRAMES = tuple(f"hr{number}" for number in range(1, SEPTUPLET + 1))
"""The HR frames of a clip, in time: all seven."""

LR_FRAMES = tuple(f"lr{number}" for number in range(1, SEPTUPLET + 1, 2))
"""The LR frames of a clip, in time: the odd ones, which are the network's input."""

MEMBERS = tuple(sorted(["json", *(f"{frame}.png" for frame in (*HR_FRAMES, *LR_FRAMES))]))
"""A clip's members in the tar's order, without the key that stands before them."""

LINEAGE = "lineage.json"

MOST_BYTES = 64 * MIB
"""A lineage or an index that is larger is not read."""

OWNER = "stvsr"
"""User and group of every member."""

SHARD_FILE = re.compile(r"(\d{6})\.(tar|idx)", re.ASCII)

ClipName = Annotated[str, Field(pattern=f"^{CLIP_NAME.pattern}$", max_length=255)]
Side = Annotated[int, Field(ge=1, le=16384)]
"""Height or width of a frame, in pixels."""
Crc32 = Annotated[int, Field(ge=0, lt=2**32)]


class ClipMeta(Config):
    """The JSON member of a clip."""

    clip: ClipName
    """Name, such as "00001/0266"."""
    split: Split
    """"train" or "test"."""
    motion: Motion
    """"slow", "medium" or "fast"."""
    height: Side
    """Of the HR frames, in pixels."""
    width: Side
    """Of the HR frames, in pixels."""


class IndexedClip(Config):
    """Where one clip's members are in its tar; the tuples run along `MEMBERS`."""

    clip: ClipName
    """Name, such as "00001/0266"."""
    lr_size: tuple[Side, Side]
    """(H, W) of the LR frames."""
    source: Sha256
    """SHA-256 over the SHA-256 digests of im1.png … im7.png."""
    offsets: tuple[Count, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """First byte of each member's content in the tar."""
    sizes: tuple[Count, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """Bytes of each member's content."""
    crc32: tuple[Crc32, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """CRC-32 of each member's content."""


class ShardIndex(Config):
    """`NNNNNN.idx`: what is in `NNNNNN.tar` and what it was made from."""

    layout: Literal[1]
    """`LAYOUT` of the writer."""
    shard: str
    """Name of the tar."""
    size: Count
    """Size of the tar."""
    sha256: Sha256
    """Of the tar."""
    inputs: Sha256
    """SHA-256 over all that decides the tar's bytes."""
    degradation: DegradationConfig
    """How the LR frames were made."""
    members: tuple[str, ...]
    """`MEMBERS` of the writer."""
    clips: tuple[IndexedClip, ...] = Field(min_length=1)
    """The clips, in the tar's order."""

    @field_validator("members")
    @classmethod
    def _are_the_layouts(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if members != MEMBERS:
            raise ValueError("not the members of this layout")
        return members


class ShardRecord(Config):
    """One shard's line in the lineage."""

    shard: str
    """Name of the tar."""
    clips: Count
    """Clips inside."""
    size: Count
    """Size of the tar."""
    sha256: Sha256
    """Of the tar."""
    index_sha256: Sha256
    """Of the `.idx` beside it."""


class Lineage(Config):
    """`lineage.json`: where a set of shards comes from and what it must consist of."""

    layout: Literal[1]
    """`LAYOUT` of the writer."""
    split: Split
    """"train" or "test"."""
    clips: Count
    """Clips of the set."""
    scale: Literal[4]
    """HR pixels per LR pixel, in height and width."""
    degradation: DegradationConfig
    """How the LR frames were made."""
    source: Sha256
    """SHA-256 over the clips' names and their frames' bytes."""
    code: str
    """Layout number and hash of the degradation's source files."""
    stvsr_version: str
    """Version of the writer."""
    data_hash: Sha256
    """SHA-256 over the shards' SHA-256: one name for the set's content."""
    shards: tuple[ShardRecord, ...] = Field(min_length=1)
    """The shards, in order."""

    @model_validator(mode="after")
    def _is_that_of_its_shards(self) -> "Lineage":
        if self.data_hash != hash_of_shards(self.shards):
            raise ValueError("data_hash is not that of its shards")
        if self.clips != sum(record.clips for record in self.shards):
            raise ValueError(f"says {self.clips} clips, its shards have another number")
        return self


def key(clip: str) -> str:
    """A clip's key in a tar: "00001/0266" -> "00001_0266"."""
    return clip.replace("/", "_")


def index_file(shard: str) -> str:
    """The name of the index beside a tar: "000003.tar" -> "000003.idx"."""
    return shard.removesuffix(".tar") + ".idx"


def tar_header(name: str, size: int) -> bytes:
    """Header of a member in a tar; the same as webdataset's writer makes."""
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = size, 0, 0o444
    header.uname = header.gname = OWNER
    return header.tobuf(tarfile.PAX_FORMAT)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def json_bytes(value: Config, indent: int | None = None) -> bytes:
    """The value as JSON, fields in the order of their class, one newline at the end."""
    return (value.model_dump_json(indent=indent) + "\n").encode()


def hash_of_shards(shards: Sequence[ShardRecord]) -> str:
    """One name for a set's content: SHA-256 over its tars' SHA-256."""
    return digest("\n".join(record.sha256 for record in shards).encode())


def inputs_digest(
    code: str, degradation: DegradationConfig, clips: Sequence[ClipMeta], sources: Sequence[str]
) -> str:
    """SHA-256 over all that decides a shard's bytes.

    Args:
        code: name of the code that writes it.
        degradation: how LR frames are made.
        clips: what goes in, in this order.
        sources: digest of each clip's frames.
    """
    inputs = {
        "code": code,
        "degradation": degradation.model_dump(),
        "clips": [clip.model_dump() for clip in clips],
        "sources": list(sources),
    }
    return digest(json.dumps(inputs, sort_keys=True).encode())
