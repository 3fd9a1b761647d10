"""The source stage: clips from wherever they are, brought to Vimeo-90K's layout."""

import logging
from pathlib import Path
from typing import Literal

from stvsr.core.config import Config, Field, FieldError, model_validator
from stvsr.core.errors import SourceError
from stvsr.core.files import whole_folder
from stvsr.data.clips.layout import SourceRecord
from stvsr.data.sources.cutting import CutConfig
from stvsr.data.sources.frames import cut_frames
from stvsr.data.sources.rendered import render_clips
from stvsr.data.sources.sample import make_sample
from stvsr.data.sources.videos import cut_videos
from stvsr.data.sources.vimeo90k import ALLOWED, use_vimeo90k

logger = logging.getLogger(__name__)

SAMPLE_PATH = "stvsr/data/sources/sample.py"
SAMPLE_SIZE = (448, 256)
SAMPLE_CLIPS = (60, 12)

SMALLEST_SIDE = 64
LARGEST_SIDE = 4096


class SourceConfig(Config):
    """Where clips come from."""

    kind: Literal["sample", "rendered", "videos", "frames", "vimeo90k"] = "sample"
    """`sample`: rendered from photographs that come with the installation. `rendered`: rendered
    from a folder of photographs, with more kinds of motion. `videos`: cut from video files.
    `frames`: cut from folders of numbered images. `vimeo90k`: the dataset, as its zip or
    unpacked."""
    path: str = SAMPLE_PATH
    """Input of the clips, which DVC watches: a folder with photographs in `train` and `test`; a
    video or a folder of videos; a folder of folders of images; the dataset's zip or folder; for the
    sample the program that renders it, and nothing else."""
    train_clips: int | None = Field(default=None, ge=1, le=1_000_000)
    """Clips for training; null: 60 where they are rendered, all there are for the others. A number
    is an upper bound there: so many are taken, evenly spread."""
    test_clips: int | None = Field(default=None, ge=1, le=1_000_000)
    """Clips for testing; null: 12 where they are rendered, all there are for the others."""
    size: tuple[int, int] = SAMPLE_SIZE
    """Width and height of the clips that are rendered or cut, multiples of 4; the sample has
    detail for no more than 448x256. The dataset keeps its own."""
    frame_step: int = Field(default=1, ge=1, le=60)
    """Videos and frames: a clip takes every so many-th frame of those that are shown at even times,
    so 2 halves the rate and doubles the motion. `clips.csv` has the times in seconds."""
    test_share: float = Field(default=0.2, ge=0.0, le=0.5)
    """Videos and frames: the share of each, at its end, that is for testing."""

    @model_validator(mode="after")
    def _path_fits_kind(self) -> "SourceConfig":
        if self.kind == "sample" and self.path != SAMPLE_PATH:
            raise FieldError(
                "path",
                f"found {self.path!r} with kind 'sample'; allowed with it: {SAMPLE_PATH!r}; for "
                "your own clips set kind to 'videos', 'frames', 'vimeo90k' or 'rendered' too",
            )
        if self.kind != "sample" and self.path == SAMPLE_PATH:
            raise FieldError(
                "path",
                f"found {self.path!r}, the sample's, with kind {self.kind!r}; allowed: the path "
                "of your videos, of your folders of frames or of the dataset's zip or folder",
            )
        return self

    @model_validator(mode="after")
    def _size_is_possible(self) -> "SourceConfig":
        sides_fit = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in self.size)
        if not sides_fit or any(side % 4 for side in self.size):
            raise FieldError(
                "size",
                f"found {list(self.size)}; allowed: [width, height], multiples of 4 from "
                f"{SMALLEST_SIDE} to {LARGEST_SIDE}",
            )
        too_large = self.size[0] > SAMPLE_SIZE[0] or self.size[1] > SAMPLE_SIZE[1]
        if self.kind == "sample" and too_large:
            raise FieldError(
                "size",
                f"found {list(self.size)} with kind 'sample'; its photographs have detail for no "
                f"more than {list(SAMPLE_SIZE)}",
            )
        return self


def make_source(config: SourceConfig, seed: int, out: Path) -> SourceRecord:
    """Make the clips, or the lists of them, in `out`, which appears whole or not at all.

    Args:
        config: where they come from.
        seed: decides the sample's scenes; the others do not depend on it.
        out: replaced as a whole by `stvsr.data.clips.layout`'s files.

    Raises:
        SourceError: `source.path` is missing or not what `source.kind` needs, or no clip can be
            made from it.
    """
    path = Path(config.path)
    if config.kind != "sample" and not path.exists():
        raise SourceError(
            f"source.path: {config.path} does not exist (looked in {Path.cwd()}); allowed with "
            f"source.kind={config.kind}: {_allowed(config)}"
        )
    with whole_folder(out) as folder:
        record = _make(config, path, seed, folder)
    logger.info(
        "%s: %d clips for training, %d for testing", out, record.train_clips, record.test_clips
    )
    return record


def _make(config: SourceConfig, path: Path, seed: int, out: Path) -> SourceRecord:
    match config.kind:
        case "sample":
            train_clips = config.train_clips or SAMPLE_CLIPS[0]
            test_clips = config.test_clips or SAMPLE_CLIPS[1]
            return make_sample(train_clips, test_clips, config.size, seed, out)
        case "rendered":
            train_clips = config.train_clips or SAMPLE_CLIPS[0]
            test_clips = config.test_clips or SAMPLE_CLIPS[1]
            return render_clips(path, train_clips, test_clips, config.size, seed, out)
        case "videos":
            return cut_videos(path, _cut_config(config), out)
        case "frames":
            return cut_frames(path, _cut_config(config), out)
        case "vimeo90k":
            return use_vimeo90k(path, config.train_clips, config.test_clips, out)


def _cut_config(config: SourceConfig) -> CutConfig:
    return CutConfig(
        size=config.size,
        frame_step=config.frame_step,
        test_share=config.test_share,
        train_clips=config.train_clips,
        test_clips=config.test_clips,
    )


def _allowed(config: SourceConfig) -> str:
    if config.kind == "rendered":
        return "a folder with the folders train and test of photographs"
    if config.kind == "frames":
        return "a folder with folders of numbered images"
    if config.kind == "videos":
        return "a video file, or a folder that holds some"
    return ALLOWED
