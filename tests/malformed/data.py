"""Kinds of malformed data: frames, lists, zips, indexes and shards."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from stvsr.cli import main
from stvsr.core.files import sha256_of
from stvsr.data.clips.layout import frame_path
from tests.malformed.damage import (
    BYTES,
    COARSE,
    JSON,
    TEXT,
    doubled_line,
    flip_digit,
    in_bytes,
    in_json,
    in_json_lines,
    in_text,
    lost_line,
    on_json,
    on_line,
)
from tests.malformed.kind import Bytes, Damage, Kind, in_file, verb
from tests.malformed.png import PNG
from tests.malformed.projects import (
    INDEX,
    SHARDS,
    SOURCE,
    files,
    indexed,
    manifest,
    manifest_or_rejected,
    part_of,
    pixels_of_set,
    set_of,
    source,
    with_model,
    write_params,
)
from tests.support.clips import write_tiny_source
from tests.support.zips import zip_dataset

CLIP = "00001/0002"
LISTS = ("sep_trainlist.txt", "sep_testlist.txt", "fast_testset.txt")


def _index(*, rejects: str = "") -> Any:
    same = manifest_or_rejected(rejects) if rejects else lambda whole, found: whole == found
    return verb("index", left=manifest, same=same, out=str(INDEX))


def _shard(split: Any) -> Any:
    lineage = str(SHARDS / split / "lineage.json")
    return verb("shard", split, left=lambda: pixels_of_set(split), same=part_of, out=lineage)


# --- frames


def _frames(*numbers: int) -> list[Damage]:
    found = []
    for number in numbers:
        file = str(frame_path(SOURCE, CLIP, number))
        found += [in_file(name, file, change, (CLIP,)) for name, change in PNG.items()]
    last = str(frame_path(SOURCE, CLIP, numbers[-1]))
    return [*found, *in_bytes(last, {}, CLIP)]


FRAME = Kind(
    "frame", source, _frames(1, 5), [_index(rejects=CLIP), _shard("train")], is_chain=True, share=4
)
FRAME_LATER = Kind("frame-after-index", indexed, _frames(3), [_shard("train")])


# --- lists and the source's record


def _line(text: str) -> Bytes:
    """The text in the place of one line."""
    return on_line(lambda random, line: text.encode("utf-8", "surrogateescape"))


def _after_line(text: str) -> Bytes:
    return on_line(lambda random, line: line + text.encode())


LINES: Mapping[str, Bytes] = {
    "up": _line("../../outside"),
    "up in two": _line("../.."),
    "absolute": _line("/etc/passwd"),
    "markup": _line("[/bold]/<script>"),
    "wide digits": _line("\uff10\uff10\uff10\uff10\uff11/0001"),
    "long name": _line(f"{'9' * 300}/0001"),
    "no slash": _line("000010001"),
    "not text": _line("\udce9\udcff/0001"),
    "carriage returns": lambda random, whole: whole.replace(b"\n", b"\r\n"),
    "blanks": _after_line(" \t "),
    "line separator": _after_line("\u2028"),
    "next line": _after_line("\x85"),
    "empty lines": _after_line("\n\n"),
    "file separator": _after_line("\x1c"),
}


def _in_list(path: str, *also: str) -> list[Damage]:
    """Damage to a list that does not make another valid list of it."""
    lines = [in_file(name, path, change, also) for name, change in LINES.items()]
    others = {name: BYTES[name] for name in ("web_page", "all_noise")}
    return [*lines, *in_text(path, *also), *in_bytes(path, others, *also)]


def _listed() -> None:
    source()
    (SOURCE / LISTS[2]).write_text("00001/0004\n")


def _lists_of(folder: Path) -> list[Damage]:
    return [damage for name in LISTS for damage in _in_list(str(folder / name), "clip")]


RECORD = str(SOURCE / "source.json")
LIST = Kind(
    "list",
    _listed,
    [
        *_lists_of(SOURCE),
        *in_json(RECORD, str(SOURCE)),
        *in_text(RECORD),
        *in_bytes(RECORD, COARSE),
    ],
    [_index()],
)


def _dataset(path: str) -> None:
    write_params(source={"kind": "vimeo90k", "path": path})
    write_tiny_source(Path("vimeo"), 3, 2)
    Path("vimeo/source.json").unlink()
    Path("vimeo", LISTS[2]).write_text("00001/0004\n")


def _lists() -> dict[str, bytes]:
    return files(str(SOURCE), *LISTS)


DATASET_LIST = Kind(
    "dataset-list",
    lambda: _dataset("vimeo"),
    _lists_of(Path("vimeo")),
    [verb("source", left=_lists, out=str(SOURCE)), _index()],
    is_chain=True,
)

# --- the zip

ZIP = "vimeo_septuplet.zip"
MEMBER = f"sequences/{CLIP}/im4.png"


def _zipped() -> None:
    _dataset(ZIP)
    zip_dataset(Path("vimeo"), Path(ZIP), method=zipfile.ZIP_DEFLATED)


def _rewritten(change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]) -> Bytes:
    """The zip written again with other members."""

    def on_zip(random: Random, whole: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        change(members)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for info, content in members:
                archive.writestr(info, content)
        return out.getvalue()

    return on_zip


def _renamed(name: str) -> Bytes:
    def change(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        found = next(info for info, _ in members if info.filename.endswith(MEMBER))
        found.filename = name

    return _rewritten(change)


def _added(name: str, content: bytes) -> Bytes:
    return _rewritten(lambda members: members.append((zipfile.ZipInfo(name), content)))


def _entry(offset: int, layout: str, *values: int) -> Bytes:
    """Another number in one frame's entry of the directory, `offset` bytes from its begin."""

    def change(random: Random, whole: bytes) -> bytes:
        content = bytearray(whole)
        begin = content.rindex(b"PK\1\2", 0, content.rindex(MEMBER.encode()))
        struct.pack_into(layout, content, begin + offset, random.choice(values))
        return bytes(content)

    return change


