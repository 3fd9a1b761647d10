"""Vimeo-90K's layout on the disk, which every source is brought to, and the record beside it.

sequences/00001/0266/im1.png … im7.png     the frames of clip "00001/0266"
sep_trainlist.txt, sep_testlist.txt        one clip's name a line
{slow,medium,fast}_{test,train}set.txt     optional: the clips of one motion class
source.json                                ours: what the source is (`SourceRecord`)
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from stvsr.core.clip import SEPTUPLET
from stvsr.core.config import Config, Count, Field
from stvsr.core.errors import SourceError
from stvsr.core.files import MIB, read_bytes, write_text_whole

Item = TypeVar("Item")
Split = Literal["train", "test"]
Motion = Literal["slow", "medium", "fast"]

SPLITS: tuple[Split, ...] = ("train", "test")
MOTIONS: tuple[Motion, ...] = ("slow", "medium", "fast")
FRAMES = range(1, SEPTUPLET + 1)

CLIPS_PER_FOLDER = 1000
CLIP_NAME = re.compile(r"[0-9A-Za-z_-]{1,127}/[0-9A-Za-z_-]{1,127}")
"""A clip's name; a file system takes no part that is much longer."""

RECORD_NAME = "source.json"

MOST_LIST_BYTES = 64 * MIB
"""A list that is larger is not read; Vimeo-90K's has 0.7 MB."""

_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""First bytes of a text that is not UTF-8, and its encoding."""


class LeftOut(Config):
    """Something a source did not use."""

    what: str
    """The file, or the segment of it."""
    why: str
    """The reason, in words."""
    clips: Count = 1
    """How many files or clips that are."""


class SourceRecord(Config):
    """The content of `source.json`, the record of a folder of clips."""

    kind: Literal["sample", "rendered", "videos", "frames", "vimeo90k"]
    """Where the clips come from."""
    root: str = Field(default=".", pattern=r"^[^\x00]+$")
    """The folder that holds `sequences/`, or a zip of it; "." is the folder of this file."""
    train_clips: Count
    """Clips in `sep_trainlist.txt`."""
    test_clips: Count
    """Clips in `sep_testlist.txt`."""
    provenance: dict[str, str]
    """Origin of the clips, in words."""
    left_out: tuple[LeftOut, ...] = ()
    """Inputs that were not used."""


def clip_name(folder: int, number: int) -> str:
    """The name of clip `number` (from 0) of the sequence folders that start at `folder`."""
    return f"{folder + number // CLIPS_PER_FOLDER:05d}/{1 + number % CLIPS_PER_FOLDER:04d}"


def clip_folder(root: Path, clip: str) -> Path:
    """The folder of a clip's frames."""
    return root / "sequences" / clip


def frame_path(root: Path, clip: str, frame: int) -> Path:
    """The PNG of frame 1..7 of a clip."""
    return clip_folder(root, clip) / f"im{frame}.png"


def split_list(folder: Path, split: Split) -> Path:
    """The list of a split's clips."""
    return folder / f"sep_{split}list.txt"


def motion_list(folder: Path, motion: Motion, split: Split) -> Path:
    """The list of the clips of one motion class; published for the test split only."""
    return folder / f"{motion}_{split}set.txt"


def spread(items: Sequence[Item], most: int | None) -> list[Item]:
    """At most `most` of the items, evenly spread over their order; None: all of them."""
    if most is None or most >= len(items):
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def write_clip_list(path: Path, clips: Iterable[str]) -> None:
    """Write one clip's name a line."""
    write_text_whole(path, "".join(f"{clip}\n" for clip in clips))


def read_clip_list(path: Path) -> list[str]:
    """The clips of a list, in its order; lines that hold nothing are passed over.

    Raises:
        SourceError: the list is missing, too large or no text, or a line is no clip's name (one
            that leads out of the folder is none).
    """
    try:
        return parse_clip_list(read_bytes(path, MOST_LIST_BYTES), str(path))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such list; expected one clip's name a line") from None
    except OSError as fault:
        raise SourceError(
            f"{path}: cannot be read ({fault.strerror}); expected a list, one clip's name a line"
        ) from None


def parse_clip_list(content: bytes, where: str) -> list[str]:
    """`read_clip_list` for a list that is not a file; `where` names it in messages.

    Editors of Windows begin a text with a byte-order mark, which is no part of the first name.
    """
    encoding = _BYTE_ORDER_MARKS.get(content[:2], "utf-8-sig")
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError:
        raise SourceError(f"{where}: not a text file; expected one clip's name a line") from None
    clips = []
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        if not CLIP_NAME.fullmatch(name):
            raise SourceError(
                f"{where}, line {number}: found {name[:80]!r}; allowed: a clip's name such as "
                "00001/0266"
            )
        clips.append(name)
    return clips


def write_record(folder: Path, record: SourceRecord) -> None:
    """Write `source.json`."""
    write_text_whole(folder / RECORD_NAME, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> SourceRecord:
    """Read `source.json`.

    Raises:
        SourceError: it is missing or not what `write_record` wrote.
    """
    try:
        return SourceRecord.read(folder / RECORD_NAME, SourceError, "run `stvsr source` again")
    except FileNotFoundError:
        raise SourceError(
            f"{folder}: no {RECORD_NAME} here; run `stvsr source` first, or name its folder"
        ) from None
