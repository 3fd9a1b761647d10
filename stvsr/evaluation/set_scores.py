"""Scores of a method on a set under a protocol: the content of a score's scores.json."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from stvsr.core.config import Config, Count, Field
from stvsr.core.errors import SourceError
from stvsr.evaluation.intervals import bootstrap_interval
from stvsr.evaluation.scores import (
    FrameScore,
    ModelFacts,
    Value,
    by_clip,
    clip_means,
    gain,
    group_frames,
    measures_of,
    of_baseline,
    of_network,
    parts_of,
)
from stvsr.evaluation.speed import Speed

SCORES_FILE = "scores.json"

MOST_BYTES = 2**22
"""A scores.json larger than this is not read."""


Mean = Annotated[float, Field(ge=-1000, le=1000)]
"""A mean of a measure: in dB, in pixels, or a number in [-1, 1]."""


Line = Annotated[str, Field(max_length=4096)]
"""A name or a sentence."""


class Estimate(Config):
    """A mean over clips with its confidence interval; null where nothing could be scored."""

    mean: Mean | None
    """Mean over clips of the means over frames (over folders, where the protocol says so)."""
    low: Mean | None = None
    """Lower end of the interval; null for fewer than two clips."""
    high: Mean | None = None
    """Upper end."""


class Part(Config):
    """Scores on all frames of a group, on its input frames, or on its interpolated ones."""

    frames: Count
    """Frames that count."""
    network: dict[str, Estimate]
    """The method's scores by measure."""
    bicubic_linear: dict[str, Estimate]
    """The baseline's, on the same frames."""
    gain: dict[str, Estimate]
    """Method minus baseline, clip by clip."""


class Group(Config):
    """Scores of all clips, or of one motion class."""

    clips: Count
    """Clips in it."""
    parts: dict[str, Part]
    """By kind of frame: "all", "input", "interpolated"; one without frames is left out."""


class SetScores(Config):
    """All that a score found."""

    format: Literal[1] = 1
    """Version of this layout."""
    method: Line
    """Name of the method, as tables show it."""
    model: ModelFacts | None
    """The network; null for frames that others made."""
    set: Line
    """Name of the set."""
    protocol: Line
    """Name of the scoring protocol."""
    degradation: Line
    """How the LR frames were made, or the set's folder they were read from."""
    rounding: Line = "output rounded to 8 bit, Y not rounded"
    """Where values were rounded."""
    crop: Count
    """Pixels left out along each border."""
    clips: Count
    """Clips that were scored."""
    frames: Count
    """Frames that were scored."""
    frames_left_out: Count
    """Frames with an infinite PSNR, which count in no mean."""
    missing: tuple[Line, ...]
    """Files missing from the set when it was scored with `--partial`; empty for a whole set."""
    left_out: tuple[Line, ...] = ()
    """What was beside the clips and is not scored, such as frames of a video that repeat others."""
    interval: Line
    """How the confidence intervals were made."""
    code: Line
    """Fingerprint of the code that scored."""
    speed: tuple[Speed, ...] = ()
    """Time and memory of the network, at the sizes that were asked for."""
    groups: dict[str, Group]
    """Scores of "all" clips and of each motion class."""

    @property
    def partial(self) -> bool:
        """True if the set was not whole."""
        return bool(self.missing)


def summarise(frames: Sequence[FrameScore], *, per_folder: bool) -> dict[str, Group]:
    """Means and intervals of every group, part, method and measure.

    Args:
        frames: all frames of all clips.
        per_folder: whether clips are averaged per folder first.
    """
    return {
        name: Group(
            clips=len(by_clip(group)),
            parts={part: _part(rows, per_folder) for part, rows in parts_of(group).items() if rows},
        )
        for name, group in group_frames(frames).items()
    }


def score_name(scores: SetScores) -> str:
    """Name of the conditions of a score, such as "vid4_stvsr", in characters that MLflow takes."""
    parts = [scores.set, scores.protocol]
    parts += [] if scores.degradation == "bicubic" else [scores.degradation]
    parts += ["partial"] if scores.partial else []
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)


def score_metrics(scores: SetScores) -> dict[str, float]:
    """The means on all clips by measure, kind of frame and method, and the gain in PSNR-Y."""
    metrics: dict[str, float] = {}
    for kind, part in scores.groups["all"].parts.items():
        ending = "" if kind == "all" else f"_{kind}"
        means = {name: estimate.mean for name, estimate in part.network.items()}
        means["gain_psnr_y"] = part.gain["psnr_y"].mean
        metrics |= {f"{name}{ending}": mean for name, mean in means.items() if mean is not None}
    return metrics


def read_set_scores(folder: Path) -> SetScores:
    """Read a score's scores.json.

    Raises:
        SourceError: it is missing or is not what `stvsr score` writes.
    """
    path = folder / SCORES_FILE
    try:
        return SetScores.read(path, SourceError, "run `stvsr score` again", limit=MOST_BYTES)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr score` first") from None


def _part(frames: Sequence[FrameScore], per_folder: bool) -> Part:
    def estimates(value: Callable[[str], Value]) -> dict[str, Estimate]:
        return {
            name: _estimate(clip_means(frames, value(name), per_folder=per_folder))
            for name in measures_of(frames)
        }

    return Part(
        frames=sum(frame.is_scored for frame in frames),
        network=estimates(of_network),
        bicubic_linear=estimates(of_baseline),
        gain=estimates(gain),
    )


def _estimate(means: Sequence[float]) -> Estimate:
    if not means:
        return Estimate(mean=None)
    low, high = bootstrap_interval(means) or (None, None)
    return Estimate(mean=math.fsum(means) / len(means), low=low, high=high)
