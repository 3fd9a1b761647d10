"""The manifest is held to its schema and its limits, and the rows to what an index may hold."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from stvsr.core.errors import SourceError
from stvsr.data.index import manifest
from stvsr.data.index.manifest import ClipRecord, read_all, read_root, write_manifest
from tests.support.files import SPECIAL_FILES, replace_by_special

VALID = ClipRecord("00001/0001", "train", True, "", 448, 256, "slow", 1.25, 100.0)
REJECTED = ClipRecord("00001/0002", "test", False, "all black", 0, 0, "slow", 0.0, 0.0)


def write_rows(folder: Path, *rows: dict[str, object]) -> Path:
    write_manifest(folder, [VALID], ".")
    schema = pq.read_schema(folder / "manifest.parquet")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / "manifest.parquet")
    return folder


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, [VALID, REJECTED], "../source")
    assert read_all(tmp_path) == [VALID, REJECTED]


MALFORMED: dict[str, tuple[dict[str, object], str]] = {
    "an empty cell": ({"width": None}, "a cell is empty"),
    "a name that leads out": ({"clip": "../0001"}, "clip is '../0001'"),
    "another split": ({"split": "validation"}, "split is 'validation'"),
    "an accepted clip with a reason": ({"reason": "damaged"}, "reason is 'damaged'"),
    "a negative side": ({"height": -256}, "height is -256"),
    "a huge side": ({"width": 2**31 - 1}, "width is 2147483647"),
    "another class": ({"motion": "still"}, "motion is 'still'"),
    "a NaN": ({"motion_px": float("nan")}, "motion_px is nan"),
    "an infinity": ({"brightness": float("inf")}, "brightness is inf"),
}


@pytest.mark.parametrize(("changes", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_row_is_refused_with_its_number(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    write_rows(tmp_path, asdict(VALID), asdict(VALID) | changes)
    with pytest.raises(SourceError, match=rf"manifest.parquet: row 2: {reason}; run `stvsr index`"):
        read_all(tmp_path)


def test_a_root_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, [VALID], "source\0")
    with pytest.raises(SourceError, match="run `stvsr index` again"):
        read_root(tmp_path)


def test_more_than_the_limit_is_not_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path, *[asdict(VALID)] * 1000)
    monkeypatch.setattr(manifest, "MOST_BYTES", 999)
    with pytest.raises(SourceError, match="1000 rows; at most 999 bytes and 2000000 rows are read"):
        read_all(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"{}" * 9999])
def test_what_is_no_parquet_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"manifest.parquet: damaged \(") as caught:
        read_all(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_a_special_file_in_its_place_is_refused(tmp_path: Path, kind: str) -> None:
    replace_by_special(tmp_path / "manifest.parquet", kind)
    with pytest.raises(SourceError, match=r"manifest.parquet"):
        read_all(tmp_path)
