"""Readers of a source's frames, from a folder or from a zip file without unpacking it."""

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from isal import isal_zlib

from stvsr.core.errors import SourceError
from stvsr.core.files import open_regular, read_bytes
from stvsr.data.clips.layout import FRAMES, frame_path
from stvsr.data.clips.zip_directory import DEFLATED, Directory, Member, read_directory

MAX_FRAME_BYTES = 64 * 2**20
"""A frame's file larger than this is not read."""

_LOCAL = struct.Struct("<4s22xHH")


class FrameError(Exception):
    """Why a file cannot be read, in words; it never leaves the data room."""


class Frames(Protocol):
    """The PNG files of clips, by the clip's name and the frame's number 1..7."""

    def missing(self, clip: str) -> list[int]:
        """The frames of a clip that are not there; all seven where the clip is not."""

    def read(self, clip: str, frame: int) -> bytes:
        """The bytes of one frame's file.

        Raises:
            FrameError: it is missing, too large or damaged, or cannot be read.
        """

    def where(self, clip: str, frame: int) -> str:
        """The frame's file, for messages."""

    def file_state(self, clip: str) -> str:
        """State of a clip's files, which differs if they change, without reading them."""

    def read_list(self, name: str) -> bytes | None:
        """The list `name` ("sep_trainlist.txt") beside `sequences/`; None where there is none.

        Raises:
            FrameError: it cannot be read.
        """


@lru_cache(maxsize=1)
def _opened_zip(path: Path, size: int, changed_ns: int) -> "ZipFrames":
    return ZipFrames(path)


def open_frames(root: Path) -> Frames:
    """Open a folder that holds `sequences/`, or a zip of one.

    A process reads the directory of one zip once, however often this is called.

    Raises:
        SourceError: `root` is missing, or a zip that is damaged or has members that are refused.
    """
    if root.is_dir():
        return FolderFrames(root)
    try:
        state = root.stat()
        return _opened_zip(root, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise SourceError(
            f"{root}: cannot be read ({error.strerror or error}); it held the clips when "
            "`stvsr source` ran: put it back, or run `stvsr source` again"
        ) from None


def read_frame_file(path: Path) -> bytes:
    """The bytes of a file of a folder.

    Raises:
        FrameError: it cannot be read or is larger than `MAX_FRAME_BYTES`.
    """
    try:
        return read_bytes(path, MAX_FRAME_BYTES)
    except OSError as error:
        raise FrameError(error.strerror or str(error)) from None


class FolderFrames:
    """Frames that are files of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def missing(self, clip: str) -> list[int]:
        """See `Frames`."""
        return [frame for frame in FRAMES if not frame_path(self.root, clip, frame).is_file()]

    def read(self, clip: str, frame: int) -> bytes:
        """See `Frames`."""
        return read_frame_file(frame_path(self.root, clip, frame))

    def where(self, clip: str, frame: int) -> str:
        """See `Frames`."""
        return str(frame_path(self.root, clip, frame))

    def file_state(self, clip: str) -> str:
        """See `Frames`: each file's size and time of change."""
        paths = [frame_path(self.root, clip, frame) for frame in FRAMES]
        states = [path.stat() if path.is_file() else None for path in paths]
        return " ".join(
            f"{state.st_size}@{state.st_mtime_ns}" if state else "-" for state in states
        )

    def read_list(self, name: str) -> bytes | None:
        """See `Frames`."""
        path = self.root / name
        return read_frame_file(path) if path.is_file() else None


class ZipFrames:
    """Frames that are members of a zip, each read from its place; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory: Directory = read_directory(path)
        self._file = open_regular(path)

    def missing(self, clip: str) -> list[int]:
        """See `Frames`."""
        return [frame for frame in FRAMES if not self.directory.frame(clip, frame).there]

    def read(self, clip: str, frame: int) -> bytes:
        """See `Frames`."""
        return self._read(self.directory.frame(clip, frame))

    def where(self, clip: str, frame: int) -> str:
        """See `Frames`."""
        return f"{self.path}: member {self.directory.prefix}sequences/{clip}/im{frame}.png"

    def file_state(self, clip: str) -> str:
        """See `Frames`: a checksum of the directory's entries, which hold the files' CRC-32."""
        members = [self.directory.frame(clip, frame) for frame in FRAMES]
        return f"{isal_zlib.crc32(repr(members).encode()):08x}"

    def read_list(self, name: str) -> bytes | None:
        """See `Frames`."""
        member = self.directory.lists.get(name)
        return None if member is None else self._read(member)

    def _read(self, member: Member) -> bytes:
        """Read, unpack and check one member; never more than the directory says."""
        if not member.there:
            raise FrameError("missing in the zip")
        _check_size(max(member.size, member.packed))
        offset, size = member.offset, member.size
        try:
            header = os.pread(self._file.fileno(), _LOCAL.size, offset)
            if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
                raise FrameError(
                    f"no member at byte {offset}, where the zip's directory says it is"
                )
            _, name, extra = _LOCAL.unpack(header)
            start = offset + _LOCAL.size + name + extra
            content = os.pread(self._file.fileno(), member.packed, start)
            if member.method == DEFLATED:
                content = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS).decompress(
                    content, size + 1
                )
        except (OSError, isal_zlib.error) as error:  # type: ignore[misc]  # as in png.py
            raise FrameError(f"damaged at byte {offset} of the zip ({error})") from None
        if len(content) != size or isal_zlib.crc32(content) != member.crc32:
            raise FrameError(
                f"damaged at byte {offset} of the zip (size or CRC-32 is not the directory's)"
            )
        return content


def _check_size(size: int) -> None:
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"{size} bytes; at most {MAX_FRAME_BYTES} are read")
