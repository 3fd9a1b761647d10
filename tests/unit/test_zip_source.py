"""Vimeo-90K's zip as it is: the clips of the folder, and one line for what is no such zip."""

import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stvsr.core.errors import SourceError
from stvsr.core.files import sha256_of
from stvsr.data.clips.frames import MAX_FRAME_BYTES, ZipFrames, open_frames
from stvsr.data.clips.layout import (
    frame_path,
    motion_list,
    read_clip_list,
    read_record,
    split_list,
    write_clip_list,
)
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.index.manifest import read_all
from stvsr.data.index.summary import IndexSummary
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig, write_shards
from stvsr.data.sources.source import SourceConfig, make_source
from tests.support.clips import shorten_lists
from tests.support.files import flip_byte
from tests.support.zips import TOP, patch_entry, zip_dataset

CLIP = "00001/0002"
MEMBER = f"{TOP}sequences/{CLIP}/im3.png"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tiny_source: Path) -> Path:
    """The dataset's folder, with 4 training and 2 test clips; read only."""
    folder = tmp_path_factory.mktemp("dataset") / "vimeo_septuplet"
    shutil.copytree(tiny_source, folder)
    (folder / "source.json").unlink()
    shorten_lists(folder, 4, 2)
    return folder


@pytest.fixture
def archive(dataset: Path, tmp_path: Path) -> Path:
    """Its zip, which a test may damage."""
    return zip_dataset(dataset, tmp_path / "vimeo_septuplet.zip")


def use(dataset: Path, out: Path) -> Path:
    make_source(SourceConfig(kind="vimeo90k", path=str(dataset)), 0, out)
    return out


def index_of(dataset: Path, folder: Path) -> IndexSummary:
    return build_index(use(dataset, folder / "source"), folder / "index", IndexConfig())


def test_zip_and_folder_give_the_same_clips_and_the_same_shards(dataset, archive, tmp_path):
    hashes = []
    for path, folder in ((dataset, tmp_path / "folder"), (archive, tmp_path / "zip")):
        index_of(path, folder)
        write_shards(
            folder / "index", "train", folder / "shards", ShardsConfig(), DegradationConfig()
        )
        shards = sorted((folder / "shards").iterdir())
        hashes.append([sha256_of(file) for file in shards])
    assert read_all(tmp_path / "zip/index") == read_all(tmp_path / "folder/index")
    assert hashes[0] == hashes[1]
    assert not list(tmp_path.rglob("zip/source/**/*.png"))


def test_a_changed_zip_changes_the_source(dataset, archive, tmp_path):
    before = read_record(use(archive, tmp_path / "source"))
    assert before.root == str(archive)
    with zipfile.ZipFile(archive, "a") as added:
        added.write(frame_path(dataset, CLIP, 1), f"{TOP}sequences/00009/0001/im1.png")
    assert read_record(use(archive, tmp_path / "source")).provenance != before.provenance


