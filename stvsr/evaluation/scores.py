"""Scores: one row per frame, and their means over frames, then clips. Pure functions of rows.

A frame that the network or the baseline reproduces exactly has an infinite PSNR. Such a frame is
left out of every mean, for both of them, and counted: published tables leave out the nine
all-black clips of Vimeo-90K's test set for the same reason.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from stvsr.core.config import Config, Count, Field, Numbers, field_validator, model_validator
from stvsr.core.errors import SourceError
from stvsr.metrics import finite_mean

Kind = Literal["input", "interpolated"]
"""An input frame, whose LR the network gets, or an interpolated one, which it makes."""

Decibel = Annotated[float, Field(ge=-1000, le=1000)]
Ssim = Annotated[float, Field(ge=-1, le=1)]

MOTIONS = ("slow", "medium", "fast")
"""The motion classes, in the order in which tables show them."""


@dataclass(frozen=True)
class FrameScore:
    """One frame's scores, of the network's output and of the bicubic+linear baseline's.

    Attributes:
        clip: name of the clip, such as "00001/0266".
        motion: its motion class, one of `MOTIONS`; "" where it has none.
        frame: place in the clip, from 1.
        kind: whether it was an input or is interpolated.
        network: the network's scores by measure (`stvsr.evaluation.measures`), "psnr_y" and
            "ssim_y" always; a PSNR is infinite where the frame equals the ground truth. A further
            measure (`stvsr.evaluation.meters`) may be missing, as on a clip's first frame.
        bicubic_linear: the baseline's, by the same measures.
        start: those of the network that training started from; None where there is none.
    """

    clip: str
    motion: str
    frame: int
    kind: Kind
    network: Mapping[str, float]
    bicubic_linear: Mapping[str, float]
    start: Mapping[str, float] | None = None

    @property
    def is_scored(self) -> bool:
        """True if all scores are finite; other frames count in no mean."""
        methods = (self.network, self.bicubic_linear, self.start or {})
        return all(math.isfinite(value) for scores in methods for value in scores.values())


class Quality(Config):
    """Mean scores of one method on some frames; null where no frame could be scored."""

    psnr_y: Decibel | None
    """PSNR-Y in dB."""
    ssim_y: Ssim | None
    """SSIM-Y in [-1, 1]."""


class Comparison(Config):
    """Network, baseline and start on the same frames."""

    network: Quality
    """The network's scores."""
    bicubic_linear: Quality
    """The scores of bicubic upsampling in space, linear in time."""
    start: Quality | None = None
    """Those of the network that training started from; null where there is none."""

    @property
    def gain_psnr_y(self) -> float | None:
        """Network minus baseline, in dB."""
        return _difference(self.network.psnr_y, self.bicubic_linear.psnr_y)

    @property
    def gain_ssim_y(self) -> float | None:
        """Network minus baseline."""
        return _difference(self.network.ssim_y, self.bicubic_linear.ssim_y)

    @property
    def gain_over_start_psnr_y(self) -> float | None:
        """Network minus start, in dB; None where there is no start."""
        return _difference(self.network.psnr_y, self.start.psnr_y) if self.start else None


class GroupScores(Config):
    """Scores of a group of clips: all of them, or one motion class."""

    clips: Count
    """Clips in the group."""
    all: Comparison
    """On all frames."""
    input: Comparison
    """On the frames whose LR the network was given."""
    interpolated: Comparison
    """On the frames that the network made up in time."""


class Crop(Config):
    """Place of a strip in its frame, in HR pixels."""

    top: Count
    """First row."""
    left: Count
    """First column."""
    size: Count
    """Side of the square."""


class Strip(Config):
    """The strips of one motion class."""

    clip: str
    """The clip of the class whose gain over the baseline is the median one."""
    gain_psnr_y: float | None
    """That clip's gain over the baseline, in dB."""
    crop: Crop
    """The part that is shown."""
    input_frame: Count
    """The input frame that is shown, from 1."""
    interpolated_frame: Count
    """The interpolated frame that is shown, from 1."""


class ModelFacts(Config):
    """Facts of the scored network."""

    name: str
    """Its name, such as "stdan-small"."""
    parameters: Count
    """Number of its parameters."""
    step: Count
    """Training step of its weights."""
    seed: int
    """Seed of the run."""
    degradation: str
    """Degradation of the clips it was trained on."""
    data_hash: str
    """Hash of the shards it was trained on."""
    git_commit: str
    """Commit of the code that trained it."""
    weights_sha256: str = ""
    """SHA-256 of its weights."""


