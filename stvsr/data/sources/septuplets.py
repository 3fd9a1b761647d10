"""Choice of the frames that become clips, and of their split: pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from stvsr.core.clip import SEPTUPLET
from stvsr.video.segments import SCENE_CUT, Segment

FrameNumbers = tuple[int, ...]
"""The numbers of a clip's seven frames in its video."""


@dataclass(frozen=True)
class Plan:
    """The clips of one video, in order.

    Attributes:
        train: for training.
        test: for testing; all of them later in the video than any of training.
    """

    train: tuple[FrameNumbers, ...] = ()
    test: tuple[FrameNumbers, ...] = ()


def span(frame_step: int) -> int:
    """Frames of a segment from a clip's first to its last, both counted."""
    return (SEPTUPLET - 1) * frame_step + 1


def plan_clips(segments: Sequence[Segment], frame_step: int, test_share: float) -> Plan:
    """Cut a video's segments into clips that share no frame; the end of the video is for testing.

    The split falls on the scene cut nearest to the wanted place, if one leaves between half and
    twice the wanted share for testing. Otherwise it falls inside a scene, and as many frames as a
    clip spans are left out before it. A video too short for that is for training alone.

    Args:
        segments: the frames that can be used.
        frame_step: a clip takes every so many-th frame.
        test_share: share of the frames, at the end, that is for testing.
    """
    length = span(frame_step)
    segments = [segment for segment in segments if len(segment.frames) >= length]
    begins = list(accumulate((len(segment.frames) for segment in segments), initial=0))
    cuts = [at for at, s in zip(begins, segments, strict=False) if at and s.begins == SCENE_CUT]
    train_end, test_start = _split(begins[-1], cuts, length, test_share)
    train: list[FrameNumbers] = []
    test: list[FrameNumbers] = []
    for begin, segment in zip(begins, segments, strict=False):
        train += _clips(segment.frames[: max(0, train_end - begin)], frame_step)
        test += _clips(segment.frames[max(0, test_start - begin) :], frame_step)
    return Plan(tuple(train), tuple(test))


def _split(frames: int, cuts: Sequence[int], length: int, share: float) -> tuple[int, int]:
    """End of the training part and start of the testing part, counted in usable frames."""
    if share == 0.0 or frames < 3 * length:
        return frames, frames
    wanted = min(round(frames * (1.0 - share)), frames - length)
    near = [cut for cut in cuts if share / 2 <= 1.0 - cut / frames <= share * 2]
    if near:
        cut = min(near, key=lambda cut: abs(cut - wanted))
        return cut, cut
    return wanted - length, wanted


def _clips(frames: FrameNumbers, frame_step: int) -> list[FrameNumbers]:
    """The clips that fit into a segment, one after the other."""
    length = span(frame_step)
    starts = range(0, len(frames) - length + 1, length)
    return [frames[start : start + length : frame_step] for start in starts]
