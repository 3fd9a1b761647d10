"""Scenes to render, one per clip, and the clips of a source that is rendered from them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator

from stvsr.core.workers import available_cores, map_parallel
from stvsr.data.clips.layout import (
    FRAMES,
    MOTIONS,
    Motion,
    SourceRecord,
    Split,
    clip_name,
    frame_path,
    motion_list,
    split_list,
    write_clip_list,
    write_record,
)

FIRST_FOLDER: dict[Split, int] = {"train": 1, "test": 501}


@dataclass(frozen=True)
class Scene:
    """One clip to render: a pure function of these values.

    Attributes:
        split: train or test.
        number: of the clip in its split, from 0.
        seed: of the source.
        size: width and height of the frames.
        photographs: names or paths of the split's photographs, as the source reads them.
    """

    split: Split
    number: int
    seed: int
    size: tuple[int, int]
    photographs: tuple[str, ...] = ()

    @property
    def clip(self) -> str:
        """Name of the clip."""
        return clip_name(FIRST_FOLDER[self.split], self.number)

    @property
    def motion(self) -> Motion:
        """Motion class; the classes take turns."""
        return MOTIONS[self.number % len(MOTIONS)]

    def random(self) -> Generator:
        """Random numbers of this clip alone, from their beginning."""
        return np.random.default_rng([self.seed, FIRST_FOLDER[self.split], self.number])


Draw = Callable[[Scene], Iterable[bytes]]
"""Draws a scene: its seven frames as PNG files. It is called in worker processes."""


def render_scenes(
    draw: Draw,
    clips: Mapping[Split, int],
    photographs: Mapping[Split, tuple[str, ...]],
    size: tuple[int, int],
    seed: int,
    out: Path,
) -> None:
    """Render clips into the empty folder `out`, on all cores, and list them.

    Clip n of a seed is the same however many are rendered.

    Args:
        draw: a function of a module.
        clips: to render, for each split.
        photographs: of each split.
        size: width and height of the frames.
        seed: decides every scene.
        out: where the layout of `stvsr.data.clips.layout` is written.
    """
    scenes = {
        split: [Scene(split, number, seed, size, photographs[split]) for number in range(count)]
        for split, count in clips.items()
    }
    jobs = [(draw, scene, out) for of_split in scenes.values() for scene in of_split]
    for _ in map_parallel(_render, jobs, available_cores(), "rendering clips"):
        pass
    for split, of_split in scenes.items():
        write_clip_list(split_list(out, split), [scene.clip for scene in of_split])
        for motion in MOTIONS:
            moved = [scene.clip for scene in of_split if scene.motion == motion]
            write_clip_list(motion_list(out, motion, split), moved)


def write_rendered_record(
    kind: Literal["sample", "rendered"],
    clips: Mapping[Split, int],
    photographs: Mapping[Split, Sequence[str]],
    size: tuple[int, int],
    seed: int,
    out: Path,
) -> SourceRecord:
    """Write the record of a rendered source; `photographs` as they are to be named."""
    record = SourceRecord(
        kind=kind,
        train_clips=clips["train"],
        test_clips=clips["test"],
        provenance={
            "made by": f"stvsr/data/sources/{kind}.py",
            "seed": str(seed),
            "size": f"{size[0]}x{size[1]}",
            **{f"{split} photographs": ", ".join(names) for split, names in photographs.items()},
        },
    )
    write_record(out, record)
    return record


def _render(job: tuple[Draw, Scene, Path]) -> None:
    """Draw one clip and write its seven PNG files below a folder."""
    draw, scene, out = job
    cv2.setNumThreads(1)
    for frame, content in zip(FRAMES, draw(scene), strict=True):
        path = frame_path(out, scene.clip, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
