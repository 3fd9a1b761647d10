"""`stvsr shards verify` and `show`."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest
from PIL import Image

from stvsr.cli import main
from stvsr.core.errors import ShardError
from stvsr.core.files import sha256_of
from stvsr.data.shards.format import tar_header
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.verify import verify_set
from tests.support.files import SPECIAL_FILES, flip_byte, replace_by_special

MEMBER = "00002_0002.hr5.png"


@pytest.fixture
def copied(tiny_shards_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards_folder, tmp_path / "train"))


def place_of(folder: Path, shard: str, member: str) -> tuple[int, int]:
    with tarfile.open(folder / shard) as tar:
        found = tar.getmember(member)
        return found.offset_data, found.size


def faults(folder: Path) -> tuple[str, ...]:
    return verify_set(folder, workers=1).faults


def test_a_set_as_it_was_written_has_no_fault(tiny_shards_folder: Path) -> None:
    verified = verify_set(tiny_shards_folder, workers=2)
    assert verified.faults == ()
    assert (verified.clips, verified.shards) == (12, 3)


def test_the_headers_are_those_the_writer_makes(tiny_shards_folder: Path) -> None:
    content = (tiny_shards_folder / "000000.tar").read_bytes()
    assert content[:512] == tar_header(
        "00001_0001.hr1.png", place_of(tiny_shards_folder, "000000.tar", "00001_0001.hr1.png")[1]
    )


def test_every_damaged_member_is_named_once_with_shard_member_and_byte(copied: Path) -> None:
    places = {
        member: place_of(copied, shard, member)[0]
        for shard, member in (
            ("000000.tar", "00001_0003.lr7.png"),
            ("000001.tar", MEMBER),
            ("000001.tar", "00002_0003.json"),
        )
    }
    flip_byte(copied / "000000.tar", places["00001_0003.lr7.png"] + 50)
    flip_byte(copied / "000001.tar", places[MEMBER] + 50)
    flip_byte(copied / "000001.tar", places["00002_0003.json"] + 3)
    found = faults(copied)
    assert len(found) == 3
    for line, (member, offset) in zip(found, places.items(), strict=True):
        assert f".tar: member {member} at byte {offset}: the " in line


@pytest.mark.parametrize("into", [0, 100, 300])
def test_a_damaged_header_is_named_with_its_byte(copied: Path, into: int) -> None:
    offset = place_of(copied, "000001.tar", MEMBER)[0] - 512 + into
    flip_byte(copied / "000001.tar", offset)
    (line,) = faults(copied)
    assert line.endswith(f"000001.tar: header of member {MEMBER}: damaged at byte {offset}")


def test_damaged_padding_and_a_damaged_end_are_named_with_their_byte(copied: Path) -> None:
    start, size = place_of(copied, "000001.tar", "00002_0001.json")
    last = (copied / "000002.tar").stat().st_size - 1
    flip_byte(copied / "000001.tar", start + size)
    flip_byte(copied / "000002.tar", last)
    padding, end = faults(copied)
    assert padding.endswith(f"damaged at byte {start + size}")
    assert end.endswith(f"000002.tar: end of the tar: damaged at byte {last}")


def test_a_truncated_tar_is_named_with_all_members_that_are_gone(copied: Path) -> None:
    start, _ = place_of(copied, "000002.tar", "00003_0002.lr3.png")
    os.truncate(copied / "000002.tar", start + 100)
    *members, tar = faults(copied)
    assert len(members) == 3
    for name, line in zip(("lr3", "lr5", "lr7"), members, strict=True):
        assert f"000002.tar: member 00003_0002.{name}.png at byte" in line
    assert "the tar ends after 100 of its" in members[0]
    assert f"000002.tar: found {start + 100} bytes, its index says" in tar


def cut(folder: Path, name: str) -> None:
    os.truncate(folder / name, 100)


def edit_lineage(folder: Path, **changes: object) -> None:
    lineage = json.loads((folder / "lineage.json").read_text())
    (folder / "lineage.json").write_text(json.dumps(lineage | changes, indent=1) + "\n")


def edit_record(folder: Path, **changes: object) -> None:
    """Change the lineage's line of the second shard."""
    first, second, third = json.loads((folder / "lineage.json").read_text())["shards"]
    edit_lineage(folder, shards=[first, second | changes, third])


