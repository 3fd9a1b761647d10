"""The manifest: one row per listed clip, valid or not. The only place that reads and writes it."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from stvsr.core.errors import SourceError
from stvsr.core.files import MIB, open_regular
from stvsr.data.clips.layout import CLIP_NAME, MOTIONS, SPLITS, Motion, Split

MANIFEST_NAME = "manifest.parquet"
FORMAT = "1"

MOST_BYTES = 1024 * MIB
"""A manifest that has more, in the file or unfolded, is not read; Vimeo-90K's has some 10 MiB."""

MOST_ROWS = 2_000_000
"""Clips of a manifest, at most; both lists together have no more."""

LARGEST_SIDE = 16384
"""Pixels that a frame's side may have at most."""

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
    records = [ClipRecord(**row) for row in _read(folder).to_pylist()]
    for number, record in enumerate(records, start=1):
        if fault := _fault(record):
            raise SourceError(
                f"{folder / MANIFEST_NAME}: row {number}: {fault}; run `stvsr index` again"
            )
    return records


def _fault(record: ClipRecord) -> str:
    """The fault of a row; empty where it is valid."""
    if None in vars(record).values():
        return "a cell is empty"
    allowed = {
        "clip": CLIP_NAME.fullmatch(record.clip),
        "split": record.split in SPLITS,
        "reason": record.accepted == (not record.reason),
        "width": 0 <= record.width <= LARGEST_SIDE,
        "height": 0 <= record.height <= LARGEST_SIDE,
        "motion": record.motion in MOTIONS,
        "motion_px": math.isfinite(record.motion_px) and record.motion_px >= 0,
        "brightness": 0 <= record.brightness <= 255,
    }
    names = [name for name, is_allowed in allowed.items() if not is_allowed]
    return f"{names[0]} is {getattr(record, names[0])!r:.80}" if names else ""


def read_root(folder: Path) -> Path:
    """The folder that holds the listed clips' `sequences/`, or the zip of it.

    Raises:
        SourceError: there is no manifest, or it is damaged.
    """
    return Path(os.path.normpath(folder / os.fsdecode(_read(folder).schema.metadata[b"root"])))


def _read(folder: Path) -> pa.Table:
    path = folder / MANIFEST_NAME
    try:
        with (
            open_regular(path) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        ):
            _check_size(parquet.metadata, os.fstat(file.fileno()).st_size)
            table = parquet.read()
    except FileNotFoundError:
        raise SourceError(
            f"{folder}: no {MANIFEST_NAME} here; run `stvsr index` first, or name its folder"
        ) from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise SourceError(f"{path}: damaged ({reason}); run `stvsr index` again") from None
    metadata = table.schema.metadata or {}
    found = metadata.get(b"format", b"none").decode("utf-8", "replace")
    root = metadata.get(b"root", b"\0")
    if found != FORMAT or b"\0" in root or not table.schema.equals(_COLUMNS):
        raise SourceError(
            f"{path}: found format {found!r}; this version reads format {FORMAT}: "
            "run `stvsr index` again"
        )
    return table


def _check_size(metadata: pq.FileMetaData, size: int) -> None:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    unfolded = sum(group.total_byte_size for group in groups)
    if max(size, unfolded) > MOST_BYTES or metadata.num_rows > MOST_ROWS:
        raise ValueError(
            f"{size} bytes with {metadata.num_rows} rows; at most {MOST_BYTES} bytes and "
            f"{MOST_ROWS} rows are read"
        )
