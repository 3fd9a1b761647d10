"""The manifest: one row per listed clip, valid or not. The only place that reads and writes it."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import Motion, Split

MANIFEST_NAME = "manifest.parquet"
FORMAT = "1"

_COLUMNS = pa.schema(
    [
        ("clip", pa.string()),
        ("split", pa.string()),
        ("accepted", pa.bool_()),
        ("reason", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("motion", pa.string()),
        ("motion_px", pa.float64()),
        ("brightness", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ClipRecord:
    """One row of the manifest.

    Attributes:
        clip: name, such as "00001/0266".
        split: the list that names it.
        accepted: whether it is valid.
        reason: why it was rejected; "" where it was accepted.
        width: pixels; 0 where unknown.
        height: pixels; 0 where unknown.
        motion: motion class; of a rejected clip: from the lists, or "slow".
        motion_px: mean length of the optical flow, pixels per frame; 0 where rejected.
        brightness: mean grey level, 0..255; 0 where rejected.
    """

    clip: str
    split: Split
    accepted: bool
    reason: str
    width: int
    height: int
    motion: Motion
    motion_px: float
    brightness: float


def write_manifest(folder: Path, records: Sequence[ClipRecord], root: str) -> None:
    """Write the manifest; `root` leads from its folder to `sequences/` or the zip."""
    schema = _COLUMNS.with_metadata({"root": root, "format": FORMAT})
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=schema)
    pq.write_table(table, folder / MANIFEST_NAME, write_page_checksum=True)


def read_manifest(folder: Path, split: Split) -> list[ClipRecord]:
    """The accepted clips of a split, in the order of its list.

    Raises:
        SourceError: there is no manifest, or it is damaged.
    """
    return [record for record in read_all(folder) if record.accepted and record.split == split]


def read_all(folder: Path) -> list[ClipRecord]:
    """All rows, the rejected ones too.

    Raises:
        SourceError: there is no manifest, or it is damaged.
    """
    return [ClipRecord(**row) for row in _read(folder).to_pylist()]


def read_root(folder: Path) -> Path:
    """The folder that holds the listed clips' `sequences/`, or the zip of it.

    Raises:
        SourceError: there is no manifest, or it is damaged.
    """
    return Path(os.path.normpath(folder / os.fsdecode(_read(folder).schema.metadata[b"root"])))


def _read(folder: Path) -> pa.Table:
    path = folder / MANIFEST_NAME
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise SourceError(
            f"{folder}: no {MANIFEST_NAME} here; run `stvsr index` first, or name its folder"
        ) from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: damaged ({reason}); run `stvsr index` again") from None
    metadata = table.schema.metadata or {}
    found = metadata.get(b"format", b"none").decode("utf-8", "replace")
    if found != FORMAT or b"root" not in metadata or not table.schema.equals(_COLUMNS):
        raise SourceError(
            f"{path}: found format {found}; this version reads format {FORMAT}: "
            "run `stvsr index` again"
        )
    return table