@pytest.mark.parametrize("top", ["", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_top_folder_and_both_methods_are_read(dataset, tmp_path, top, method):
    frames = open_frames(zip_dataset(dataset, tmp_path / "any.zip", top, method))
    assert frames.read(CLIP, 5) == frame_path(dataset, CLIP, 5).read_bytes()
    assert frames.read_list("sep_testlist.txt") == split_list(dataset, "test").read_bytes()


def test_a_member_beyond_four_gigabytes_is_read(dataset, tmp_path):
    """A sparse file: 5 GiB of nothing, then the members, so every offset needs Zip64."""
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.seek(5 * 2**30)
        with zipfile.ZipFile(file, "w") as archive:
            for number in range(1, 8):
                frame = frame_path(dataset, CLIP, number)
                archive.write(frame, f"sequences/{CLIP}/im{number}.png")
    assert open_frames(path).read(CLIP, 7) == frame_path(dataset, CLIP, 7).read_bytes()


def test_motion_lists_lie_beside_the_zip(archive, tmp_path):
    clips = read_clip_list(split_list(use(archive, tmp_path / "source"), "test"))
    motion_list(archive.parent, "fast", "test").write_text(f"{clips[1]}\n00099/0001")
    assert index_of(archive, tmp_path).motion_from_lists == 1


def test_a_folder_with_the_zip_and_the_lists_is_the_dataset(archive, tmp_path):
    folder = tmp_path / "vimeo90k"
    folder.mkdir()
    archive.rename(folder / archive.name)
    write_clip_list(motion_list(folder, "fast", "test"), ["00003/0003"])
    record = read_record(use(folder, tmp_path / "source"))
    assert record.root == str(folder / archive.name)
    assert motion_list(tmp_path / "source", "fast", "test").exists()


def put_bytes_before(path: Path, before: bytes) -> None:
    path.write_bytes(before + path.read_bytes())


def force_zip64(path: Path) -> None:
    """Say in the end record that the sizes are in a Zip64 record, which is put before it."""
    content = path.read_bytes()
    at = content.rindex(b"PK\5\6")
    members, length, start = struct.unpack_from("<10xHII", content, at)
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, members, members, length, start
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    end = struct.pack("<4s4xHHIIH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(content[:at] + record + locator + end)


@pytest.mark.parametrize("is_zip64", [False, True])
@pytest.mark.parametrize("before", [b"#!/bin/sh\nexec unzip\n", bytes(100_000)])
def test_bytes_before_a_zip_are_passed_over(archive, tmp_path, before, is_zip64):
    frames = open_frames(archive).read(CLIP, 3)
    if is_zip64:
        force_zip64(archive)
        assert open_frames(archive).read(CLIP, 3) == frames
    put_bytes_before(archive, before)
    assert open_frames(archive).read(CLIP, 3) == frames
    assert read_clip_list(split_list(use(archive, tmp_path / "source"), "train"))


def test_hidden_members_are_passed_over(dataset, archive, tmp_path):
    with zipfile.ZipFile(archive, "a") as opened:
        for name in (
            f"__MACOSX/{TOP}sequences/{CLIP}/._im3.png",
            f"__MACOSX/{TOP}sequences/{CLIP}/im3.png",
            f"__MACOSX/{TOP}sep_trainlist.txt",
            f"{TOP}.DS_Store",
            f"{TOP}._sep_trainlist.txt",
        ):
            opened.writestr(name, b"not a frame")
    assert index_of(archive, tmp_path).rejected == ()


def test_hidden_files_beside_the_zip_are_passed_over(archive, tmp_path):
    for name in (f"._{archive.name}", ".DS_Store", "Thumbs.db"):
        (archive.parent / name).write_bytes(b"side file")
    assert read_clip_list(split_list(use(archive.parent, tmp_path / "out"), "train"))


def test_several_zips_in_a_folder_are_named(archive, tmp_path):
    shutil.copy(archive, archive.with_name("another.zip"))
    with pytest.raises(SourceError, match=r"2 zips \(another.zip, vimeo_.*set source.path to"):
        use(archive.parent, tmp_path / "out")


def test_the_lists_of_a_zip_without_any_are_read_beside_it(dataset, tmp_path):
    folder = tmp_path / "frames alone"
    shutil.copytree(dataset / "sequences", folder / "sequences")
    (tmp_path / "zips").mkdir()
    archive = zip_dataset(folder, tmp_path / "zips" / "sequences.zip", "")
    with pytest.raises(SourceError, match=r"no sep_trainlist.txt beside sequences/ or the zip"):
        use(archive, tmp_path / "source")
    for path in dataset.glob("*.txt"):
        shutil.copy(path, archive.parent)
    for name in (archive, archive.parent):
        source = use(name, tmp_path / "source")
        for split in ("train", "test"):
            expected = read_clip_list(split_list(dataset, split))
            assert read_clip_list(split_list(source, split)) == expected


def test_a_clip_in_two_motion_lists_is_refused_with_both(archive, tmp_path):
    for motion in ("slow", "fast"):
        write_clip_list(motion_list(archive.parent, motion, "test"), ["00001/0005", "00003/0003"])
    with pytest.raises(SourceError, match=r"fast_testset\.txt: clip 00003/0003 is in the slow"):
        use(archive, tmp_path / "source")


def write_html(path: Path) -> None:
    path.write_text("<!DOCTYPE html><title>503 Service Unavailable</title>")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_the_middle_out(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:1000] + content[5000:])


def add(path: Path, name: str, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"content", method)


def add_again(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        add(path, MEMBER)


def hide_members(path: Path) -> None:
    """Let the end record count fewer members than the directory has."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, content.rindex(b"PK\5\6") + 8, 3, 3)
    path.write_bytes(content)


def point_nowhere(path: Path) -> None:
    """A Zip64 directory whose locator leads further than any file goes."""
    content = path.read_bytes()
    at = content.rindex(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 2**64 - 1, 1)
    end = content[at : at + 8] + b"\xff" * 12 + content[at + 20 :]
    path.write_bytes(content[:at] + locator + end)


def without_list(path: Path) -> None:
    patch_entry(path, "sep_testlist.txt", 46 + len(TOP), "B", ord("x"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut, r"a truncated zip: \d+ bytes, and the directory at its end is missing"),
    "without a piece": (cut_the_middle_out, "a piece is missing"),
    "a page": (write_html, "an HTML page and no zip"),
    "text": (lambda path: path.write_text("hello"), r"no zip file \(it begins with b'hello'\)"),
    "empty": (lambda path: path.write_bytes(b""), "no zip file"),
    "parent folder": (lambda path: add(path, "a/../../x"), r"'a/\.\./\.\./x' is an unsafe name"),
    "absolute": (lambda path: add(path, "/etc/passwd"), "'/etc/passwd' is an unsafe name"),
    "drive": (lambda path: add(path, "C:/x"), "'C:/x' is an unsafe name"),
    "backslash": (lambda path: add(path, "a\\x"), r"'a\\\\x' is an unsafe name"),
    "unsafe frame": (
        lambda path: add(path, f"../sequences/{CLIP}/im1.png"),
        r"'\.\./sequences/00001/0002/im1\.png' is an unsafe name",
    ),
    "second folder": (
        lambda path: add(path, f"other/sequences/{CLIP}/im1.png"),
        r"of a second folder of clips, beside vimeo_septuplet/sequences/; allowed is one",
    ),
    "twice": (add_again, r"im3\.png' is there twice; allowed is one member of a name"),
    "encrypted": (
        lambda path: patch_entry(path, MEMBER, 8, "<H", 1),
        r"im3\.png' is encrypted; allowed are members without a password",
    ),
    "bzip2": (
        lambda path: add(path, f"{TOP}sequences/00009/0001/im1.png", zipfile.ZIP_BZIP2),
        "compression method 12; allowed: stored and deflated",
    ),
    "elsewhere": (
        lambda path: patch_entry(path, MEMBER, 42, "<I", 2**31),
        r"im3\.png' is said to be at byte 2147483648 .* beyond the zip's members",
    ),
    "damaged directory": (
        lambda path: patch_entry(path, MEMBER, 0, "<I", 0),
        r"its central directory \(byte \d+\) is damaged",
    ),
    "more members than counted": (
        hide_members,
        r"its central directory \(byte \d+\) is damaged",
    ),
    "locator beyond the file": (point_nowhere, "a piece is missing"),
    "no list": (
        without_list,
        r"has no sep_testlist\.txt beside sequences/ or the zip; allowed with source",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_not_the_datasets_zip_is_one_line_that_names_it(archive, tmp_path, fault):
    damage, reason = REFUSED[fault]
    damage(archive)
    with pytest.raises(SourceError, match=reason) as refusal:
        use(archive, tmp_path / "source")
    assert str(archive) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def damage_pixels(path: Path) -> None:
    flip_byte(path, path.read_bytes().index(MEMBER.encode()) + 2000)


def damage_header(path: Path) -> None:
    flip_byte(path, path.read_bytes().index(MEMBER.encode()) - 30)


def unpack_to_more(path: Path) -> None:
    """A deflated member that unpacks to more than the directory says."""
    patch_entry(path, MEMBER, 24, "<I", 100)


def unpack_to_too_much(path: Path) -> None:
    patch_entry(path, MEMBER, 24, "<I", MAX_FRAME_BYTES + 1)


UNSOUND: dict[str, tuple[Callable[[Path], object], str]] = {
    "pixels": (damage_pixels, r"im3\.png: damaged at byte \d+ of the zip"),
    "header": (damage_header, r"im3\.png: no member at byte \d+"),
    "bomb": (unpack_to_more, r"im3\.png: damaged at byte \d+ of the zip \(size or CRC-32"),
    "large": (unpack_to_too_much, r"im3\.png: 67108865 bytes; at most 67108864 are read"),
    "missing": (
        lambda path: patch_entry(path, MEMBER, 46 + len(MEMBER) - 1, "B", ord("x")),
        r"6 of 7 frames: im3\.png missing",
    ),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("fault", UNSOUND)
def test_a_damaged_member_is_its_clips_fault_alone(dataset, tmp_path, fault, method):
    damage, reason = UNSOUND[fault]
    archive = zip_dataset(dataset, tmp_path / "damaged.zip", method=method)
    damage(archive)
    summary = index_of(archive, tmp_path)
    assert [clip.clip for clip in summary.rejected] == [CLIP]
    assert re.search(reason, summary.rejected[0].reason)


def test_a_zip_that_changed_since_the_index_is_refused_with_its_member(archive, tmp_path):
    index_of(archive, tmp_path)
    damage_pixels(archive)
    with pytest.raises(SourceError, match=rf"zip: member {MEMBER}: damaged .*run `stvsr index`"):
        write_shards(
            tmp_path / "index", "train", tmp_path / "out", ShardsConfig(), DegradationConfig()
        )
    archive.unlink()
    with pytest.raises(SourceError, match=r"zip: cannot be read .*put it back"):
        open_frames(archive)


def test_any_byte_of_the_directory_that_is_damaged_is_at_most_one_clear_error(archive):
    content = archive.read_bytes()
    refusals = []
    for at in range(content.index(b"PK\1\2"), len(content), 97):
        archive.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            ZipFrames(archive).missing(CLIP)
        except SourceError as refusal:
            refusals.append(str(refusal))
    assert refusals
    assert all(str(archive) in refusal for refusal in refusals)