def _end(offset: int, layout: str, *values: int) -> Bytes:
    """Another number in the end record."""

    def change(random: Random, whole: bytes) -> bytes:
        content = bytearray(whole)
        struct.pack_into(layout, content, content.rindex(b"PK\5\6") + offset, random.choice(values))
        return bytes(content)

    return change


def _in_directory(change: Bytes) -> Bytes:
    """Damage to the central directory and what is behind it."""

    def on_directory(random: Random, whole: bytes) -> bytes:
        start = whole.index(b"PK\1\2")
        return whole[:start] + change(random, whole[start:])

    return on_directory


def _in_frame(change: Bytes) -> Bytes:
    """Damage to one frame's local header and content."""

    def on_frame(random: Random, whole: bytes) -> bytes:
        start = whole.rindex(b"PK\3\4", 0, whole.index(MEMBER.encode()))
        stop = whole.index(b"PK\3\4", start + 4)
        return whole[:start] + change(random, whole[start:stop])[: stop - start] + whole[stop:]

    return on_frame


def _twice(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    members.append(next(member for member in members if member[0].filename.endswith(MEMBER)))


ZIPS: Mapping[str, Bytes] = {
    **BYTES,
    **{f"directory: {name}": _in_directory(change) for name, change in BYTES.items()},
    **{
        f"frame: {name}": _in_frame(BYTES[name])
        for name in ("flip_bit", "flip_bytes", "zeros", "noise")
    },
    "up": _renamed(f"../../outside/{MEMBER}"),
    "absolute": _renamed(f"/{MEMBER}"),
    "drive": _renamed(f"C:/{MEMBER}"),
    "control characters": _renamed(f"\x1b[2J/{MEMBER}"),
    "stranger that leads up": _added("../../outside/x", b"x"),
    "stranger": _added("vimeo_septuplet/readme.txt", b"x"),
    "side file": _added("__MACOSX/vimeo_septuplet/._sep_trainlist.txt", b"x"),
    "bomb": _added("vimeo_septuplet/fast_testset.txt", bytes(200 * 2**20)),
    "second folder": _added(f"other/{MEMBER}", b"x"),
    "there twice": _rewritten(_twice),
    "in front": lambda random, whole: random.randbytes(random.randrange(1, 4096)) + whole,
    "encrypted": _entry(8, "<H", 1),
    "method": _entry(10, "<H", 1, 9, 12, 14, 93, 99),
    "checksum": _entry(16, "<I", 0, 1, 2**32 - 1),
    "packed size": _entry(20, "<I", 0, 1, 2**31, 2**32 - 2, 2**32 - 1),
    "size": _entry(24, "<I", 0, 1, 2**31, 2**32 - 2, 2**32 - 1),
    "length of name": _entry(28, "<H", 0, 1, 2**16 - 1),
    "length of extra": _entry(30, "<H", 1, 4, 2**16 - 1),
    "place": _entry(42, "<I", 0, 1, 2**31, 2**32 - 2, 2**32 - 1),
    "number of members": _end(10, "<H", 0, 1, 2**16 - 1),
    "length of directory": _end(12, "<I", 0, 1, 2**31, 2**32 - 1),
    "place of directory": _end(16, "<I", 0, 1, 2**31, 2**32 - 1),
    "length of comment": _end(20, "<H", 1, 2**16 - 1),
    "comment with an end": lambda random, whole: whole + b"PK\5\6" + bytes(18),
}

ZIPPED = Kind(
    "zip",
    _zipped,
    in_bytes(ZIP, ZIPS, *LISTS),
    [verb("source", left=_lists, out=str(SOURCE)), _index(rejects="/")],
    is_chain=True,
    share=3,
)

# --- the journal of an index

JOURNAL = "data/.index.inspections.jsonl"


def _journal() -> None:
    """What an index leaves that was stopped when all training clips were inspected."""
    source()
    tests = SOURCE / LISTS[1]
    listed = tests.read_text()
    tests.write_text("00099/0001\n")
    if main(["index"]) != 1 or not Path(JOURNAL).is_file():
        raise AssertionError("an index without a valid test clip is refused, with a journal")
    tests.write_text(listed)


JOURNALS: Mapping[str, Bytes] = {
    **BYTES,
    **{change.__name__: change for change in (flip_digit, lost_line, doubled_line)},
    "clip of another": lambda random, whole: whole.replace(b"00001/0001", b"00001/0002"),
}
JOURNALLED = Kind(
    "journal",
    _journal,
    [*in_bytes(JOURNAL, JOURNALS), *in_text(JOURNAL), *in_json_lines(JOURNAL)],
    [_index()],
)

# --- the manifest

MANIFEST = str(INDEX / "manifest.parquet")

OnTable = Callable[[pa.Table], pa.Table]


def _on_table(change: OnTable) -> Bytes:
    def on_parquet(random: Random, whole: bytes) -> bytes:
        out = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(whole))), out, write_page_checksum=True)
        return out.getvalue()

    return on_parquet


