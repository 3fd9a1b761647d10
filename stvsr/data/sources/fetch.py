"""`stvsr fetch`: Vimeo-90K's zip and the motion lists, from where they are published."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.errors import SourceError
from stvsr.core.files import sha256_of
from stvsr.data.clips.frames import FrameError, ZipFrames
from stvsr.data.clips.layout import Split, parse_clip_list, split_list
from stvsr.data.sources.download import WAITS, download

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MotionList:
    """A published list of the test clips of one motion class.

    Attributes:
        name: of the file.
        clips: lines that hold a clip's name.
        sha256: of the file.
    """

    name: str
    clips: int
    sha256: str


@dataclass(frozen=True)
class Published:
    """Parts of a dataset.

    Attributes:
        zip_name: of the zip.
        zip_base: address that the zip's name is appended to.
        splits: clips that the zip's own lists must name.
        lists_base: address that the motion lists' names are appended to.
        lists: the motion lists.
    """

    zip_name: str
    zip_base: str
    splits: dict[Split, int]
    lists_base: str
    lists: tuple[MotionList, ...]


VIMEO90K = Published(
    zip_name="vimeo_septuplet.zip",
    zip_base="http://data.csail.mit.edu/tofu/dataset/",
    splits={"train": 64612, "test": 7824},
    lists_base="https://raw.githubusercontent.com/Mukosame/Zooming-Slow-Mo-CVPR-2020/master/"
    "datasets/meta_info/",
    lists=(
        MotionList(
            "fast_testset.txt",
            1225,
            "c75d7382228728c460f041eee220f4c9ba4444507a461203ab4b3cc2721853e2",
        ),
        MotionList(
            "medium_testset.txt",
            4977,
            "c89afd293f5112f4f94d779abf033b37459fcfe80941ef2413920e9d30c88a4f",
        ),
        MotionList(
            "slow_testset.txt",
            1613,
            "d14019e575a5367a2391621cab8dfdb34fc39cfcc3aa2ea1d75dff0ebb27cab7",
        ),
    ),
)
"""No hash of the zip is published: what is checked is its length, its directory and its lists."""


def fetch(
    published: Published, out: Path, mirror: str | None = None, waits: Sequence[float] = WAITS
) -> None:
    """Download what is not yet in `out`, and check all of it.

    After an interruption, the next call resumes.

    Args:
        published: the dataset.
        out: folder for the zip and, beside it, the motion lists; made where it is missing.
        mirror: address that has all the files, in place of the published ones.
        waits: seconds before each new try without progress.

    Raises:
        ServiceError: a server cannot be reached or refuses.
        SourceError: the disk has too little room, or a file is not the published one.
    """
    out.mkdir(parents=True, exist_ok=True)
    for motion_list in published.lists:
        url = _url(mirror or published.lists_base, motion_list.name)
        _fetch(url, out / motion_list.name, _ListCheck(motion_list), waits)
    url = _url(mirror or published.zip_base, published.zip_name)
    _fetch(url, out / published.zip_name, _ZipCheck(published), waits)
    logger.info("%s is whole: set source.kind=vimeo90k and source.path=%s", out, out)


def _url(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"


def _fetch(url: str, path: Path, check: "_ListCheck | _ZipCheck", waits: Sequence[float]) -> None:
    if path.is_file():
        try:
            check(path)
        except SourceError as fault:
            raise SourceError(f"{fault}; it was there before: remove it first") from None
        logger.info("%s: already there, and whole", path)
        return
    download(url, path, check, waits)


@dataclass(frozen=True)
class _ListCheck:
    """Check that a file is the published motion list."""

    expected: MotionList

    def __call__(self, path: Path) -> None:
        found = sha256_of(path)
        if found != self.expected.sha256:
            raise SourceError(
                f"{path}: not the published list of {self.expected.clips} clips (SHA-256 "
                f"{found[:8]}… instead of {self.expected.sha256[:8]}…); run this again, or "
                "name another mirror with --from"
            )
        logger.info("%s: %d clips, as published", self.expected.name, self.expected.clips)


@dataclass(frozen=True)
class _ZipCheck:
    """Check that a file is the whole zip; frames are not read, since `stvsr index` opens them."""

    expected: Published

    def __call__(self, path: Path) -> None:
        frames = ZipFrames(path)
        incomplete = 0
        for split, count in self.expected.splits.items():
            clips = _listed(path, frames, split)
            incomplete += sum(bool(frames.missing(clip)) for clip in clips)
            if len(clips) != count:
                raise SourceError(
                    f"{path}: its {split} list names {len(clips)} clips, the published one "
                    f"{count}; run this again, or name another mirror with --from"
                )
        logger.info(
            "%s: %d clips; its directory is whole and its lists are as long as published. No hash "
            "of it is published; `stvsr index` checks every frame",
            self.expected.zip_name,
            len(frames.directory.clips),
        )
        if incomplete:
            logger.warning("%s: %d listed clips lack frames", path, incomplete)


def _listed(path: Path, frames: ZipFrames, split: Split) -> list[str]:
    name = split_list(Path(), split).name
    try:
        content = frames.read_list(name)
    except FrameError as fault:
        raise SourceError(f"{path}: {name}: {fault}; run this again") from None
    return parse_clip_list(content or b"", f"{path}: {name}")
