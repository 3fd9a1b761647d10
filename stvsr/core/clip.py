"""The clip: its frames' arithmetic and the one batch type that flows from loader to loss."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

SCALE: Final = 4
"""Spatial scale `s` of the task: HR is `s` times LR in height and width."""

SEPTUPLET = 7
"""Frames of a Vimeo-90K clip."""


def output_length(t_in: int) -> int:
    """Frames after doubling the rate: the inputs and one between each two, 2 * t_in - 1."""
    return 2 * t_in - 1


def input_indices(t_out: int) -> tuple[int, ...]:
    """Positions (from 0) of the input frames among `t_out` output frames: 0, 2, 4 and so on."""
    return tuple(range(0, t_out, 2))


def interpolated_indices(t_out: int) -> tuple[int, ...]:
    """Positions (from 0) of the frames the network has to make up in time: 1, 3, 5 and so on."""
    return tuple(range(1, t_out, 2))


def window_starts(frames: int, span: int, stride: int, *, align_last: bool) -> tuple[int, ...]:
    """First frames (from 0) of the windows in which a long clip is passed to a network.

    Args:
        frames: of the clip, at least `span`.
        span: frames from a window's first to its last, both counted.
        stride: frames from one window's first frame to the next one's.
        align_last: whether frames after the last whole window get one more window, which ends
            with the clip; without it they are in none.
    """
    starts = tuple(range(0, frames - span + 1, stride))
    if align_last and starts[-1] + span < frames:
        return (*starts, frames - span)
    return starts


@dataclass(frozen=True)
class ClipBatch:
    """A batch of aligned clips, on the device that trains.

    Attributes:
        lr_clip: (B, T_in, 3, H, W), RGB; float32 in [0, 1], or uint8 where asked for.
        hr_clip: (B, T_out, 3, 4H, 4W) with T_out = 2 * T_in - 1; same type and range.
        keys: the B clips' names, such as "00001/0266".
        damage: one line for each damaged clip that was replaced; empty where none was.
    """

    lr_clip: Tensor
    hr_clip: Tensor
    keys: tuple[str, ...]
    damage: tuple[str, ...] = ()
