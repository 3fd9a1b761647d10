"""Windows: the frames of a scene in overlapping groups, each of which a network takes at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Consecutive frames of one scene, and the part of their output that is kept.

    Attributes:
        frames: what the network takes, T_in of them.
        start: place, among the window's output frames, of the first one that is kept.
        stop: place after the last one that is kept.
    """

    frames: tuple[Item, ...]
    start: int
    stop: int


def windows(
    frames: Iterable[Item], length: int, overlap: int, time: int = 2
) -> Iterator[Window[Item]]:
    """Group the frames of one scene; the output that is kept covers the scene once, in order.

    Two windows share `overlap` frames, the last two of a scene as many as it takes; what is kept
    changes from one to the other in the middle of what they share. A scene of up to `length`
    frames is one window. No more than `2 * length - overlap` frames are held.

    Args:
        frames: of one scene, in order.
        length: frames of a window, at least 2.
        overlap: frames that two windows share, 1..length - 1.
        time: output frames from one frame of a window to the next.
    """
    step = length - overlap
    held: list[Item] = []
    start = 0
    for frame in frames:
        held.append(frame)
        if len(held) == length + step:
            stop = time * (length - 1 + step) // 2
            yield Window(tuple(held[:length]), start, stop)
            del held[:step]
            start = stop - time * step
    shift = len(held) - length
    if shift > 0:
        stop = time * (length - 1 + shift) // 2
        yield Window(tuple(held[:length]), start, stop)
        del held[:shift]
        start = stop - time * shift
    if held:
        yield Window(tuple(held), start, time * (len(held) - 1) + 1)
