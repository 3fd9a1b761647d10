"""Format of a set of shards: names, the index beside each tar, the lineage.

docs/data-contract.md shows them by example.
"""

import hashlib
import re
import tarfile
from typing import Final, Literal

from stvsr.core.clip import SEPTUPLET
from stvsr.core.config import Config, Field, ValidationError
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

OWNER = "stvsr"
"""User and group of every member."""

SHARD_FILE = re.compile(r"(\d{6})\.(tar|idx)", re.ASCII)


class ClipMeta(Config):
    """The JSON member of a clip."""

    clip: str
    """Name, such as "00001/0266"."""
    split: str
    """"train" or "test"."""
    motion: str
    """"slow", "medium" or "fast"."""
    height: int
    """Of the HR frames, in pixels."""
    width: int
    """Of the HR frames, in pixels."""


class IndexedClip(Config):
    """Where one clip's members are in its tar; the tuples run along `MEMBERS`."""

    clip: str
    """Name, such as "00001/0266"."""
    lr_size: tuple[int, int]
    """(H, W) of the LR frames."""
    source: str
    """SHA-256 over the SHA-256 digests of im1.png … im7.png."""
    offsets: tuple[int, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """First byte of each member's content in the tar."""
    sizes: tuple[int, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """Bytes of each member's content."""
    crc32: tuple[int, ...] = Field(min_length=len(MEMBERS), max_length=len(MEMBERS))
    """CRC-32 of each member's content."""


class ShardIndex(Config):
    """`NNNNNN.idx`: what is in `NNNNNN.tar` and what it was made from."""

    layout: Literal[1]
    """`LAYOUT` of the writer."""
    shard: str
    """Name of the tar."""
    size: int
    """Size of the tar."""
    sha256: str
    """Of the tar."""
    inputs: str
    """SHA-256 over all that decides the tar's bytes."""
    degradation: DegradationConfig
    """How the LR frames were made."""
    members: tuple[str, ...]
    """`MEMBERS` of the writer."""
    clips: tuple[IndexedClip, ...] = Field(min_length=1)
    """The clips, in the tar's order."""


class ShardRecord(Config):
    """One shard's line in the lineage."""

    shard: str
    """Name of the tar."""
    clips: int
    """Clips inside."""
    size: int
    """Size of the tar."""
    sha256: str
    """Of the tar."""
    index_sha256: str
    """Of the `.idx` beside it."""


class Lineage(Config):
    """`lineage.json`: where a set of shards comes from and what it must consist of."""

    layout: Literal[1]
    """`LAYOUT` of the writer."""
    split: str
    """"train" or "test"."""
    clips: int
    """Clips of the set."""
    scale: int
    """HR pixels per LR pixel, in height and width."""
    degradation: DegradationConfig
    """How the LR frames were made."""
    source: str
    """SHA-256 over the clips' names and their frames' bytes."""
    code: str
    """Layout number and hash of the degradation's source files."""
    stvsr_version: str
    """Version of the writer."""
    data_hash: str
    """SHA-256 over the shards' SHA-256: one name for the set's content."""
    shards: tuple[ShardRecord, ...] = Field(min_length=1)
    """The shards, in order."""


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


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a file, with its place in it."""
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
