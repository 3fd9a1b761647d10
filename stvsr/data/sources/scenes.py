"""Scene cuts of a video, by PySceneDetect's adaptive detector, and fades. Its only importer."""

import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode  # type: ignore[import-untyped]
from scenedetect.detectors import AdaptiveDetector  # type: ignore[import-untyped]

from stvsr.core.image import UInt8Image

THUMBNAIL = (128, 72)
"""Width and height of the pictures in which cuts are looked for."""

BINS = 32
"""Bins of the histograms that tell fades."""

AHEAD = 2
"""Frames after a cut that must be known before it is found."""

_RATE = 25.0
"""Frames are numbered, not timed, so any rate will do."""


class CutDetector:
    """The scene cuts of one video, found while its frames are decoded.

    A frame begins a scene when it differs from the one before it by much more than is usual in the
    frames around it, so that a shaking camera or a fast pan is not mistaken for cuts.

    Attributes:
        frames: number of frames that were added.
        cuts: numbers of the frames, from 0, at which a scene begins; 0 is not among them. A cut is
            known `AHEAD` frames later.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.cuts: list[int] = []
        self._detector = AdaptiveDetector(min_scene_len=1)

    def add(self, thumbnail: UInt8Image) -> None:
        """Take the next frame, a thumbnail (h, w, 3) in blue, green, red."""
        place = FrameTimecode(self.frames, _RATE)
        self.cuts += [int(cut.frame_num) for cut in self._detector.process_frame(place, thumbnail)]
        self.frames += 1


def shift(before: UInt8Image, after: UInt8Image) -> float:
    """Half the L1 distance of the smoothed grey histograms: 0 the same, 1 nothing in common."""
    return float(np.abs(_histogram(before) - _histogram(after)).sum() / 2)


def _histogram(grey: UInt8Image) -> NDArray[np.float64]:
    """Shares of the grey levels, smoothed so that a slight change of light moves little."""
    counts = np.bincount(grey.ravel(), minlength=256).reshape(BINS, -1).sum(axis=1)
    padded = np.pad(counts / counts.sum(), 1, mode="edge")
    return np.asarray((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)
