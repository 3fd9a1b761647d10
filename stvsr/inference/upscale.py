"""Upscaling: a stream of frames through a network, with times and scenes kept apart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, repeat
from operator import itemgetter

import torch
from torch import Tensor

from stvsr.core.errors import InputError, StvsrError
from stvsr.inference.scenes import Shown, numbered_scenes, without_repeats
from stvsr.inference.tiling import upscale_in_tiles
from stvsr.inference.windows import Window, windows
from stvsr.models import StvsrModel

ALLOWED = {"space": (4, 2, 1), "time": (2, 1)}


@dataclass(frozen=True)
class Upscaling:
    """How frames are upscaled.

    Attributes:
        space: scale in height and width; 1 leaves the input frames as they are.
        time: scale of the rate; 1 makes no frames between.
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
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                found, expected = getattr(self, name), ", ".join(map(str, allowed))
                raise InputError(f"{name}: found {found}; expected one of {expected}")
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


def upscale(
    frames: Iterable[Tensor], model: StvsrModel, how: Upscaling | None = None, *, skip: int = 0
) -> Iterator[Tensor]:
    """Upscale a stream of frames; the frames between stand in the middle of the input's.

    Windows of frames overlap and never cross a scene cut; the frame between two scenes repeats the
    one before it. A frame that repeats the one before it gives the same output again, and so does
    the frame between them. Frames are read as they are needed, so a stream may be of any length.

    Args:
        frames: (3, H, W), RGB in [0, 1], floating point, on any device; H and W may be odd, and
            may change.
        model: the network, on the device that is to work.
        how: scales, windows and tiles.
        skip: output frames, from the first, that are not needed: most are not computed, and come
            as empty tensors.

    Yields:
        For each input frame (3, space * H, space * W), float32 in [0, 1], on its device; with
        time 2, one more between each two.

    Raises:
        InputError: a frame is not such a tensor.
        StvsrError: the device has too little memory for a tile.
    """
    how = how or Upscaling()
    network = model.eval()
    made = 0
    pending: Tensor | None = None  # the frame between two scenes, if there is a next one
    for _, scene in groupby(numbered_scenes(map(_checked, frames)), key=itemgetter(0)):
        if pending is not None and how.time > 1:
            yield pending
            made += 1
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
    for window in windows(shown, how.window, how.window_overlap):
        counts = _counts(window, how.time)
        if place + sum(counts) < skip:
            output = [window.frames[0].frame.new_empty(0)] * len(counts)
        else:
            output = _run(network, window, how)
        place += sum(counts)
        while output:  # a frame's memory is free when it was taken
            yield from repeat(output.pop(0), counts.pop(0))


def _counts(window: Window[Shown], time: int) -> list[int]:
    """How often each output frame that a window keeps is shown."""
    return [
        int(time > 1) if at % 2 else time * (window.frames[at // 2].times - 1) + 1
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
            network,
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
        for at in range(window.start + window.start % 2, window.stop, 2):
            output[at - window.start] = lr_frames[at // 2].float().clamp(0, 1)
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
