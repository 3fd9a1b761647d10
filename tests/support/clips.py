"""Tiny synthetic clips in Vimeo-90K's layout."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.data.clips.layout import (
    SourceRecord,
    Split,
    frame_path,
    read_clip_list,
    split_list,
    write_clip_list,
    write_record,
)

TINY_TRAIN = 12
TINY_TEST = 3
TINY_WIDTH = 160
TINY_HEIGHT = 96


def write_clip(root: Path, clip: str, seed: int) -> None:
    """Seven frames of coloured noise that drifts one pixel to the right per frame."""
    rng = np.random.default_rng(seed)
    size = (TINY_HEIGHT // 8, (TINY_WIDTH + 16) // 8, 3)
    coarse = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
    scene = np.asarray(coarse.resize((TINY_WIDTH + 16, TINY_HEIGHT), Image.Resampling.BICUBIC))
    frame_path(root, clip, 1).parent.mkdir(parents=True)
    for frame in range(1, 8):
        window = scene[:, 8 - frame : 8 - frame + TINY_WIDTH]
        Image.fromarray(window).save(frame_path(root, clip, frame), compress_level=1)


def write_tiny_source(folder: Path, train: int = TINY_TRAIN, test: int = TINY_TEST) -> Path:
    """A source as `make_source` leaves it: clips of 160x96 in Vimeo-90K's layout."""
    names = [f"{1 + number // 5:05d}/{1 + number % 5:04d}" for number in range(train + test)]
    for seed, name in enumerate(names):
        write_clip(folder, name, seed)
    write_clip_list(split_list(folder, "train"), names[:train])
    write_clip_list(split_list(folder, "test"), names[train:])
    record = SourceRecord(
        kind="sample", train_clips=train, test_clips=test, provenance={"made by": "the tests"}
    )
    write_record(folder, record)
    return folder


HOLDING = os.pathsep.join(
    [str(Path(__file__).with_name("holding")), *filter(None, [os.environ.get("PYTHONPATH")])]
)
"""PYTHONPATH of processes that `held_up` holds up."""


@contextmanager
def held_up(source: Path, clip: str) -> Iterator[None]:
    """While the block runs, whoever packs the clip waits at its last frame, for ever.

    Holds up processes that are started in the block, or with `HOLDING` as their PYTHONPATH.
    """
    frame = frame_path(source, clip, 7)
    marker = frame.with_name(f"{frame.name}.held")
    marker.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", HOLDING)
        try:
            yield
        finally:
            marker.unlink()


def shorten_lists(folder: Path, train: int, test: int) -> None:
    """Keep only the first clips of a source's two lists."""
    counts: dict[Split, int] = {"train": train, "test": test}
    for split, count in counts.items():
        clips = read_clip_list(split_list(folder, split))
        write_clip_list(split_list(folder, split), clips[:count])