class Scores(Config):
    """All that an evaluation found: the content of scores.json."""

    format: Literal[1] = 1
    """Version of this layout."""
    model: ModelFacts
    """The scored network."""
    start: ModelFacts | None = None
    """The network that its training started from; null where it started from random weights."""
    degradation: str
    """Degradation of the scored clips."""
    data_hash: str
    """Hash of the scored shards."""
    frames_left_out: Count
    """Frames with an infinite PSNR, which count in no mean."""
    groups: dict[str, GroupScores]
    """Scores of "all" clips and of each motion class that has clips."""
    strips: dict[str, Strip]
    """The strips of each motion class that has clips."""

    @field_validator("groups", "strips")
    @classmethod
    def _have_known_names(cls, groups: dict[str, object]) -> dict[str, object]:
        if unknown := sorted(groups.keys() - {"all", *MOTIONS}):
            raise ValueError(f"found {unknown[0]!r:.40}, allowed are all, {', '.join(MOTIONS)}")
        return groups

    @field_validator("groups")
    @classmethod
    def _have_all_clips(cls, groups: dict[str, GroupScores]) -> dict[str, GroupScores]:
        if "all" not in groups:
            raise ValueError("the scores of all clips are missing")
        return groups

    @model_validator(mode="after")
    def _start_is_scored(self) -> "Scores":
        compared = [c for g in self.groups.values() for c in (g.all, g.input, g.interpolated)]
        if any((comparison.start is None) is not (self.start is None) for comparison in compared):
            raise ValueError("a start that is not scored, or scores of no start")
        return self

    @property
    def same_degradation(self) -> bool:
        """True if the scored clips were degraded as those the network was trained on."""
        return self.degradation == self.model.degradation


