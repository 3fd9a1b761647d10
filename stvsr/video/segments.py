"""Segments: frames of one scene and one size that are shown at even steps of time."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from fractions import Fraction

from stvsr.video.geometry import Geometry

REPEATED = "repeated"
"""The fault of a frame that repeats the one before it; it ends no segment."""

START = "start"
SCENE_CUT = "scene cut"
LEFT_OUT = "frames left out"
CHANGE_OF_SIZE = "change of size"
UNEVEN = "uneven time"

_CLOCK_ROUNDING = Fraction(3, 2000)
"""Seconds by which two steps differ where a container rounds times to milliseconds."""


@dataclass(frozen=True)
class ScannedFrame:
    """One frame, as a first pass over its video found it.

    Attributes:
        time: presentation time in seconds, on the stream's clock; None where the file has none.
        geometry: how it is shown; None: turned by an angle that is no multiple of 90 degrees.
        fault: why it must not be used; "" where nothing is wrong with it.
    """

    time: Fraction | None
    geometry: Geometry | None
    fault: str


@dataclass(frozen=True)
class Segment:
    """Frames that follow each other at even steps.

    Attributes:
        begins: why it begins where it does: `START`, `SCENE_CUT`, `LEFT_OUT`, `CHANGE_OF_SIZE` or
            `UNEVEN`.
        frames: their numbers, in order.
    """

    begins: str
    frames: tuple[int, ...]


def segments(frames: Sequence[ScannedFrame], scenes: Set[int] = frozenset()) -> list[Segment]:
    """Group the usable frames into segments: of one size, one scene, and shown at even steps.

    A repeated frame is dropped; any other fault, a change of size, a gap or an uneven step ends a
    segment. Steps are even if they differ by no more than a tenth, or by the clock's rounding.

    Args:
        frames: of a scan.
        scenes: numbers of frames at which a scene begins.
    """
    found: list[tuple[str, list[int]]] = []
    begins = START
    step: Fraction | None = None
    for number, frame in enumerate(frames):
        if number in scenes:
            begins = SCENE_CUT
        if frame.fault:
            begins = begins if begins or frame.fault == REPEATED else LEFT_OUT
            continue
        if not begins:
            last = frames[found[-1][1][-1]]
            begins = _break(last, frame, step)
            step = step or _step(last, frame)
        if begins:
            found.append((begins, []))
            begins, step = "", None
        found[-1][1].append(number)
    return [Segment(begins, tuple(numbers)) for begins, numbers in found]


def _break(last: ScannedFrame, frame: ScannedFrame, step: Fraction | None) -> str:
    """Why `frame` cannot be of the same segment as `last`; "" if it can."""
    if last.geometry != frame.geometry:
        return CHANGE_OF_SIZE
    taken = _step(last, frame)
    return "" if _is_even(step or taken, taken) else UNEVEN


def _step(last: ScannedFrame, frame: ScannedFrame) -> Fraction:
    if last.time is None or frame.time is None:
        raise ValueError("a frame without a time is in a segment")
    return frame.time - last.time


def _is_even(step: Fraction, other: Fraction) -> bool:
    return other > 0 and abs(other - step) <= max(step / 10, _CLOCK_ROUNDING)
