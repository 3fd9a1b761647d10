"""Pictures of a few clips, taken while they are scored: a frame, and a temporal profile.

Clip, frame and place are chosen from the set and its ground truth alone, so that scores of other
methods on the same set have pictures of the same, which `stvsr table` puts side by side.
"""

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stvsr.core.config import Config, Count
from stvsr.core.errors import SourceError
from stvsr.core.files import write_bytes_whole, write_text_whole
from stvsr.core.image import UInt8Image
from stvsr.data.clips.frames import FrameError, read_frame_file
from stvsr.data.clips.layout import spread
from stvsr.data.clips.png import decode, read_size
from stvsr.evaluation.pictures import busiest_crop
from stvsr.evaluation.protocols import Protocol, Window
from stvsr.evaluation.sets import SetClip

PICTURES_FOLDER = "pictures"
"""Folder of the pictures in that of a score."""

PICTURED = 3
"""Clips that have pictures, evenly spread over the set's."""

PROFILE_FRAMES = 64
"""Frames of a temporal profile at most, from the first one that is scored."""

PROFILE_WIDTH = 192
"""Columns of a temporal profile at most."""

METHODS = ("truth", "bicubic_linear", "method")
"""Whose frames the pictures are, as in their files' names."""


class PicturedClip(Config):
    """Description of a clip's pictures: the content of NN.json."""

    clip: str
    """Name of the clip."""
    frame: Count
    """Place in the clip, from 1, of the frame that is shown: the middle one, interpolated if the
    protocol scores such frames."""
    row: Count
    """Row of the frames, from 0, that the temporal profile shows over time: a line for each scored
    frame."""
    left: Count
    """First column of the profile, from 0."""


class Pictures:
    """The pictures of a score that is being made, in a hidden folder beside the result."""

    def __init__(self, out: Path, clips: Sequence[SetClip]) -> None:
        out = out.resolve()
        self.folder = out.with_name(f".{out.name}.{PICTURES_FOLDER}")
        chosen = spread(clips, PICTURED)
        self._numbers = {clip.name: number for number, clip in enumerate(chosen, start=1)}

    def of(self, clip: SetClip, protocol: Protocol) -> "ClipPictures | None":
        """Takes a clip's pictures; None for one that shall have none."""
        number = self._numbers.get(clip.name)
        return ClipPictures(clip, protocol, self.folder / f"{number:02d}") if number else None

    def are_there(self, clip: SetClip) -> bool:
        """True if the clip has its pictures, or shall have none."""
        number = self._numbers.get(clip.name)
        return number is None or (self.folder / f"{number:02d}.json").is_file()

    def copy_to(self, folder: Path) -> None:
        """Put them into the result."""
        shutil.copytree(self.folder, folder / PICTURES_FOLDER)

    def remove(self) -> None:
        """Forget them, when the result is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)


class ClipPictures:
    """Takes the pictures of one clip."""

    def __init__(self, clip: SetClip, protocol: Protocol, stem: Path) -> None:
        self._clip = clip.name
        self._frame = pictured_frame(protocol, len(clip.hr))
        self._stem = stem
        self._pictures: dict[str, UInt8Image] = {}
        self._lines: dict[str, list[UInt8Image]] = {name: [] for name in METHODS}
        self._place: tuple[int, int] | None = None

    def add(self, window: Window, frames: Mapping[str, Tensor]) -> None:
        """Take the next window.

        Args:
            window: whose scored frames these are.
            frames: for each of `METHODS`, (n, 3, H, W), uint8.
        """
        if self._place is None:
            self._place = profile_place(frames["truth"].cpu())
        row, left = self._place
        room = PROFILE_FRAMES - len(self._lines["truth"])
        for name in METHODS:
            lines = frames[name][:room, :, row, left : left + PROFILE_WIDTH]
            self._lines[name] += [line.T.cpu().numpy() for line in lines]
            if self._frame in window.scored:
                frame = frames[name][window.scored.index(self._frame)]
                self._pictures[name] = frame.permute(1, 2, 0).cpu().numpy()

    def write(self) -> None:
        """Write the pictures, and last what they show."""
        row, left = self._place or (0, 0)
        for name in METHODS:
            path = self._stem.with_name(f"{self._stem.name}_{name}.png")
            write_bytes_whole(path, picture_png(self._pictures[name]))
            path = self._stem.with_name(f"{self._stem.name}_profile_{name}.png")
            write_bytes_whole(path, picture_png(np.stack(self._lines[name])))
        shown = PicturedClip(clip=self._clip, frame=self._frame + 1, row=row, left=left)
        write_text_whole(self._stem.with_suffix(".json"), shown.model_dump_json(indent=1) + "\n")


def pictured_frame(protocol: Protocol, frames: int) -> int:
    """The middle frame, from 0, of those that are interpolated, or else of all that are scored."""
    windows = protocol.windows(frames)
    scored = sorted(frame for window in windows for frame in window.scored)
    inputs = {frame for window in windows for frame in window.inputs if frame in window.scored}
    chosen = [frame for frame in scored if frame not in inputs] or scored
    return chosen[len(chosen) // 2]


def profile_place(truth: Tensor) -> tuple[int, int]:
    """Row and first column of the temporal profile, through the part with most moving detail.

    Args:
        truth: the first window's ground truth, (n, 3, H, W), uint8.
    """
    width = truth.shape[-1]
    crop = busiest_crop(truth[0], truth[len(truth) // 2], truth[-1], PROFILE_WIDTH // 3)
    left = crop.left + crop.size // 2 - PROFILE_WIDTH // 2
    return crop.top + crop.size // 2, max(0, min(left, width - PROFILE_WIDTH))


def picture_png(image: UInt8Image) -> bytes:
    """A PNG file's bytes of an image (H, W, 3)."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, "PNG")
    return content.getvalue()


def read_pictured(folder: Path) -> dict[Path, PicturedClip]:
    """The pictured clips of a score's folder by the stem of their files; none in an older score.

    Raises:
        SourceError: one is damaged.
    """
    paths = sorted((folder / PICTURES_FOLDER).glob("*.json"))
    remedy = "run `stvsr score` again"
    return {path.with_suffix(""): PicturedClip.read(path, SourceError, remedy) for path in paths}


def read_picture(stem: Path, name: str) -> Tensor:
    """A picture of a clip, (3, H, W), uint8.

    Args:
        stem: key of `read_pictured`.
        name: one of `METHODS`, with "profile_" before it for the temporal profile.

    Raises:
        SourceError: it is missing or damaged.
    """
    path = stem.with_name(f"{stem.name}_{name}.png")
    try:
        content = read_frame_file(path)
        return torch.from_numpy(decode(content, read_size(content))).permute(2, 0, 1)
    except (FrameError, ValueError) as error:
        raise SourceError(f"{path}: {error}", remedy="run `stvsr score` again") from None
