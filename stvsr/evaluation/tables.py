"""Scores as CSV tables, for DVC's plots and for whoever wants to look closer."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

from stvsr.core.escape import csv_cell
from stvsr.evaluation.measures import ON_Y
from stvsr.evaluation.scores import (
    Comparison,
    FrameScore,
    by_clip,
    clip_means,
    compare,
    measures_of,
    of_baseline,
    of_network,
    parts_of,
)
from stvsr.metrics import finite_mean

Row = dict[str, str | int | float | None]


def clips_csv(frames: Sequence[FrameScore]) -> str:
    """One row per clip: the means over its frames."""
    names = measures_of(frames)
    return to_csv(_clip_row(clip, names) for clip in by_clip(frames).values())


def frames_csv(frames: Sequence[FrameScore]) -> str:
    """One row per frame of every clip; an infinite PSNR is an empty cell."""
    names = measures_of(frames)
    return to_csv(_frame_row(frame, names) for frame in frames)


def positions_csv(frames: Sequence[FrameScore]) -> str:
    """One row per place in the clip: the zigzag of input and interpolated frames, over clips."""
    positions = sorted({frame.frame for frame in frames})
    return to_csv(
        _position_row([frame for frame in frames if frame.frame == position])
        for position in positions
    )


def _clip_row(frames: Sequence[FrameScore], names: Sequence[str]) -> Row:
    parts = parts_of(frames)
    every, inputs = compare(parts["all"]), compare(parts["input"])
    interpolated = compare(parts["interpolated"])
    return {
        "clip": frames[0].clip,
        "motion": frames[0].motion,
        "psnr_y": every.network.psnr_y,
        "bicubic_linear_psnr_y": every.bicubic_linear.psnr_y,
        "gain_psnr_y": every.gain_psnr_y,
        "gain_psnr_y_input": inputs.gain_psnr_y,
        "gain_psnr_y_interpolated": interpolated.gain_psnr_y,
        "ssim_y": every.network.ssim_y,
        "bicubic_linear_ssim_y": every.bicubic_linear.ssim_y,
        **_start_means(every),
        **_further_means(frames, names),
    }


def _start_means(compared: Comparison) -> Row:
    """A clip's means of the network that training started from, if there is one."""
    if compared.start is None:
        return {}
    return {
        "start_psnr_y": compared.start.psnr_y,
        "start_ssim_y": compared.start.ssim_y,
        "gain_over_start_psnr_y": compared.gain_over_start_psnr_y,
    }


def _further_means(frames: Sequence[FrameScore], names: Sequence[str]) -> Row:
    """A clip's means of the measures beside those on Y."""
    row: Row = {}
    for name in names:
        if name not in ON_Y:
            row[name] = finite_mean(clip_means(frames, of_network(name)))
            row[f"bicubic_linear_{name}"] = finite_mean(clip_means(frames, of_baseline(name)))
    return row


def _frame_row(frame: FrameScore, names: Sequence[str]) -> Row:
    methods = {"": frame.network, "bicubic_linear_": frame.bicubic_linear}
    if frame.start is not None:
        methods["start_"] = frame.start
    return {
        "clip": frame.clip,
        "motion": frame.motion,
        "frame": frame.frame,
        "kind": frame.kind,
        **{
            f"{method}{name}": finite_or_none(scores.get(name, math.inf))
            for name in names
            for method, scores in methods.items()
        },
    }


def _position_row(frames: Sequence[FrameScore]) -> Row:
    compared = compare(frames)
    return {
        "frame": frames[0].frame,
        "kind": frames[0].kind,
        "psnr_y": compared.network.psnr_y,
        "bicubic_linear_psnr_y": compared.bicubic_linear.psnr_y,
    }


def finite_or_none(value: float) -> float | None:
    """The value, or None for an infinite one: an empty cell."""
    return value if math.isfinite(value) else None


def to_csv(rows: Iterable[Row]) -> str:
    """Rows as CSV; what could not be scored is an empty cell."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in listed)
    return text.getvalue()
