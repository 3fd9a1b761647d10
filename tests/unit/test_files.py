"""Files and folders appear whole or not at all, and a lock dies with its process."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from stvsr.core.errors import StvsrError
from stvsr.core.files import (
    is_side_file,
    only_writer,
    open_regular,
    read_bytes,
    whole_folder,
    write_bytes_whole,
)
from tests.support.files import SPECIAL_FILES, replace_by_special

LIMIT_FILES_TO_4_KIB = """
import resource, signal, sys
from pathlib import Path
from stvsr.core.files import whole_folder, write_bytes_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )


def test_a_written_file_holds_the_bytes_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_bytes_whole(tmp_path / "deep" / "a.bin", b"new")
    write_bytes_whole(tmp_path / "deep" / "a.bin", b"newer")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.bin"]
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"newer"


def test_a_disk_that_fills_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = LIMIT_FILES_TO_4_KIB + "write_bytes_whole(Path(sys.argv[1]), bytes(100_000))"
    run = run_python(code, target)
    assert f"File too large: '{target}'" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert target.read_bytes() == b"old"


def test_a_folder_takes_its_place_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole_folder(target) as partial:
        (partial / "a").write_text("first")
    with pytest.raises(FileExistsError), whole_folder(target) as partial:
        (partial / "a").mkdir(parents=(partial / "a").write_text("second") > 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a").read_text() == "first"


def test_what_a_killed_writer_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = """
import os, signal, sys
from pathlib import Path
from stvsr.core.files import whole_folder
with whole_folder(Path(sys.argv[1])) as partial:
    (partial / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, target).returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with whole_folder(target) as partial:
        (partial / "whole").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["whole"]


def test_a_folder_set_aside_by_a_killed_writer_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    aside = tmp_path / f".out.{dead.pid}.old.partial"
    aside.mkdir()
    (aside / "a").write_text("was whole")
    with pytest.raises(RuntimeError), whole_folder(target):
        raise RuntimeError
    assert (target / "a").read_text() == "was whole"


@pytest.mark.parametrize("name", ["out", "clip[1]"])
def test_leftovers_are_those_of_the_very_same_name(tmp_path: Path, name: str) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own, others = f".{name}.{dead.pid}.partial", f".{name}.v2.{dead.pid}.old.partial"
    for leftover in (own, others):
        (tmp_path / leftover).mkdir()
    with whole_folder(tmp_path / name):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, others])


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = """
import sys
from pathlib import Path
from stvsr.core.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "locked\n"
        refused = pytest.raises(StvsrError, match=f"process {holder.pid} is already writing")
        with refused, only_writer(target):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with only_writer(target):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_that_cannot_be_made_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError), only_writer(Path("report")):
        pass


def test_a_refusal_is_not_hidden_by_a_folder_that_is_gone(tmp_path: Path) -> None:
    def write() -> None:
        with only_writer(tmp_path / "new" / "out"):
            shutil.rmtree(tmp_path / "new")
            raise StvsrError("refused")

    with pytest.raises(StvsrError, match="refused"):
        write()


def test_a_refusal_leaves_no_folder_that_was_made_for_its_lock(tmp_path: Path) -> None:
    """What others put beside the lock meanwhile stays, and so does the lock then."""
    target = tmp_path / "new" / "folder" / "out"

    def refuse(beside: str = "") -> None:
        with only_writer(target):
            if beside:
                (target.parent / beside).touch()
            raise StvsrError("refused")

    with pytest.raises(StvsrError, match="refused"):
        refuse()
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(StvsrError, match="refused"):
        refuse(beside="other")
    assert sorted(path.name for path in target.parent.iterdir()) == [".out.lock", "other"]


def test_a_lock_that_was_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, lock = tmp_path / "new" / "out", tmp_path / "new" / ".out.lock"
    flock = fcntl.flock

    def flock_after_a_refusal(file: IO[str], operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        lock.unlink()
        lock.parent.rmdir()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_a_refusal)
    with only_writer(target):
        assert lock.read_text() == str(os.getpid())
        with pytest.raises(StvsrError, match="already writing it"), only_writer(target):
            pass


def test_only_what_is_known_for_ones_own_is_replaced(tmp_path: Path, monkeypatch) -> None:
    own, empty, others, file = (tmp_path / name for name in ("own", "empty", "others", "file"))
    for folder in (own, empty, others):
        folder.mkdir()
    (own / "model.json").touch()
    (others / "photo.jpg").touch()
    file.touch()
    for path in (own, empty, tmp_path / "new"):
        with only_writer(path, holds="model.json"):
            pass
    monkeypatch.chdir(others)
    for path in (others, file, Path(), Path("..")):
        with (
            pytest.raises(StvsrError, match="would be lost"),
            only_writer(path, holds="model.json"),
        ):
            pass


@pytest.mark.parametrize(
    ("kind", "reason"),
    {
        "a named pipe": "it is a named pipe, allowed is a regular file",
        "a device": "it is a device, allowed is a regular file",
        "a socket": "it is a socket, allowed is a regular file",
        "a folder": "it is a folder, allowed is a regular file",
        "a circle of links": "Too many levels of symbolic links",
        "a link to nothing": "No such file or directory",
    }.items(),
)
def test_what_is_no_regular_file_is_refused_before_it_is_opened(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = tmp_path / "input"
    replace_by_special(path, kind)
    for read in (open_regular, lambda path: read_bytes(path, 10)):
        with pytest.raises(OSError, match=reason) as caught:
            read(path)
        assert str(caught.value.filename) == str(path)


def test_every_kind_of_special_file_is_in_the_table_above() -> None:
    assert len(SPECIAL_FILES) == 6


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", 7) == b"content"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="1099511627776 bytes; at most 16 are read"):
        read_bytes(path, 16)


@pytest.mark.parametrize(
    ("name", "is_hidden"),
    {
        **dict.fromkeys(("._clips.zip", ".DS_Store", "__MACOSX", "Thumbs.db"), True),
        **dict.fromkeys(("clips.zip", "_clips.zip", "sequences"), False),
    }.items(),
)
def test_hidden_side_files_are_told_by_name(name: str, is_hidden: bool) -> None:
    assert is_side_file(name) == is_hidden
