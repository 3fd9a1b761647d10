"""Choice of the frames that become clips, and of their split: pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stvsr.core.clip import SEPTUPLET


@dataclass(frozen=True)
class Plan:
    """The clips of one video, each by its first frame (from 0), in order.

    Attributes:
        train: for training.
        test: for testing; all of them later in the video than any of training.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def span(frame_step: int) -> int:
    """Frames of the video from a clip's first to its last, both counted."""
    return (SEPTUPLET - 1) * frame_step + 1


def plan_clips(frames: int, cuts: Sequence[int], frame_step: int, test_share: float) -> Plan:
    """Cut a video's scenes into clips that share no frame; the last segment is for testing.

    The split falls on the scene change nearest to the wanted place, if one leaves between half
    and twice the wanted share for testing. Otherwise it falls inside a scene, and as many frames
    as a clip spans are left out before it. A video too short for that is for training alone.

    Args:
        frames: number of frames.
        cuts: frames at which a new scene begins, in order, without 0.
        frame_step: a clip takes every so many-th frame.
        test_share: share of the frames, at the end, that is for testing.
    """
    train_end, test_start = _split(frames, cuts, span(frame_step), test_share)
    train: list[int] = []
    test: list[int] = []
    for begin, end in pairwise((0, *cuts, frames)):
        train += _clips(begin, min(end, train_end), span(frame_step))
        test += _clips(max(begin, test_start), end, span(frame_step))
    return Plan(tuple(train), tuple(test))


def _split(frames: int, cuts: Sequence[int], length: int, share: float) -> tuple[int, int]:
    """End of the training part and start of the testing part, as frame numbers."""
    if share == 0.0 or frames < 3 * length:
        return frames, frames
    wanted = min(round(frames * (1.0 - share)), frames - length)
    near = [cut for cut in cuts if share / 2 <= 1.0 - cut / frames <= share * 2]
    if near:
        cut = min(near, key=lambda cut: abs(cut - wanted))
        return cut, cut
    return wanted - length, wanted


def _clips(begin: int, end: int, length: int) -> range:
    """First frames of the clips that fit between `begin` and `end`."""
    return range(begin, end - length + 1, length)
