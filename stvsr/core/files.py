"""Regular files to read, files and folders that appear whole or not at all, locks of processes."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from stvsr.core.errors import BusyError, StvsrError

MIB = 2**20

SIDE_FILES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
"""Names, beside those with a dot in front, that operating systems add to folders and archives."""

LOCK_ATTEMPTS = 100
"""Tries to open the file of a lock that other commands remove."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; whatever is not a regular file is refused before it is opened.

    A named pipe would wait for a writer, and a device may never end.

    Raises:
        FileNotFoundError: there is none, or a link leads to nothing.
        OSError: it is a folder, pipe, device or socket, a link leads in a circle, or it may not be
            read; `strerror` says which.
    """
    _check_regular(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _check_regular(path, os.fstat(descriptor))
    except OSError:
        file.close()
        raise
    return file


def _check_regular(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, allowed is a regular file", str(path))


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError, OSError: as `open_regular`; or it is larger, and was not read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size} bytes; at most {limit} are read", str(path))
        return file.read(size)


def is_side_file(name: str) -> bool:
    """True if a file or folder is hidden or an operating system's: no listing of ours has it."""
    return name.startswith(".") or name in SIDE_FILES


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write `content` to a temporary neighbour, flush it to the disk, and rename it to `path`.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_text_whole(path: Path, text: str) -> None:
    """`write_bytes_whole` for text, in UTF-8."""
    write_bytes_whole(path, text.encode())


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `path` when the block ends well.

    What was at `path` stays until the new folder is complete. A block that raises leaves `path`
    as it was and removes the temporary folder; a killed process leaves `.NAME.PID.partial` beside
    it, which the next call for the same `path` clears away.
    """
    path = _with_a_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.mkdir()
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            if not entry.is_symlink() and (entry.is_file() or entry.is_dir()):
                _sync(entry)
        _replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(path.parent)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`; a folder that stood there is set aside first, then removed."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old.partial")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear_leftovers(path: Path) -> None:
    """Put back what a killed process had set aside, and remove what it had not finished."""
    own = re.compile(rf"\.{re.escape(path.name)}\.\d+(\.old)?\.partial")
    for leftover in [*path.parent.iterdir()]:
        if not own.fullmatch(leftover.name) or _is_alive(leftover):
            continue
        if leftover.name.endswith(".old.partial") and not path.exists():
            leftover.rename(path)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(temporary: Path) -> bool:
    """True if the process that made `.NAME.PID.partial` still runs (on this machine)."""
    pid = temporary.name.removesuffix(".partial").removesuffix(".old").rpartition(".")[2]
    return pid.isdigit() and int(pid) != os.getpid() and Path(f"/proc/{pid}").exists()


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_writer(path: Path, *, holds: str = "") -> Iterator[None]:
    """Hold the lock for writing `path`; it is released when the process ends, however it ends.

    Args:
        path: the file or folder that is written.
        holds: of a folder that will be replaced: a file that each such folder has, by which it is
            told from somebody else's.

    Raises:
        BusyError: another live process holds it, such as the orphan of a killed `dvc repro`.
        StvsrError: `path` is no folder with `holds`, and would be lost.
    """
    path = _with_a_name(path)
    if holds:
        _refuse_to_replace_others(path, holds)
    lock = path.with_name(f".{path.name}.lock")
    made = [parent for parent in path.parents if not parent.exists()]
    with _locked(lock, path):
        try:
            yield
        except BaseException:
            _remove_unused(lock, made)
            raise


@contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    """Hold a lock's file, which the one that held it before may have removed meanwhile."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("a+")
        except (FileNotFoundError, FileExistsError):  # another command may be removing the folder
            if attempt == LOCK_ATTEMPTS - 1:
                raise
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise BusyError(
                    f"{path}: process {file.read().strip() or 'unknown'} is already writing it",
                    remedy="wait until it ends, or stop it, and run this again",
                ) from None
            if not _is_still(lock, file.fileno()):
                continue
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
            return
    raise BusyError(f"{path}: other commands keep removing its lock", remedy="run this again")


def _is_still(path: Path, descriptor: int) -> bool:
    """True if `path` names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_unused(lock: Path, made: list[Path]) -> None:
    """Remove the folders that were made for a lock, if a refusal left nothing else in them.

    Args:
        lock: the lock's file, which is held.
        made: the folders, the innermost first.
    """
    with suppress(OSError):  # another command has put something there, or has removed it
        if not made or [*lock.parent.iterdir()] != [lock]:
            return
        lock.unlink()
        for folder in made:
            folder.rmdir()


def _with_a_name(path: Path) -> Path:
    """The same path, ending in a name: "." and ".." do not, and have no neighbours."""
    return path if path.name not in ("", "..") else path.resolve()


def _refuse_to_replace_others(path: Path, holds: str) -> None:
    if path.is_dir():
        if (path / holds).exists() or not any(path.iterdir()):
            return
        found = f"a folder of other things (without {holds})"
    elif path.exists():
        found = "a file"
    else:
        return
    raise StvsrError(
        f"{path}: found {found}, which would be lost; name a folder that does not exist yet, or "
        "move that away"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