OTHER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing tar": (lambda f: (f / "000001.tar").unlink(), "000001.tar: missing, though lineage"),
    "missing index": (lambda f: (f / "000001.idx").unlink(), "000001.idx: missing, though linea"),
    "cut index": (lambda f: cut(f, "000001.idx"), "000001.idx: damaged"),
    "index of another shard": (
        lambda f: shutil.copy(f / "000000.idx", f / "000001.idx"),
        "000001.idx: the index of another shard, 000000.tar",
    ),
    "tar of another shard": (
        lambda f: shutil.copy(f / "000000.tar", f / "000001.tar"),
        "000001.tar: header of member 00002_0001.hr1.png: damaged at byte",
    ),
    "data hash": (
        lambda f: edit_lineage(f, data_hash="0" * 64),
        "data_hash is not that of its shards",
    ),
    "source": (lambda f: edit_lineage(f, source="0" * 64), "source is not that of its clips"),
    "clips": (lambda f: edit_lineage(f, clips=11), "says 11 clips, its shards have another number"),
    "a cut lineage": (
        lambda f: os.truncate(f / "lineage.json", (f / "lineage.json").stat().st_size - 1),
        "lineage.json: its bytes are not those",
    ),
    "a negative size": (
        lambda f: edit_record(f, size=-1),
        "shards.1.size: expected greater",
    ),
    "another size": (lambda f: edit_record(f, size=7), "000001.tar: says size 7, its index "),
    "other code": (lambda f: edit_lineage(f, code="layout-1+0"), "made from other code or clips"),
    "another scale": (lambda f: edit_lineage(f, scale=2), "scale: expected 4"),
    "another key": (lambda f: edit_lineage(f, odd=None), "odd: is an unknown key"),
    "a lost shard": (
        lambda f: edit_lineage(
            f, shards=json.loads((f / "lineage.json").read_text())["shards"][1:]
        ),
        "data_hash is not that of its shards",
    ),
    "no lineage": (lambda f: (f / "lineage.json").unlink(), "found no lineage.json"),
    "stranger": (lambda f: (f / "000003.tar").touch(), "000003.tar: no part of the set"),
}


@pytest.mark.parametrize("what", OTHER_FAULTS)
def test_whatever_does_not_belong_together_is_named(copied: Path, what: str) -> None:
    change, words = OTHER_FAULTS[what]
    change(copied)
    assert any(words in line for line in faults(copied))


def test_hidden_side_files_are_no_part_of_a_set(copied: Path) -> None:
    for name in ("._000000.tar", ".DS_Store", "Thumbs.db"):
        (copied / name).write_bytes(b"side file")
    assert faults(copied) == ()


@pytest.mark.parametrize("kind", SPECIAL_FILES)
@pytest.mark.parametrize("name", ["lineage.json", "000001.idx", "000001.tar"])
def test_a_special_file_in_the_place_of_a_sets_file_is_named(
    copied: Path, name: str, kind: str
) -> None:
    replace_by_special(copied / name, kind)
    (line,) = faults(copied)
    assert name in line
    with pytest.raises(ShardError, match=name):
        ShardSet.open(copied)


def test_the_json_of_a_clip_is_held_to_its_schema(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is right: a file that was written so."""
    shards = ShardSet.open(copied)
    for content in (b"{}", b"[" * 100_000, b'{"clip": "00001/0001", "split": "odd"}'):
        monkeypatch.setattr(shards, "_members", lambda *_, content=content: [memoryview(content)])
        with pytest.raises(ShardError, match=r"member 00001_0001.json at byte \d+: damaged"):
            shards.meta(0)


def test_a_frame_that_was_damaged_before_it_was_packed_is_found(copied: Path) -> None:
    """Its checksum, the index and the lineage are right: only decoding shows it."""
    start, size = place_of(copied, "000001.tar", MEMBER)
    tar, index = copied / "000001.tar", copied / "000001.idx"
    flip_byte(tar, start + size // 2)
    content = json.loads(index.read_text())
    crc = zlib.crc32(tar.read_bytes()[start : start + size])
    content["clips"][1]["crc32"][4] = crc
    content["sha256"] = sha256_of(tar)
    index.write_text(json.dumps(content))
    lineage = json.loads((copied / "lineage.json").read_text())
    lineage["shards"][1] |= {"sha256": sha256_of(tar), "index_sha256": sha256_of(index)}
    hashes = "\n".join(record["sha256"] for record in lineage["shards"])
    edit_lineage(
        copied, shards=lineage["shards"], data_hash=hashlib.sha256(hashes.encode()).hexdigest()
    )
    (line,) = faults(copied)
    assert f"000001.tar: member {MEMBER} at byte {start}: cannot be decoded" in line


def test_a_remote_set_is_verified_too(copied: Path) -> None:
    flip_byte(copied / "000001.tar", place_of(copied, "000001.tar", MEMBER)[0] + 9)
    memory = fsspec.filesystem("memory")
    memory.put(str(copied), "/verified/train", recursive=True)
    (line,) = verify_set("memory://verified/train", workers=1).faults
    assert line.startswith("memory://verified/train/000001.tar: member 00002_0002.hr5.png")
    memory.rm("/verified", recursive=True)


# the commands


def test_verify_exits_with_1_and_a_line_per_fault(
    copied: Path, tiny_shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "000001.tar").unlink()
    (copied / "000002.idx").unlink()
    assert main(["shards", "verify", str(copied), str(tiny_shards_folder)]) == 1
    said = capsys.readouterr()
    refusals = [line for line in said.err.splitlines() if line.startswith("stvsr shards: ")]
    assert len(refusals) == 2
    assert said.out.startswith(f"{tiny_shards_folder}: valid, 12 clips in 3 shards, ")


def test_show_prints_the_set_and_draws_a_sheet(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "show", str(copied), "--clips", "5"]) == 0
    said = capsys.readouterr().out
    for words in ("12, named 00001/0001 to 00003/0002", "3 of 2 to 5 clips", "bicubic, scale 4"):
        assert words in said
    assert "12 clips of 160x96" in said
    sheet = copied.with_name("train-contact-sheet.png")
    assert str(sheet) in said
    assert Image.open(io.BytesIO(sheet.read_bytes())).size == (936, 476)
    assert faults(copied) == ()
