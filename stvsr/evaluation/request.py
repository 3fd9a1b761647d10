"""The command `stvsr score`: which method, which set, which conditions."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from stvsr.artifact import Card
from stvsr.core.device import pick_device
from stvsr.core.errors import ParamsError
from stvsr.core.progress import progress
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.evaluation.meters import FURTHER, parse_measures
from stvsr.evaluation.methods import Method, NetworkMethod, OutputsMethod
from stvsr.evaluation.protocols import find_protocol
from stvsr.evaluation.score import Recorder, Scoring, score_set
from stvsr.evaluation.set_scores import Part, SetScores
from stvsr.evaluation.sets import open_set, refuse_incomplete
from stvsr.evaluation.speed import Speed, SpeedCase, measure_speed, parse_speed
from stvsr.models import StvsrModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreRequest:
    """The request for a score, as a user makes it.

    Attributes:
        model: folder of a model, or models:/NAME@ALIAS; or None.
        outputs: folder of frames that others made; or None.
        set: name of a benchmark, or path of a folder of clips, of videos, or of one video.
        protocol: name of the protocol.
        folder: where the benchmark is; None: at its usual place.
        degradation: name of the degradation that makes LR frames.
        lr: name of the set's folder of LR frames; "": they are made.
        partial: whether a set that is not whole is scored.
        device: of the network.
        name: of the method in tables; "": its folder's.
        measures: further measures, separated by commas.
        speed: sizes at which the network's speed is measured, separated by commas.
    """

    model: str | None
    outputs: Path | None
    set: str
    protocol: str
    folder: Path | None
    degradation: Literal["bicubic", "bicubic-uint8", "gaussian-bd", "pillow"]
    lr: str
    partial: bool
    device: str
    name: str
    measures: str = ""
    speed: str = ""

    def method_name(self) -> str:
        """Name of the method in tables.

        Raises:
            ParamsError: neither a model nor outputs are given, or both; or it is no file's name.
        """
        if (self.model is None) == (self.outputs is None):
            found = "neither" if self.model is None else "both"
            raise ParamsError(f"found {found}; expected a model's folder, or --outputs FOLDER")
        if "/" in self.name:
            raise ParamsError(f"--name: found {self.name!r}; allowed: a name without '/'")
        return self.name or Path(self.model or self.outputs or "").resolve().name

    def default_out(self) -> Path:
        """Folder of the result where none is named; errors as `method_name`."""
        parts = [self.method_name(), Path(self.set).resolve().name, self.protocol]
        if self.lr or self.degradation != "bicubic":
            parts.append(self.lr or self.degradation)
        return Path("scores", "_".join(parts))


Loader = Callable[[str], tuple[StvsrModel, Card]]
"""Loads the model that a request names, on the CPU in evaluation mode."""


def run_score(
    request: ScoreRequest, out: Path, load: Loader, record: Recorder | None = None
) -> str:
    """Score as requested; return the lines that the command prints.

    Args:
        request: what is scored, and how.
        out: folder of the result.
        load: loads the model.
        record: takes note of the result, such as in a registry.

    Raises:
        ParamsError: the request names something that is not there.
        SourceError: the set is not whole, or a frame cannot be read.
        CheckpointError: the model folder is missing or damaged.
        ServiceError: the result is whole and could not be recorded; the same command tries again.
    """
    name = request.method_name()
    device = pick_device(request.device, "--device")
    protocol = find_protocol(request.protocol)
    measures, cases = parse_measures(request.measures), parse_speed(request.speed)
    opened = open_set(request.set, request.folder, request.lr, protocol.span)
    if not request.partial:
        refuse_incomplete(opened)
    for line in opened.left_out:
        logger.warning("left out: %s", line)
    degradation = DegradationConfig(name=request.degradation)
    scoring = Scoring(protocol, degradation, request.lr, device, measures)
    method = _method(request, scoring, load)
    speed = _speed(method, cases, device)
    scores = score_set(name, method, opened, scoring, out, speed=speed, record=record)
    return _lines(scores, out)


def _method(request: ScoreRequest, scoring: Scoring, load: Loader) -> Method:
    if request.outputs is not None:
        return OutputsMethod(request.outputs)
    model, card = load(request.model or "")
    model.to(scoring.device)
    return NetworkMethod(model, card)


def _speed(method: Method, cases: Sequence[SpeedCase], device: torch.device) -> tuple[Speed, ...]:
    if not cases:
        return ()
    if not isinstance(method, NetworkMethod):
        raise ParamsError("--speed: frames that others made have no speed; leave it out")
    measured = (measure_speed(method.model, device, case) for case in cases)
    return tuple(progress(measured, len(cases), "measuring speed"))


def _lines(scores: SetScores, out: Path) -> str:
    about = (
        f"{scores.method} on {scores.set}{' (partial)' if scores.partial else ''}: "
        f"{scores.clips} clips, {scores.frames} frames, protocol {scores.protocol}, "
        f"LR {scores.degradation}, {scores.rounding}"
    )
    lines = [about]
    for name, part in scores.groups["all"].parts.items():
        shown = [
            f"{label} {_pair(estimates['psnr_y'].mean, estimates['ssim_y'].mean)}"
            for label, estimates in (
                (scores.method, part.network),
                ("bicubic+linear", part.bicubic_linear),
            )
        ]
        lines.append(f"  {name:<13}{', '.join([*shown, *_further(part)])}")
    lines += [
        f"  {one.width}x{one.height} {one.precision}: {one.frames_per_second:.3g} frames/s on "
        f"{one.device}"
        for one in scores.speed
    ]
    return "\n".join([*lines, f"  {out}"]) + "\n"


def _further(part: Part) -> Iterator[str]:
    """The further measures, the method's before the baseline's."""
    for name, measure in FURTHER.items():
        if name in part.network:
            means = (part.network[name].mean, part.bicubic_linear[name].mean)
            shown = " / ".join("-" if mean is None else measure.form.format(mean) for mean in means)
            yield f"{measure.label} {shown}"


def _pair(psnr: float | None, ssim: float | None) -> str:
    return "-" if psnr is None or ssim is None else f"{psnr:.2f} dB / {ssim:.4f}"
