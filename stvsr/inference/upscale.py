"""Upscaling: a stream of frames through a network, with times and scenes kept apart."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, repeat
from operator import itemgetter

import torch
from torch import Tensor

from stvsr.core.errors import InputError, StvsrError
from stvsr.inference.scenes import Shown, numbered_scenes, without_repeats
from stvsr.inference.tiling import upscale_in_tiles
from stvsr.inference.windows import Window, windows
from stvsr.models import AnyTimeModel, StvsrModel

SPACES = (4, 2, 1)
"""Scales in height and width."""

FASTEST = 16
"""Scale of the rate at most."""

LONGEST_OUTPUT = 20
"""Output frames of a window, about, above twice the rate; at twice the rate it makes 11."""


@dataclass(frozen=True)
class Upscaling:
    """How frames are upscaled.

    Attributes:
        space: scale in height and width; 1 leaves the input frames as they are.
        time: scale of the rate; 1 makes no frames between, and more than 2 takes a network that
            makes frames at any time.
        window: frames that the network takes at once.
        window_overlap: frames that two windows share.
        tile: side of what the network takes at once, input pixels; memory follows from it.
        tile_overlap: pixels that two tiles share.
    """

    space: int = 4
    time: int = 2
    window: int = 6
    window_overlap: int = 2
    tile: int = 256
    tile_overlap: int = 32

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            expected = ", ".join(map(str, SPACES))
            raise InputError(f"space: found {self.space}; expected one of {expected}")
        if not 1 <= self.time <= FASTEST:
            raise InputError(f"time: found {self.time}; expected 1 to {FASTEST}")
        if self.space == self.time == 1:
            raise InputError("space and time: found 1 and 1, which changes nothing; raise one")
        if not 0 < self.window_overlap < self.window:
            raise InputError(
                f"window_overlap: found {self.window_overlap}; "
                f"expected 1..{self.window - 1}, less than the window"
            )
        if not 0 <= self.tile_overlap <= self.tile // 2:
            raise InputError(
                f"tile: found {self.tile} pixels; expected at least {2 * self.tile_overlap}, "
                "twice what two tiles share"
            )

    @property
    def per_gap(self) -> int:
        """Output frames of the network from one frame of a window to the next."""
        return max(2, self.time)

    @property
    def made(self) -> int:
        """Output frames of a window."""
        return self.per_gap * (self.window - 1) + 1

    @property
    def times(self) -> tuple[float, ...]:
        """Times of the frames that a network makes in each gap, 0 < t < 1."""
        return tuple(at / self.per_gap for at in range(1, self.per_gap))


def fit_to(how: Upscaling, model: StvsrModel) -> Upscaling:
    """The windows that a network takes for the rate that is wanted.

    Raises:
        InputError: it cannot make that rate.
    """
    if how.time <= 2:
        return how
    if not isinstance(model, AnyTimeModel):
        raise InputError(
            f"time: found {how.time}; {type(model).__name__} makes the frame in the middle of two: "
            "expected 1 or 2; for other rates take a model that makes frames at any time "
            "(stinet, tmnet, bicubic_linear)"
        )
    if not model.knows_other_times:
        raise InputError(
            f"time: found {how.time}; the weights of this {type(model).__name__} were trained for "
            "the frame in the middle of two alone: expected 1 or 2; for other rates import a "
            "published checkpoint"
        )
    longest = max(2, 1 + LONGEST_OUTPUT // how.time)  # memory grows with the frames that are made
    longest = min(longest, model.longest_window or longest)
    if how.window <= longest:
        return how
    return replace(how, window=longest, window_overlap=min(how.window_overlap, longest - 1))


def upscale(
    frames: Iterable[Tensor], model: StvsrModel, how: Upscaling | None = None, *, skip: int = 0
) -> Iterator[Tensor]:
    """Upscale a stream of frames; the frames between are evenly spaced between the input's.

    Windows of frames overlap and never cross a scene cut; the frames between two scenes repeat the
    one before them. A frame that repeats the one before it gives the same output again, and so do
    the frames between them. Frames are read as they are needed, so a stream may be of any length.

    Args:
        frames: (3, H, W), RGB in [0, 1], floating point, on any device; H and W may be odd, and
            may change.
        model: the network, on the device that is to work.
        how: scales, windows and tiles.
        skip: output frames, from the first, that are not needed: most are not computed, and come
            as empty tensors.

    Yields:
        For each input frame (3, space * H, space * W), float32 in [0, 1], on its device, and
        `time - 1` more between each two.

    Raises:
        InputError: a frame is not such a tensor, or the network cannot make that rate.
        StvsrError: the device has too little memory for a tile.
    """
    network = model.eval()
    how = fit_to(how or Upscaling(), network)
    made = 0
    pending: Tensor | None = None  # the frame between two scenes, if there is a next one
    for _, scene in groupby(numbered_scenes(map(_checked, frames)), key=itemgetter(0)):
        if pending is not None:
            yield from repeat(pending, how.time - 1)
            made += how.time - 1
        for frame in _upscale_scene(map(itemgetter(1), scene), network, how, skip - made):
            pending = frame
            yield frame
            made += 1


def _upscale_scene(
    frames: Iterable[Tensor], network: StvsrModel, how: Upscaling, skip: int
) -> Iterator[Tensor]:
    """The output frames of one scene."""
    place = 0
    shown = without_repeats(frames, exactly=how.space == 1)  # which leaves frames as they are
    for window in windows(shown, how.window, how.window_overlap, how.per_gap):
        counts = _counts(window, how)
        # the last frame is repeated up to the next scene, `time - 1` times
        if place + sum(counts) + how.time - 2 < skip:
            output = [window.frames[0].frame.new_empty(0)] * len(counts)
        else:
            output = _run(network, window, how)
        place += sum(counts)
        while output:  # a frame's memory is free when it was taken
            yield from repeat(output.pop(0), counts.pop(0))


def _counts(window: Window[Shown], how: Upscaling) -> list[int]:
    """How often each output frame that a window keeps is shown."""
    time, step = how.time, how.per_gap
    return [
        int(time > 1) if at % step else time * (window.frames[at // step].times - 1) + 1
        for at in range(window.start, window.stop)
    ]


@torch.inference_mode()
def _run(network: StvsrModel, window: Window[Shown], how: Upscaling) -> list[Tensor]:
    """The output frames that a window keeps, each once."""
    lr_frames = [shown.frame for shown in window.frames]
    lr_frames += lr_frames * (len(lr_frames) == 1)  # a network takes two frames at least
    device = next(network.parameters(), lr_frames[0]).device
    try:
        sr_frames = upscale_in_tiles(
            functools.partial(network, times=how.times) if how.time > 2 else network,
            torch.stack(lr_frames).float().to(device),
            tile=how.tile,
            overlap=how.tile_overlap,
            space=how.space,
            start=window.start,
            stop=window.stop,
        )
    except torch.OutOfMemoryError:
        raise StvsrError(
            f"{device}: too little memory for tiles of {how.tile} pixels",
            remedy="give --memory, or a smaller `tile` in Python",
        ) from None
    output = [frame.to(lr_frames[0].device) for frame in sr_frames]
    if how.space == 1:
        for at in range(window.start + -window.start % how.per_gap, window.stop, how.per_gap):
            output[at - window.start] = lr_frames[at // how.per_gap].float().clamp(0, 1)
    return output


def _checked(frame: Tensor) -> Tensor:
    if not (isinstance(frame, Tensor) and frame.ndim == 3 and len(frame) == 3 and frame.numel()):
        found = tuple(frame.shape) if isinstance(frame, Tensor) else type(frame).__name__
        raise InputError(f"frame: found {found}; expected a tensor (3, height, width)")
    if not frame.is_floating_point():
        raise InputError(
            f"frame: found {frame.dtype}; expected floating point in [0, 1]; "
            "convert it (for uint8: frame.float() / 255)"
        )
    return frame
