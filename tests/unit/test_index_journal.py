"""What an index that was killed leaves, and what the next one takes over."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stvsr.core.errors import SourceError
from stvsr.core.lines import Chain
from stvsr.data.clips.layout import frame_path
from stvsr.data.index import build as index_module
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.index.inspection import Inspection
from tests.support.clips import shorten_lists
from tests.support.files import SPECIAL_FILES, replace_by_special

CLIP = "00001/0002"


class KilledError(Exception):
    """Stands for the end of the process: nothing after it is written."""


@pytest.fixture
def source(tmp_path: Path, tiny_source: Path) -> Path:
    """4 training and 2 test clips, one of which lacks a frame."""
    folder = Path(shutil.copytree(tiny_source, tmp_path / "source"))
    shorten_lists(folder, 4, 2)
    frame_path(folder, "00001/0003", 4).unlink()
    return folder


@pytest.fixture
def killed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index whose run ended when all was inspected and nothing written."""

    def end(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(index_module, "whole_folder", end)
        with pytest.raises(KilledError):
            build_index(source, tmp_path / "index", IndexConfig())
    return tmp_path / "index"


def inspected_again(
    source: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: IndexConfig | None = None,
) -> list[str]:
    """The clips that the next run opens."""
    opened: list[str] = []
    inspect_clip = index_module.inspect_clip  # type: ignore[attr-defined]

    def listed(frames: object, clip: str, limits: object) -> Inspection:
        opened.append(clip)
        return inspect_clip(frames, clip, limits)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "inspect_clip", listed)
    build_index(source, index, config or IndexConfig())
    return opened


def test_clips_that_were_inspected_as_valid_are_not_inspected_again(
    source, killed, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    assert inspected_again(source, killed, monkeypatch) == ["00001/0003"]
    assert "5 of 6 clips were inspected before" in caplog.text
    assert [path.name for path in killed.parent.glob(".index*")] == []


def touch(source: Path, journal: Path) -> None:
    shutil.copy(frame_path(source, "00001/0001", 1), frame_path(source, CLIP, 1))


def tear(source: Path, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    assert CLIP.encode() in lines[2]
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:-5])


def flip_a_digit(source: Path, journal: Path) -> None:
    """In the second clip's motion, which decides its class."""
    lines = journal.read_bytes().splitlines(keepends=True)
    before, mark, after = lines[2].partition(b'"motion_px": ')
    digit = b"%d" % (9 - int(after[:1]))
    journal.write_bytes(b"".join([*lines[:2], before, mark, digit, after[1:], *lines[3:]]))


def lose_a_line(source: Path, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], *lines[3:]]))


def write_another_schema(source: Path, journal: Path) -> None:
    """Lines whose checksum is right."""
    chain = Chain()
    lines = journal.read_bytes().splitlines(keepends=True)[:2]
    fields = [json.loads(line) for line in lines]
    content = b"".join(chain.seal({k: v for k, v in f.items() if k != "checksum"}) for f in fields)
    assert content == b"".join(lines)
    odd = {"clip": CLIP, "file_state": "", "inspection": {"reason": "", "width": "no"}, "odd": 1}
    journal.write_bytes(content + chain.seal(odd))


def fill_with_nothing(source: Path, journal: Path) -> None:
    """As a file looks after a power cut: its length is there, its content is not."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1] + bytes(200))


def inspected_otherwise(source: Path, journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"code": "', b'"code": "0', 1))


ALL = ["00001/0001", CLIP, "00001/0003", "00001/0004", "00003/0003", "00003/0004"]
CHANGES: dict[str, tuple[Callable[[Path, Path], None], list[str]]] = {
    "a changed file": (touch, [CLIP, "00001/0003"]),
    "a torn line": (tear, ALL[1:]),
    "a flipped digit": (flip_a_digit, ALL[1:]),
    "a lost line": (lose_a_line, ALL[1:]),
    "another schema": (write_another_schema, ALL[1:]),
    "zeros": (fill_with_nothing, ALL[1:]),
    "other code": (inspected_otherwise, ALL),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_verdict_holds_for_the_same_files_and_the_same_way_of_judging(
    source, killed, monkeypatch, change
):
    make, expected = CHANGES[change]
    make(source, killed.parent / ".index.inspections.jsonl")
    assert inspected_again(source, killed, monkeypatch) == expected
    build_index(source, killed.parent / "undisturbed", IndexConfig())
    for name in ("manifest.parquet", "summary.json", "summary.md"):
        undisturbed = killed.parent / "undisturbed" / name
        assert (killed / name).read_bytes() == undisturbed.read_bytes()


def test_other_limits_inspect_anew(source, killed, monkeypatch):
    assert inspected_again(source, killed, monkeypatch, IndexConfig(black_level=3)) == ALL


def test_other_thresholds_need_no_judging(source, killed, monkeypatch):
    config = IndexConfig(slow_below=0.1, fast_from=0.2)
    assert inspected_again(source, killed, monkeypatch, config) == ["00001/0003"]


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL_FILES if kind != "a link to nothing"])
def test_a_special_file_in_the_journals_place_is_refused(source, killed, kind):
    replace_by_special(killed.parent / ".index.inspections.jsonl", kind)
    with pytest.raises(SourceError, match=r"inspections.jsonl: cannot be read .*; remove it"):
        build_index(source, killed, IndexConfig())
