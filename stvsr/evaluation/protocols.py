"""Scoring protocols: windows of a clip that are passed to a network, and frames that count.

Published tables do not all score the same frames in the same roles; docs/protocols.md says which
table follows which protocol.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from stvsr.core.clip import SEPTUPLET, window_starts
from stvsr.core.errors import InputError, ParamsError


@dataclass(frozen=True)
class Window:
    """One pass of a network over a part of a clip. Frames are counted from 0.

    Attributes:
        inputs: frames of the clip whose LR the network is given, equally spaced.
        scored: frames of the clip whose score is taken from this pass.
    """

    inputs: tuple[int, ...]
    scored: tuple[int, ...]

    def place(self, frame: int) -> Fraction:
        """Place of a frame among the outputs of a network that doubles the rate.

        It is no whole number for a frame that such a network does not make.
        """
        step = self.inputs[1] - self.inputs[0]
        return Fraction(2 * (frame - self.inputs[0]), step)


@dataclass(frozen=True)
class Protocol:
    """The frames of a clip that count, and the window each is taken from.

    Attributes:
        name: its name on the command line.
        about: one line.
        span: frames of the clip from a window's first to its last.
        input_step: an input frame every so many frames of the clip.
        stride: frames from one window's first to the next one's.
        align_last: whether the frames after the last whole window are scored, from a window that
            ends with the clip.
        places: places in a window, from 0, that count.
        nearest_centre: where windows overlap, the prediction nearest to its window's centre
            counts; otherwise the first.
        weighs_folders: whether clips are averaged per folder, then folders.
        crop: pixels that are left out along each border.
    """

    name: str
    about: str
    span: int
    input_step: int
    stride: int
    align_last: bool
    places: tuple[int, ...]
    nearest_centre: bool = False
    weighs_folders: bool = False
    crop: int = 0

    def windows(self, frames: int) -> tuple[Window, ...]:
        """The windows of a clip of so many frames, in order; no frame is scored twice.

        Raises:
            InputError: the clip is shorter than one window.
        """
        if frames < self.span:
            raise InputError(
                f"found {frames} frames; protocol {self.name} needs at least {self.span}"
            )
        starts = window_starts(frames, self.span, self.stride, align_last=self.align_last)
        owners = self._owners(starts)
        scored: dict[int, list[int]] = {start: [] for start in starts}
        for frame in sorted(owners):
            scored[owners[frame]].append(frame)
        return tuple(
            Window(tuple(range(start, start + self.span, self.input_step)), tuple(scored[start]))
            for start in starts
            if scored[start]
        )

    def scored_frames(self, frames: int) -> tuple[int, ...]:
        """All frames of such a clip that count, in order; errors as `windows`."""
        return tuple(sorted(frame for window in self.windows(frames) for frame in window.scored))

    def _owners(self, starts: Iterable[int]) -> dict[int, int]:
        """The first frame of the window whose prediction counts, by frame."""
        owners: dict[int, int] = {}
        for start in starts:
            for place in self.places:
                frame = start + place
                if frame not in owners or (
                    self.nearest_centre
                    and self._from_centre(place) < self._from_centre(frame - owners[frame])
                ):
                    owners[frame] = start
        return owners

    def _from_centre(self, place: int) -> int:
        return abs(place - self.span // 2)


PROTOCOLS = (
    Protocol(
        name="stvsr",
        about="every frame of every clip; frames are averaged, then clips",
        span=SEPTUPLET,
        input_step=2,
        stride=SEPTUPLET - 1,
        align_last=True,
        places=tuple(range(SEPTUPLET)),
    ),
    Protocol(
        name="zsm",
        about="frames after a clip's last whole window are left out",
        span=SEPTUPLET,
        input_step=2,
        stride=SEPTUPLET - 1,
        align_last=False,
        places=tuple(range(SEPTUPLET)),
    ),
    Protocol(
        name="rstt",
        about="as stvsr, but clips are averaged per folder, then folders",
        span=SEPTUPLET,
        input_step=2,
        stride=SEPTUPLET - 1,
        align_last=True,
        places=tuple(range(SEPTUPLET)),
        weighs_folders=True,
    ),
    Protocol(
        name="videoinr-centre",
        about="windows of 9 frames, the first and the last go in; these two and the middle count",
        span=9,
        input_step=8,
        stride=8,
        align_last=False,
        places=(0, 4, 8),
    ),
    Protocol(
        name="videoinr-average",
        about="windows of 9 frames, the first and the last go in; all nine count",
        span=9,
        input_step=8,
        stride=8,
        align_last=False,
        places=tuple(range(9)),
    ),
    Protocol(
        name="vsr-centre",
        about="space only: every frame goes in, the middle one of 7 counts, 8 pixels cropped",
        span=SEPTUPLET,
        input_step=1,
        stride=1,
        align_last=False,
        places=tuple(range(SEPTUPLET)),
        nearest_centre=True,
        crop=8,
    ),
)


def find_protocol(name: str) -> Protocol:
    """The protocol `name`.

    Raises:
        ParamsError: there is none.
    """
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    allowed = ", ".join(protocol.name for protocol in PROTOCOLS)
    raise ParamsError(f"--protocol: found {name!r}; allowed: {allowed}; see docs/protocols.md")
