"""Numbered images as frames: a folder of them, or a pattern such as FOLDER/f_%04d.png."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import av

from stvsr.core.errors import InputError
from stvsr.core.files import is_side_file, open_regular
from stvsr.video.coding import Coding, Plane, coding_of, to_rgb
from stvsr.video.geometry import upright
from stvsr.video.reader import geometry_of, shown_name

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Files of a folder that are taken for frames."""

DEMUXERS = "png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,webp_pipe"
"""Formats of one image."""

LARGEST = 1 << 27
"""Pixels of an image at most."""

PATTERN = re.compile(r"%(0(?P<digits>\d))?d")
"""The part of a pattern that stands for the number."""

_NUMBER = re.compile(r"(\d+)(?=\.[^.]*$)")
_LISTED = 5


def is_pattern(name: str) -> bool:
    """True for a name with a place for a number."""
    return PATTERN.search(name) is not None


def find_images(given: str) -> list[Path]:
    """The images of a folder or a pattern, in the order of their numbers.

    Raises:
        InputError: there are none, a number is missing or comes twice, or a name has none.
    """
    path = Path(given)
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise InputError(f"{shown_name(folder)}: no such folder; give a folder of numbered images")
    names = None if path.is_dir() else names_of(path.name)
    found = [
        file
        for file in folder.iterdir()
        if not is_side_file(file.name)
        and (names.fullmatch(file.name) if names else file.suffix.lower() in SUFFIXES)
    ]
    if not found:
        raise InputError(
            f"{shown_name(given)}: found no image; expected files such as 000001.png "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    numbers: dict[Path, int] = {}
    for file in found:
        number = (names.fullmatch if names else _NUMBER.search)(file.name)
        if number is None:
            raise InputError(f"{shown_name(file)}: found no number before the suffix; rename it")
        numbers[file] = int(number[1])
    _check_numbers(given, sorted(numbers.values()))
    return sorted(found, key=lambda file: numbers[file])


def names_of(pattern: str) -> re.Pattern[str]:
    """The names that a pattern stands for; group 1 is the number."""
    found = PATTERN.search(pattern)
    if found is None:
        raise ValueError(pattern)
    before, after = pattern[: found.start()], pattern[found.end() :]
    number = rf"(\d{{{found['digits']},}})" if found["digits"] else r"(\d+)"
    return re.compile(re.escape(before) + number + re.escape(after))


def numbered_name(pattern: str, number: int) -> str:
    """The name of one image of a pattern."""
    found = PATTERN.search(pattern)
    if found is None:
        raise ValueError(pattern)
    width = int(found["digits"] or 0)
    return f"{pattern[: found.start()]}{number:0{width}d}{pattern[found.end() :]}"


def _check_numbers(given: str, numbers: Sequence[int]) -> None:
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        raise InputError(
            f"{shown_name(given)}: found twice: image {_some(twice)}; leave one of each, or give a "
            "pattern such as FOLDER/f_%04d.png"
        )
    absent: list[int] = []
    for before, after in pairwise(numbers):
        absent += range(before + 1, min(after, before + 1000))
    if absent:
        raise InputError(
            f"{shown_name(given)}: missing between {numbers[0]} and {numbers[-1]}: image "
            f"{_some(absent)}; put it back, or number the images anew"
        )


def _some(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more


def check_sizes(paths: Sequence[Path]) -> None:
    """Refuse images of different sizes, from their headers.

    Raises:
        InputError: two differ, or one is no image; the text names it.
    """
    first: tuple[int, int] | None = None
    for path in paths:
        size = _size(path)
        first = first or size
        if size != first:
            raise InputError(
                f"{shown_name(path)}: found {size[0]}x{size[1]} pixels, expected "
                f"{first[0]}x{first[1]} as in {shown_name(paths[0].name)}; "
                "upscale images of each size on their own"
            )


def read_image(path: Path) -> tuple[Plane, Coding, Fraction]:
    """An image as upright RGB (3, H, W) in [0, 1], its coding, and its pixels' aspect.

    Raises:
        InputError: it is missing, damaged, too large or transparent.
    """
    frame, codec, aspect = _decode(path)
    coding = coding_of(frame, codec)
    geometry = geometry_of(frame, aspect)
    if geometry is None:
        raise InputError(f"{shown_name(path)}: turned by an odd angle; turn it upright first")
    try:
        rgb = to_rgb(frame, coding)
    except ValueError as error:
        raise InputError(f"{shown_name(path)}: {error}") from None
    return upright(rgb, geometry), coding, geometry.upright_aspect


def with_comment(png: bytes, comment: str) -> bytes:
    """A PNG with a comment in its metadata, after its header of 33 bytes."""
    chunk = b"tEXtComment\0" + comment.encode("latin-1", "replace")
    length, checksum = (number.to_bytes(4, "big") for number in (len(chunk) - 4, crc32(chunk)))
    return png[:33] + length + chunk + checksum + png[33:]


def _size(path: Path) -> tuple[int, int]:
    frame_size: tuple[int, int] | None = None
    with open_regular(path) as file:
        try:
            with av.open(file, "r", container_options={"format_whitelist": DEMUXERS}) as container:
                stream = container.streams.video[0]
                frame_size = (stream.width, stream.height)
        except (av.FFmpegError, ValueError, IndexError) as error:
            raise _refusal(path, error) from None
    _check_size(path, *frame_size)
    return frame_size


def _decode(path: Path) -> tuple[av.VideoFrame, str, Fraction]:
    with open_regular(path) as file:
        try:
            with av.open(file, "r", container_options={"format_whitelist": DEMUXERS}) as container:
                stream = container.streams.video[0]
                _check_size(path, stream.width, stream.height)
                stream.codec_context.options = {"err_detect": "+crccheck+explode"}
                frame = next(container.decode(stream))
                aspect = stream.sample_aspect_ratio or Fraction(1)
                return frame, stream.codec_context.name, Fraction(aspect)
        except (av.FFmpegError, ValueError, IndexError, StopIteration) as error:
            raise _refusal(path, error) from None


def _check_size(path: Path, width: int, height: int) -> None:
    if not 0 < width * height <= LARGEST:
        raise InputError(
            f"{shown_name(path)}: found {width}x{height} pixels; expected 1..{LARGEST} in all"
        )


def _refusal(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or "no picture"
    return InputError(f"{shown_name(path)}: not a readable image ({reason}); replace the file")
