"""The frames of one clip, by their place, from a folder of numbered PNGs or from Vimeo-90K."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.clips.frames import FrameError, Frames, read_frame_file
from stvsr.data.clips.png import decode, read_size

_NUMBER = re.compile(r"(\d+)(?=\.png$)", re.IGNORECASE)


class ClipFrames(Protocol):
    """One clip's frames, each read when it is asked for."""

    def __len__(self) -> int:
        """Number of frames."""

    def read(self, place: int) -> UInt8Image:
        """The frame at `place` (from 0): (H, W, 3), RGB, 0..255.

        Raises:
            SourceError: its file is missing, damaged, or no PNG of 8-bit RGB.
        """

    def file_state(self) -> str:
        """State of the clip's files, which differs if they change, without reading them."""


class NumberedFrames:
    """Frames that are PNGs of one folder, in the order of the number at the end of their names."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = sorted(paths, key=lambda path: (frame_number(path) or 0, path.name))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, place: int) -> UInt8Image:
        """See `ClipFrames`."""
        path = self.paths[place]
        try:
            return _image(read_frame_file(path))
        except (FrameError, ValueError) as error:
            raise _refusal(str(path), error) from None

    def file_state(self) -> str:
        """See `ClipFrames`: each file's name, size and time of change."""
        states = [(path.name, path.stat()) for path in self.paths]
        return " ".join(f"{name}:{stat.st_size}@{stat.st_mtime_ns}" for name, stat in states)

    def faults(self) -> list[str]:
        """The fault of the numbers, in words: one that is missing, or comes twice."""
        numbers = [frame_number(path) for path in self.paths]
        unnumbered = [
            path.name for path, number in zip(self.paths, numbers, strict=True) if number is None
        ]
        if unnumbered:
            return [f"{unnumbered[0]} has no number before .png"]
        found = [number for number in numbers if number is not None]
        twice = sorted(number for number, count in Counter(found).items() if count > 1)
        absent = sorted(set(range(found[0], found[-1] + 1)) - set(found)) if found else []
        return [
            f"frame {_listed(numbers)} {fault}"
            for numbers, fault in ((absent, "is missing"), (twice, "comes twice"))
            if numbers
        ]


class SeptupletFrames:
    """The seven frames of a clip in Vimeo-90K's layout, in a folder or a zip."""

    def __init__(self, frames: Frames, clip: str) -> None:
        self.frames = frames
        self.clip = clip

    def __len__(self) -> int:
        return SEPTUPLET

    def read(self, place: int) -> UInt8Image:
        """See `ClipFrames`."""
        try:
            return _image(self.frames.read(self.clip, place + 1))
        except (FrameError, ValueError) as error:
            raise _refusal(self.frames.where(self.clip, place + 1), error) from None

    def file_state(self) -> str:
        """See `ClipFrames`."""
        return self.frames.file_state(self.clip)


def frame_number(path: Path) -> int | None:
    """The number at the end of a PNG's name, 7 for `im7.png`; None where there is none."""
    found = _NUMBER.search(path.name)
    return int(found[1]) if found else None


def folders_of_frames(root: Path) -> dict[str, list[Path]]:
    """The PNGs of each folder below `root`, by the folder's path from there; sorted by name."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() == ".png" and path.parent != root and path.is_file():
            folders.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    return folders


def _image(content: bytes) -> UInt8Image:
    return decode(content, read_size(content))


def _refusal(where: str, error: Exception) -> SourceError:
    return SourceError(
        f"{where}: {error}", remedy="replace the file, or convert it to a PNG of 8-bit RGB"
    )


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more
