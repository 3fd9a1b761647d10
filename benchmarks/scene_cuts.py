"""How well do the detectors of PySceneDetect find scene cuts?

    python -m benchmarks.scene_cuts FOLDER

FOLDER has videos. Pieces of them, of 12 to 40 frames, are joined at random places into sequences
whose cuts are known; a piece is taken within one scene of both kinds of detector, so that a cut of
the video itself counts for neither. A cut is found if it is reported at its frame.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import head
from stvsr.data.sources.scenes import THUMBNAIL, CutDetector

SIZE = (320, 180)

Frame = NDArray[np.uint8]
Detector = Callable[[Sequence[Frame]], set[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sequences", type=int, default=20)
    options = parser.parse_args()
    videos = {path.name: frames_of(path) for path in sorted(options.folder.glob("*.*"))}
    detectors = {"ours: adaptive, on thumbnails": ours, **scenedetect_detectors()}
    within = {name: segments(frames, detectors) for name, frames in videos.items()}
    found = dict.fromkeys(detectors, 0)
    false = dict.fromkeys(detectors, 0)
    cuts = frames = 0
    for seed in range(options.sequences):
        sequence, joins = joined(videos, within, random.Random(seed))
        cuts, frames = cuts + len(joins), frames + len(sequence)
        for name, detect in detectors.items():
            reported = detect(sequence)
            found[name] += len(reported & joins)
            false[name] += len(reported - joins)
    print("\n".join(page(found, false, cuts, frames)))


def frames_of(path: Path) -> list[Frame]:
    with av.open(path) as container:
        return [
            np.asarray(frame.reformat(*SIZE, "bgr24").to_ndarray(), np.uint8)
            for frame in container.decode(video=0)
        ]


def ours(frames: Sequence[Frame]) -> set[int]:
    detector = CutDetector()
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(frame, format="bgr24")
        small = picture.reformat(*THUMBNAIL, "bgr24", interpolation="AREA")
        detector.add(np.asarray(small.to_ndarray(), np.uint8))
    return set(detector.cuts)


def scenedetect_detectors() -> dict[str, Detector]:
    from scenedetect import FrameTimecode  # type: ignore[import-untyped]
    from scenedetect.detectors import (  # type: ignore[import-untyped]
        AdaptiveDetector,
        ContentDetector,
        HistogramDetector,
    )

    def run(make: Callable[[], object]) -> Detector:
        def detect(frames: Sequence[Frame]) -> set[int]:
            detector = make()
            reported: list[FrameTimecode] = []
            for number, frame in enumerate(frames):
                reported += detector.process_frame(FrameTimecode(number, 25.0), frame)  # type: ignore[attr-defined]
            return {int(cut.frame_num) for cut in reported}

        return detect

    return {
        "PySceneDetect, content": run(lambda: ContentDetector(min_scene_len=1)),
        "PySceneDetect, adaptive": run(lambda: AdaptiveDetector(min_scene_len=1)),
        "PySceneDetect, histogram": run(lambda: HistogramDetector(min_scene_len=1)),
    }


def segments(frames: Sequence[Frame], detectors: dict[str, Detector]) -> list[tuple[int, int]]:
    """Parts of a video in which no detector finds a cut at its default threshold."""
    cuts = sorted({0, len(frames)}.union(*(detect(frames) for detect in detectors.values())))
    return [(begin, end) for begin, end in pairwise(cuts) if end - begin >= 12]


def joined(
    videos: dict[str, list[Frame]], within: dict[str, list[tuple[int, int]]], chance: random.Random
) -> tuple[list[Frame], set[int]]:
    """Twelve pieces in a row, neighbours from different segments, and where they join."""
    sequence: list[Frame] = []
    joins: set[int] = set()
    last = None
    for _ in range(12):
        choices = [(n, s) for n, found in within.items() for s in found if (n, s) != last]
        last = name, (begin, end) = chance.choice(choices)
        length = chance.randint(12, min(40, end - begin))
        start = chance.randint(begin, end - length)
        if sequence:
            joins.add(len(sequence))
        sequence += videos[name][start : start + length]
    return sequence, joins


def page(found: dict[str, int], false: dict[str, int], cuts: int, frames: int) -> list[str]:
    return [
        *head("Scene cuts found in joined pieces of real videos", "scene_cuts"),
        f"{cuts} cuts in {frames} frames.",
        "",
        "| detector | found | missed | false |",
        "|---|---|---|---|",
        *(f"| {n} | {found[n]} | {cuts - found[n]} | {false[n]} |" for n in found),
    ]


if __name__ == "__main__":
    main()
