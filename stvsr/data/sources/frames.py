"""Folders of numbered images as a source of clips: Vid4, REDS, SPMC, or anybody's frames.

The images of a folder whose names differ in numbers alone are a video. The last number that differs
is a frame's, and takes the place of its time: a gap in it ends a segment. Numbers that differ
before it name several videos in one folder (`a1_0001.png`, `a2_0001.png`).

Images become 8-bit RGB by these rules: of 16-bit samples the upper 8 bits are taken; grey and
palettes become RGB; an alpha channel is dropped where all of it is opaque, and its image is left
out otherwise; a JPEG is turned as its Exif orientation says.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.clips.layout import LeftOut, SourceRecord
from stvsr.data.sources.cutting import CutConfig, cut_into_clips, visible
from stvsr.data.sources.scenes import THUMBNAIL
from stvsr.video.geometry import Geometry
from stvsr.video.reader import DAMAGED, VideoError, open_regular, shown_name
from stvsr.video.repeats import Changes
from stvsr.video.segments import REPEATED, ScannedFrame

SUFFIXES = (".jpeg", ".jpg", ".png")

FORMATS = ("JPEG", "PNG")

TRANSPARENT = "transparent pixels: flatten it first"

_PLAIN_MODES = ("1", "L", "P", "RGB")
_ALPHA_MODES = ("LA", "PA", "RGBA")

Pattern = tuple[str, ...]
"""A name without its numbers and suffix, split where they were."""


class _UnfitError(Exception):
    """Reason why an image cannot be used; it never leaves this module."""


class FrameFolder:
    """A `stvsr.data.sources.cutting.Video` of numbered images.

    Attributes:
        name: the folder's, and the pattern of the names where it holds several videos.
    """

    def __init__(self, name: str, images: Sequence[tuple[int, Path]]) -> None:
        """Take the images, each with its number, in order."""
        self.name = name
        self.note = self.damage = ""
        self.expected = len(images)
        self._images = images
        self._frames: list[ScannedFrame] = []

    @property
    def frames(self) -> Sequence[ScannedFrame]:
        """The scan's findings."""
        return self._frames

    def place(self, number: int) -> str:
        """Name of frame `number`'s file."""
        return shown_name(self._images[number][1].name)

    def scan(self) -> Iterator[tuple[int, UInt8Image]]:
        """Read every image; yield number and thumbnail of those that can be used."""
        changes = Changes()
        for at, (number, path) in enumerate(self._images):
            geometry, fault = None, ""
            image = np.zeros((1, 1, 3), np.uint8)
            try:
                image = read_image(path)
                geometry = Geometry(image.shape[1], image.shape[0])
            except _UnfitError as error:
                fault = str(error)
            changes.add(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8))
            self._frames.append(ScannedFrame(Fraction(number), geometry, fault))
            if not fault:
                yield at, _thumbnail(image)
        self._mark_repeats(changes)

    def read(self, numbers: Sequence[int]) -> Iterator[UInt8Image]:
        """Read again; yield the images at these places, in order, upright RGB (H, W, 3)."""
        for at in numbers:
            try:
                yield read_image(self._images[at][1])
            except _UnfitError:
                return

    def _mark_repeats(self, changes: Changes) -> None:
        for at, frame in enumerate(self._frames):
            if not frame.fault and changes.is_repeat(at):
                self._frames[at] = ScannedFrame(frame.time, frame.geometry, REPEATED)


def cut_frames(source: Path, config: CutConfig, out: Path) -> SourceRecord:
    """Cut folders of numbered images into clips, written to the empty folder `out`.

    Args:
        source: a folder that is searched to any depth; files and folders whose names begin with a
            dot are passed over.
        config: how they are cut.
        out: where clips, lists and record are written.

    Raises:
        SourceError: no image is found, or nothing can be cut from any folder for training or for
            testing; the text has the reason for each.
    """
    images = [path for path in visible(source) if path.suffix.lower() in SUFFIXES]
    if not images:
        raise SourceError(
            f"source.path: {shown_name(source)} holds no image; allowed with source.kind=frames: "
            f"a folder with folders of numbered images ({', '.join(SUFFIXES)})"
        )
    folders: dict[Path, list[Path]] = {}
    for path in images:
        folders.setdefault(path.parent, []).append(path)
    left_out: list[LeftOut] = []
    videos = []
    for folder, paths in folders.items():
        name = shown_name(
            folder.relative_to(source).as_posix() if folder != source else source.name
        )
        videos += _videos(name, paths, left_out)
    return cut_into_clips(videos, "frames", source, config, out, left_out)


def read_image(path: Path) -> UInt8Image:
    """Read a PNG or JPEG as upright 8-bit RGB (H, W, 3), by the rules of this module."""
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except VideoError as error:
        raise _UnfitError(error.reason) from None
    except UnidentifiedImageError:
        raise _UnfitError("not a PNG or JPEG image") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _UnfitError(DAMAGED) from None


def _rgb(image: Image.Image) -> UInt8Image:
    if image.mode == "I;16":
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), np.uint8)
        if rgba[..., 3].min() < 255:
            raise _UnfitError(TRANSPARENT)
        return rgba[..., :3]
    if image.mode not in _PLAIN_MODES:
        raise _UnfitError(f"{image.mode} pixels: convert it to RGB first")
    return np.asarray(image.convert("RGB"), np.uint8)


def _thumbnail(image: UInt8Image) -> UInt8Image:
    small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return np.asarray(small[..., ::-1], np.uint8)


def _videos(folder: str, paths: Sequence[Path], left_out: list[LeftOut]) -> list[FrameFolder]:
    """The videos of one folder's images."""
    by_pattern: dict[Pattern, list[tuple[tuple[int, ...], Path]]] = {}
    for path in paths:
        parts = re.split(r"([0-9]+)", path.stem)
        if len(parts) == 1:
            what = f"{folder}/{shown_name(path.name)}"
            left_out.append(LeftOut(what=what, why="no number in its name"))
            continue
        numbers = tuple(int(digits) for digits in parts[1::2])
        by_pattern.setdefault(tuple(parts[::2]), []).append((numbers, path))
    found = [item for images in by_pattern.values() for item in _by_number(images)]
    return [
        video
        for images in found
        if (video := _video(folder, images, left_out, is_one_of_many=len(found) > 1))
    ]


def _by_number(images: list[tuple[tuple[int, ...], Path]]) -> list[list[tuple[int, Path]]]:
    """Split images of one pattern where another number than the last that differs differs."""
    columns = list(zip(*(numbers for numbers, _ in images), strict=True))
    varying = [at for at, column in enumerate(columns) if len(set(column)) > 1]
    last = varying[-1] if varying else len(columns) - 1
    found: dict[tuple[int, ...], list[tuple[int, Path]]] = {}
    for numbers, path in images:
        others = numbers[:last] + numbers[last + 1 :]
        found.setdefault(others, []).append((numbers[last], path))
    return [sorted(items) for _, items in sorted(found.items())]


def _video(
    folder: str,
    images: list[tuple[int, Path]],
    left_out: list[LeftOut],
    *,
    is_one_of_many: bool,
) -> FrameFolder | None:
    """One video; None, and left out, where two of its images have the same number."""
    first = shown_name(images[0][1].name)
    name = f"{folder}/{first}" if is_one_of_many else folder
    for (number, path), (other, twin) in pairwise(images):
        if number == other:
            pair = f"{shown_name(path.name)}, {shown_name(twin.name)}"
            left_out.append(LeftOut(what=name, why=f"number {number} is there twice ({pair})"))
            return None
    return FrameFolder(name, images)
