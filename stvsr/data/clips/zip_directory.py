"""The central directory of a zip of clips, read once into a few bytes per member.

Vimeo-90K's zip has 642,000 members; `zipfile` keeps an object of each, this a row of a table.
Formats: PKWARE's APPNOTE 6.3, sections 4.3.7 (local header) to 4.3.16 (end record), with Zip64.
"""

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import SourceError
from stvsr.core.files import is_side_file, open_regular

MOST_MEMBERS = 20_000_000
"""A zip that says it has more members is refused."""

STORED, DEFLATED = 0, 8
METHODS = {STORED: "stored", DEFLATED: "deflated"}
"""The compression methods that are read, by their number."""


class Member(NamedTuple):
    """Where a member is and what it must be."""

    there: int
    """1; 0 in the place of a frame that is not there."""
    method: int
    """One of `METHODS`."""
    crc32: int
    """Of its content."""
    offset: int
    """First byte of its local header."""
    packed: int
    """Bytes of its content in the zip."""
    size: int
    """Bytes of its content unpacked."""


ROW = np.dtype({"names": Member._fields, "formats": ["u1", "<u2", "<u4", "<u8", "<u8", "<u8"]})
"""A `Member` in a table."""

DOWNLOAD = "download it again (`stvsr fetch vimeo90k` does)"

_ROW = struct.Struct("<BHIQQQ")
_END = struct.Struct("<4s4xHHIIH")
_LOCATOR = struct.Struct("<4s4xQ4x")
_END64 = struct.Struct("<4s28xQQQ")
_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")
_FRAME = re.compile(
    rb"((?:.*/)?)sequences/([0-9A-Za-z_-]+/[0-9A-Za-z_-]+)/im([1-7])\.png", re.DOTALL
)
_LIST = re.compile(rb"(?:.*/)?(?:sep_(?:train|test)list|[a-z]+_(?:train|test)set)\.txt", re.DOTALL)
_UNSAFE = re.compile(rb"^/|^[A-Za-z]:|\\|\x00|(?:^|/)\.\.(?:/|$)")
_ENCRYPTED = 0x1
_MOST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF


@dataclass(frozen=True)
class Directory:
    """Positions of a zip's frames and lists.

    Attributes:
        prefix: prefix of `sequences/` in every frame's name, such as "vimeo_septuplet/".
        clips: a clip's name -> its line in `frames`.
        frames: (clips, 7) rows of `ROW`, along the frames im1 … im7.
        lists: a list's name -> its member.
        size: bytes of the zip.
        sha256: of the central directory, which holds every member's name, size and CRC-32.
    """

    prefix: str
    clips: dict[str, int]
    frames: NDArray[np.void]
    lists: dict[str, Member]
    size: int
    sha256: str

    def frame(self, clip: str, frame: int) -> Member:
        """The member of frame 1..7 of a clip; its `there` is 0 where there is none."""
        line = self.clips.get(clip)
        return Member(*(self.frames[line, frame - 1].item() if line is not None else [0] * 6))


def read_directory(path: Path) -> Directory:
    """Read the central directory of a zip that holds `[PREFIX/]sequences/FOLDER/CLIP/imN.png`.

    Members of other names are passed over once their names have been checked.

    Raises:
        SourceError: the file is no zip or a truncated one, its directory is damaged or names
            members outside the file, or a member has an unsafe name, comes twice, is encrypted
            or compressed in a way that is not read.
    """
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        start, length, members, shift = _find(path, file, size)
        file.seek(start)
        content = file.read(length)
    try:
        table = _Table(path, start, shift)
        table.read(content, members)
    except struct.error:
        raise SourceError(
            f"{path}: its central directory (byte {start}) is damaged; {DOWNLOAD}"
        ) from None
    return table.directory(size, hashlib.sha256(content).hexdigest())