def _column(name: str, value: Any) -> OnTable:
    """The value in the first row of a column, or in all rows where its type is another."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        values = table.column(place).to_pylist()
        try:
            column = pa.array([value, *values[1:]], field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            column = pa.array([value] * len(values))
            field = pa.field(name, column.type)
        metadata = table.schema.metadata
        return table.set_column(place, field, column).replace_schema_metadata(metadata)

    return change


def _metadata(**values: bytes) -> OnTable:
    return lambda table: table.replace_schema_metadata(
        {**table.schema.metadata, **{name.encode(): value for name, value in values.items()}}
    )


CELLS: Mapping[str, Sequence[Any]] = {
    "clip": [
        None,
        "",
        "../../outside",
        "a\0b/c",
        "[/bold]/x",
        "a/b/c",
        7,
        "9" * 400 + "/1",
    ],
    "split": [None, "", "validation", 7],
    "accepted": [None, "yes", 7],
    "width": [None, 0, -1, 2**31 - 1, 96, "160", 1.5],
    "height": [None, 0, -4, 2**31 - 1, "96"],
    "motion": [None, "", "[/bold]", 7],
    "motion_px": [None, "x", float("nan"), -1.0],
}

TABLES: Mapping[str, OnTable] = {
    "no row": lambda table: table.slice(0, 0),
    "bomb": lambda table: pa.table(
        [pa.repeat(column[0], 3_000_000) for column in table.columns], table.schema
    ),
    "row twice": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "no column": lambda table: table.drop_columns(["motion"]),
    "unknown column": lambda table: table.append_column("x", pa.array([0] * len(table))),
    "no metadata": lambda table: table.replace_schema_metadata({}),
    "other format": _metadata(format=b"999"),
    "format of no text": _metadata(format=b"\xff"),
    "root up": _metadata(root=b"../../../outside"),
    "root of no text": _metadata(root=b"\xff\xfe"),
    "root with NUL": _metadata(root=b"a\0b"),
    "root too long": _metadata(root=b"a" * 3000),
    **{
        f"{name} {value!r:.20}": _column(name, value)
        for name, values in CELLS.items()
        for value in values
    },
}
TABLE = Kind(
    "manifest",
    indexed,
    [
        *in_bytes(MANIFEST, BYTES, str(SOURCE)),
        *(
            in_file(name, MANIFEST, _on_table(change), (str(INDEX), "clip", "outside", "a\\0b"))
            for name, change in TABLES.items()
        ),
    ],
    [verb("shard", "train", left=lambda: set_of("train"), out=str(SHARDS / "train/lineage.json"))],
    share=3,
)

# --- shards

SET = SHARDS / "test"
TAR, IDX, LINEAGE = (str(SET / name) for name in ("000000.tar", "000000.idx", "lineage.json"))


def _with_lineage(name: str, change: Bytes) -> Damage:
    """A changed index whose checksum in the lineage is made right again."""

    def apply(random: Random, path: Path) -> None:
        path.write_bytes(change(random, path.read_bytes()))
        lineage = path.with_name("lineage.json")
        value = json.loads(lineage.read_bytes())
        value["shards"][0]["index_sha256"] = sha256_of(path)
        lineage.write_text(json.dumps(value))

    return Damage(f"{name}, checksum made right", IDX, apply, ("000000.tar", "lineage.json"))


def _tar_of(change: Callable[[Random, bytearray], None]) -> Bytes:
    def on_tar(random: Random, whole: bytes) -> bytes:
        content = bytearray(whole)
        change(random, content)
        return bytes(content)

    return on_tar


def _swapped_members(random: Random, content: bytearray) -> None:
    """Two blocks change places."""
    blocks = len(content) // 512
    one, other = (512 * random.randrange(blocks) for _ in range(2))
    content[one : one + 512], content[other : other + 512] = (
        content[other : other + 512],
        content[one : one + 512],
    )


def _header_field(offset: int, text: bytes) -> Bytes:
    def change(random: Random, content: bytearray) -> None:
        content[offset : offset + len(text)] = text

    return _tar_of(change)


TARS: Mapping[str, Bytes] = {
    **BYTES,
    "other name": _header_field(0, b"../../outside/x\0"),
    "other size": _header_field(124, b"77777777777\0"),
    "link": _header_field(156, b"2../../outside\0"),
    "device": _header_field(156, b"3"),
    "pax": _header_field(156, b"x"),
    "owner": _header_field(265, b"root\0"),
    "mode": _header_field(100, b"0004777\0"),
}

SHARD = Kind(
    "shard",
    with_model,
    [
        *in_bytes(TAR, TARS),
        *in_bytes(IDX, BYTES, "lineage.json"),
        *in_text(IDX, "lineage.json"),
        *in_json(IDX, "lineage.json"),
        in_file("another digit", IDX, flip_digit, ("lineage.json",)),
        *(_with_lineage(name, on_json(change)) for name, change in JSON.items()),
        *(_with_lineage(name, change) for name, change in TEXT.items()),
        _with_lineage("another digit", flip_digit),
        *in_bytes(LINEAGE, BYTES, str(SET)),
        *in_text(LINEAGE),
        *in_json(LINEAGE, "000000.", str(SET)),
        in_file("another digit", LINEAGE, flip_digit, ("000000.", str(SET))),
    ],
    [
        verb("shards", "verify", str(SET), left=lambda: set_of("test")),
        verb("shards", "show", str(SET)),
        verb(
            "evaluate",
            left=lambda: files("evaluation", "frames.csv"),
            out="evaluation",
        ),
    ],
    share=4,
)
DATA = (FRAME, FRAME_LATER, LIST, DATASET_LIST, ZIPPED, JOURNALLED, TABLE, SHARD)