def read_scores(evaluation: Path) -> Scores:
    """Read an evaluation's scores.json.

    Raises:
        SourceError: it is missing or is not what `evaluate` writes.
    """
    path = evaluation / "scores.json"
    try:
        return Scores.read(path, SourceError, "run `stvsr evaluate` again")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` first") from None


def frame_scores(
    clip: str,
    motion: str,
    frames: Iterable[int],
    inputs: Collection[int],
    network: Iterable[Mapping[str, float]],
    bicubic_linear: Iterable[Mapping[str, float]],
    start: Iterable[Mapping[str, float]] | None = None,
) -> list[FrameScore]:
    """Rows of some frames of a clip, from what was measured of each of them.

    Args:
        clip: its name.
        motion: its motion class.
        frames: places in the clip, from 0.
        inputs: which of them are input frames.
        network: the network's scores, one mapping for each frame.
        bicubic_linear: the baseline's.
        start: those of the network that training started from, if there is one.
    """
    methods = (network, bicubic_linear) if start is None else (network, bicubic_linear, start)
    return [
        FrameScore(clip, motion, frame + 1, "input" if frame in inputs else "interpolated", *scores)
        for frame, *scores in zip(frames, *methods, strict=True)
    ]


def group_scores(frames: Sequence[FrameScore]) -> dict[str, GroupScores]:
    """Scores of "all" clips and of each motion class that is among them."""
    return {name: _score_group(group) for name, group in group_frames(frames).items()}


def group_frames(frames: Sequence[FrameScore]) -> dict[str, list[FrameScore]]:
    """The frames of "all" clips and of each motion class that is among them."""
    groups = {"all": list(frames)}
    for motion in MOTIONS:
        of_class = [frame for frame in frames if frame.motion == motion]
        if of_class:
            groups[motion] = of_class
    return groups


def parts_of(frames: Sequence[FrameScore]) -> dict[str, list[FrameScore]]:
    """All frames, the input ones and the interpolated ones."""
    return {
        "all": list(frames),
        "input": [frame for frame in frames if frame.kind == "input"],
        "interpolated": [frame for frame in frames if frame.kind == "interpolated"],
    }


Value = Callable[[FrameScore], float | None]
"""A value of a frame; None where it has none."""


def measures_of(frames: Iterable[FrameScore]) -> list[str]:
    """The measures that some of the frames have, each once, in their order."""
    return list(dict.fromkeys(name for frame in frames for name in frame.network))


def of_network(measure: str) -> Value:
    """The network's score of a frame by a measure, as `clip_means` takes it."""
    return lambda frame: frame.network.get(measure)


def of_baseline(measure: str) -> Value:
    """The baseline's score of a frame by a measure."""
    return lambda frame: frame.bicubic_linear.get(measure)


def of_start(measure: str) -> Value:
    """The score of a frame by a measure of the network that training started from."""
    return lambda frame: (frame.start or {}).get(measure)


def gain(measure: str) -> Value:
    """Network minus baseline, of a frame by a measure."""
    return lambda frame: _difference(frame.network.get(measure), frame.bicubic_linear.get(measure))


def clip_means(
    frames: Sequence[FrameScore],
    value: Value,
    *,
    per_folder: bool = False,
) -> list[float]:
    """Means of a value over each clip's frames: what a score over clips is the mean of.

    Args:
        frames: of any clips; those that are not scored are left out.
        value: the value of a frame; frames and clips without one are left out.
        per_folder: average the clips of a folder first ("00001" of "00001/0266"), and return a
            mean per folder; a clip outside of any folder is one of its own.
    """
    means: dict[str, list[float]] = {}
    for name, clip in by_clip([frame for frame in frames if frame.is_scored]).items():
        unit = name.rpartition("/")[0] or name if per_folder else name
        if values := [found for frame in clip if (found := value(frame)) is not None]:
            means.setdefault(unit, []).append(math.fsum(values) / len(values))
    return [math.fsum(unit) / len(unit) for unit in means.values()]


def compare(frames: Sequence[FrameScore]) -> Comparison:
    """Means over each clip's frames, then over clips."""

    def quality(of: Callable[[str], Value]) -> Quality:
        means = (finite_mean(clip_means(frames, of(measure))) for measure in ("psnr_y", "ssim_y"))
        return Quality(**dict(zip(("psnr_y", "ssim_y"), means, strict=True)))

    has_start = any(frame.start for frame in frames)
    return Comparison(
        network=quality(of_network),
        bicubic_linear=quality(of_baseline),
        start=quality(of_start) if has_start else None,
    )


def by_clip(frames: Sequence[FrameScore]) -> dict[str, list[FrameScore]]:
    """The frames of each clip, clips in the order of their first frame."""
    clips: dict[str, list[FrameScore]] = {}
    for frame in frames:
        clips.setdefault(frame.clip, []).append(frame)
    return clips


def median_gain_clip(frames: Sequence[FrameScore]) -> str:
    """The clip whose gain over the baseline is the median one, of two the lower.

    A clip without a finite score is taken only where no clip has one.
    """
    gains = {clip: compare(rows).gain_psnr_y for clip, rows in by_clip(frames).items()}
    known = sorted((gain, clip) for clip, gain in gains.items() if gain is not None)
    if not known:
        return min(gains)
    return known[(len(known) - 1) // 2][1]


def headline(scores: Scores) -> dict[str, float | int | bool | None]:
    """The few numbers of metrics.json: the network's, its gain over the baseline and the start."""
    every = scores.groups["all"]
    parts = {"": every.all, "_input": every.input, "_interpolated": every.interpolated}
    over_start = {
        f"gain_over_start_psnr_y{part}": compared.gain_over_start_psnr_y
        for part, compared in parts.items()
        if scores.start
    }
    return {
        "psnr_y": every.all.network.psnr_y,
        "psnr_y_input": every.input.network.psnr_y,
        "psnr_y_interpolated": every.interpolated.network.psnr_y,
        "ssim_y": every.all.network.ssim_y,
        "gain_psnr_y": every.all.gain_psnr_y,
        "gain_psnr_y_input": every.input.gain_psnr_y,
        "gain_psnr_y_interpolated": every.interpolated.gain_psnr_y,
        **over_start,
        "clips": every.clips,
        "same_degradation": scores.same_degradation,
    }


def refuse_other_headline(evaluation: Path) -> None:
    """Refuse an evaluation whose metrics.json is not the headline of its scores.json.

    Raises:
        SourceError: one of the two is missing or damaged, or they differ.
    """
    path, remedy = evaluation / "metrics.json", "run `stvsr evaluate` again"
    wanted = headline(read_scores(evaluation))
    try:
        found = Numbers.read(path, SourceError, remedy).by_name
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` first") from None
    for name in wanted.keys() | found.keys():
        if found.get(name) != wanted.get(name) or name not in found:
            raise SourceError(
                f"{path}: {name} is {found.get(name, 'missing')}, "
                f"by scores.json it is {wanted.get(name, 'no such number')}",
                remedy=remedy,
            )


def _score_group(frames: Sequence[FrameScore]) -> GroupScores:
    compared = {name: compare(part) for name, part in parts_of(frames).items()}
    return GroupScores(clips=len(by_clip(frames)), **compared)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