def _find(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """First byte, length and number of members of the central directory, and the zip's shift.

    The directory ends where the end records begin. Where it says that it is earlier, as many bytes
    stand before the zip as the two differ by (a program that unpacks it, a header of a download):
    every offset is shifted by them.
    """
    tail_start = max(0, size - _END.size - _MOST_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        file.seek(0)
        raise SourceError(f"{path}: {_what_else(file.read(512), size)}; {DOWNLOAD}")
    end = tail_start + at
    _, _, members, length, start, _ = _END.unpack_from(tail, at)
    locator = tail[max(0, at - _LOCATOR.size) : at]
    if locator[:4] == b"PK\6\7" and len(locator) == _LOCATOR.size:
        for place in (_LOCATOR.unpack(locator)[1], end - _LOCATOR.size - _END64.size):
            file.seek(min(place, size))
            record = file.read(_END64.size)
            if len(record) == _END64.size and record[:4] == b"PK\6\6":
                _, members, length, start = _END64.unpack(record)
                end = place
                break
    shift = end - length - start
    if shift < 0:
        raise SourceError(
            f"{path}: {size} bytes, but its directory should be at bytes {start} to "
            f"{start + length}: a piece is missing; {DOWNLOAD}"
        )
    if members > MOST_MEMBERS:
        raise SourceError(f"{path}: says it has {members} members; at most {MOST_MEMBERS} are read")
    return start + shift, length, members, shift


def _what_else(begin: bytes, size: int) -> str:
    """Describe a file without an end record."""
    if begin[:4] == b"PK\3\4":
        return f"a truncated zip: {size} bytes, and the directory at its end is missing"
    if begin.lstrip()[:1] == b"<":
        return "an HTML page and no zip: a server's message was saved under the zip's name"
    return f"no zip file (it begins with {begin[:8]!r})"


class _Table:
    """The rows of a directory while it is read."""

    def __init__(self, path: Path, end: int, shift: int) -> None:
        self.path = path
        self.end = end
        self.shift = shift
        self.prefix: bytes | None = None
        self.clips: dict[bytes, int] = {}
        self.rows = bytearray()
        self.lists: dict[bytes, Member] = {}

    def read(self, content: bytes, members: int) -> None:
        """Take in every entry; a struct.error says that the directory is damaged."""
        at = 0
        for _ in range(members):
            entry = _ENTRY.unpack_from(content, at)
            signature, flags, method, crc, packed, size, names, extras, comments, offset = entry
            if signature != b"PK\1\2":
                raise struct.error
            at += _ENTRY.size
            name = content[at : at + names]
            if _IN_ZIP64 in (packed, size, offset):
                extra = content[at + names : at + names + extras]
                size, packed, offset = _from_zip64(extra, size, packed, offset)
            at += names + extras + comments
            place = offset + self.shift
            self._take(name, flags, Member(1, method, crc, place, packed, size))
        if at != len(content):  # it has more members than the end record says
            raise struct.error

    def _take(self, name: bytes, flags: int, member: Member) -> None:
        frame = _FRAME.fullmatch(name)
        if frame is None and _UNSAFE.search(name):
            raise self._refused(name, "an unsafe name, which leads out of the zip's folder")
        if frame is None and not _LIST.fullmatch(name):
            return
        if _is_aside(frame[1] if frame else name):
            return
        if flags & _ENCRYPTED:
            raise self._refused(name, "encrypted; allowed are members without a password")
        if member.method not in METHODS:
            allowed = " and ".join(METHODS.values())
            raise self._refused(name, f"compression method {member.method}; allowed: {allowed}")
        if member.offset + member.packed > self.end:
            raise self._refused(
                name,
                f"said to be at byte {member.offset} with {member.packed} bytes, beyond the "
                "zip's members",
            )
        if frame is None:
            self._take_list(name, member)
        else:
            self._take_frame(frame, member)

    def _take_frame(self, frame: re.Match[bytes], member: Member) -> None:
        prefix, clip, number = frame.groups()
        if prefix != self.prefix:
            self._take_prefix(frame.group(), prefix)
        line = self.clips.get(clip)
        if line is None:
            line = self.clips[clip] = len(self.clips)
            self.rows += bytes(SEPTUPLET * _ROW.size)
        at = (line * SEPTUPLET + int(number) - 1) * _ROW.size
        if self.rows[at]:
            raise self._refused(frame.group(), "there twice; allowed is one member of a name")
        _ROW.pack_into(self.rows, at, *member)

    def _take_prefix(self, name: bytes, prefix: bytes) -> None:
        if _UNSAFE.search(prefix):
            raise self._refused(name, "an unsafe name, which leads out of the zip's folder")
        if self.prefix is not None:
            first = f"{_text(self.prefix)}sequences/"
            raise self._refused(
                name, f"of a second folder of clips, beside {first}; allowed is one"
            )
        self.prefix = prefix

    def _take_list(self, name: bytes, member: Member) -> None:
        if name in self.lists:
            raise self._refused(name, "there twice; allowed is one member of a name")
        self.lists[name] = member

    def _refused(self, name: bytes, what: str) -> SourceError:
        return SourceError(f"{self.path}: member {_text(name)!r} is {what}; {DOWNLOAD}")

    def directory(self, size: int, sha256: str) -> Directory:
        """The directory as read; lists that are not beside `sequences/` are left out."""
        prefix = self.prefix or b""
        beside = {
            name.removeprefix(prefix): member
            for name, member in self.lists.items()
            if name.startswith(prefix) and b"/" not in name.removeprefix(prefix)
        }
        return Directory(
            prefix=_text(prefix),
            clips={clip.decode("ascii"): line for clip, line in self.clips.items()},
            frames=np.frombuffer(bytes(self.rows), ROW).reshape(-1, SEPTUPLET),
            lists={_text(name): member for name, member in beside.items()},
            size=size,
            sha256=sha256,
        )


@lru_cache(maxsize=16)
def _is_aside(name: bytes) -> bool:
    """True if a list or a prefix is hidden, or in a hidden folder, such as `__MACOSX/`."""
    return any(is_side_file(part) for part in _text(name).split("/") if part.strip("."))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _from_zip64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Fill in what does not fit into 32 bits, from the entry's Zip64 field (section 4.5.3)."""
    field = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            field = extra[4 : 4 + length]
        extra = extra[4 + length :]
    filled = []
    for value in (size, packed, offset):
        if value == _IN_ZIP64:
            (value,) = struct.unpack_from("<Q", field)
            field = field[8:]
        filled.append(value)
    return filled[0], filled[1], filled[2]
