"""The report: one self-contained HTML page with the table, the strips and the curves."""

import base64
import csv
import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from stvsr.artifact import CARD_FILE, TRAINING_FILE, TrainingFacts, read_card
from stvsr.core.errors import SourceError
from stvsr.core.files import MIB, read_bytes, write_text_whole
from stvsr.evaluation.chart import Series, line_chart
from stvsr.evaluation.page import page_template
from stvsr.evaluation.pictures import PANELS
from stvsr.evaluation.scores import (
    MOTIONS,
    Scores,
    read_scores,
)

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by the name of a table's column."""

MOST_BYTES = 64 * MIB
"""A table or a picture that is larger is not read."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")

_AGAIN = "run the stage that writes it again"


@dataclass(frozen=True)
class RivalScore:
    """PSNR-Y in dB on one set, of the network and of what a registration compared it with.

    Attributes:
        set: name of the set.
        clips: clips that were scored.
        network: mean of the network; None where no frame could be scored.
        rival: mean of its rival.
        difference: mean over clips of network minus rival.
        low: lower end of its interval; None for one clip.
        high: upper end.
    """

    set: str
    clips: int
    network: float | None
    rival: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Registered:
    """The version as which the network was registered.

    Attributes:
        version: name and number.
        uri: where it is loaded from.
        page: its page on an MLflow server; "" where it is on none.
        decision: whether it is champion, and why.
        rival: what it was compared with, such as the champion before.
        sets: the comparison on each set.
    """

    version: str
    uri: str
    page: str
    decision: str
    rival: str
    sets: Sequence[RivalScore]


@dataclass(frozen=True)
class Fact:
    """A line of the report's facts: a name, text, a digest, and where a link leads; or ""."""

    name: str
    text: str
    digest: str = ""
    link: str = ""


def write_report(
    evaluation: Path, model: Path, out: Path, registered: Registered | None = None
) -> None:
    """Write the report of an evaluation.

    Args:
        evaluation: folder that `evaluate` wrote.
        model: the model folder; its history.csv gives the curves, and a curve
            whose column is missing or empty there is left out.
        out: the HTML file, whole or not at all.
        registered: the version as which the network was registered; None: it is not known.

    Raises:
        SourceError: the evaluation is missing, damaged or of other weights than the model's, or
            history.csv or training.json is damaged.
        CheckpointError: the model's card is damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    scores = read_scores(evaluation)
    _refuse_other_weights(scores, model)
    history = read_curves(model / "history.csv", "step")
    positions = read_curves(evaluation / "positions.csv", "frame", texts=("kind",))
    strips = [(motion, scores.strips[motion]) for motion in MOTIONS if motion in scores.strips]
    page = page_template("report.html.j2").render(
        scores=scores,
        every=scores.groups["all"],
        strips=strips,
        panels=PANELS,
        pictures={
            (motion, kind): _picture(evaluation / "strips" / f"{motion}_{kind}.png")
            for motion, _ in strips
            for kind in ("input", "interpolated")
        },
        charts=[
            (Markup(chart), caption) for chart, caption in _charts(history, positions) if chart
        ],
        registered=registered,
        facts=[
            *_registered_facts(registered),
            *_facts(scores),
            *_training_facts(model, history),
        ],
    )
    write_text_whole(out, page)


def _refuse_other_weights(scores: Scores, model: Path) -> None:
    """Refuse scores of other weights than those whose curves are in the model folder."""
    if not (model / CARD_FILE).exists():
        return
    trained, scored = read_card(model).weights_sha256, scores.model.weights_sha256
    if trained != scored:
        raise SourceError(
            f"{model}: has the weights {trained[:12]}…, the evaluation scores {scored[:12]}…",
            remedy="run `stvsr evaluate` again",
        )


def _picture(path: Path) -> str:
    """A PNG file's bytes in base 64."""
    try:
        return base64.b64encode(read_bytes(path, MOST_BYTES)).decode()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` again") from None
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}); run `stvsr evaluate` again"
        ) from None


def read_curves(
    path: Path, x: str, texts: Collection[str] = ()
) -> dict[str, list[tuple[float, float]]]:
    """The columns of a CSV of numbers over its column `x`; cells may be empty.

    Args:
        path: a file of ours; one that is not there has no columns.
        x: name of the first column, which has a number in each row.
        texts: columns that are passed over.

    Raises:
        SourceError: it cannot be read, or is no such table; names the line.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    names, rows = _read_table(path, x)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise _damaged(path, f"line {number}: {len(row)} cells in {len(names)} columns")
        cells = {name: cell for name, cell in zip(names, row, strict=True) if name not in texts}
        values = {name: _number(path, number, cell) for name, cell in cells.items() if cell}
        if x not in values:
            raise _damaged(path, f"line {number}: no {x}")
        for name, value in values.items():
            curves.setdefault(name, []).append((values[x], value))
    return curves


def _read_table(path: Path, x: str) -> tuple[list[str], list[list[str]]]:
    """The names of a CSV's columns, and its rows; none where there is no file."""
    try:
        text = read_bytes(path, MOST_BYTES).decode()
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise _damaged(path, f"no table in UTF-8: {error}") from None
    if names[:1] != [x] or len(set(names)) != len(names):
        raise _damaged(path, f"line 1: found {names!r:.60}, allowed are {x} and other names, once")
    return names, rows


def _number(path: Path, line: int, cell: str) -> float:
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(value):
        raise _damaged(path, f"line {line}: found {cell!r:.40}, allowed is a finite number")
    return value


def _damaged(path: Path, reason: str) -> SourceError:
    return SourceError(f"{path}: damaged ({reason}); {_AGAIN}")


def _charts(history: Curves, positions: Curves) -> Iterator[tuple[str, str]]:
    """The charts and their captions; a chart without points is empty."""
    yield (
        line_chart(
            "Training loss",
            [Series("Charbonnier loss", "network", history.get("loss", ()))],
            "training step",
            "loss",
        ),
        "Training loss, the mean over the steps since the point before.",
    )
    for kind in ("input", "interpolated"):
        baseline = history.get(f"val/bicubic_linear_psnr_y_{kind}", ())
        yield (
            line_chart(
                f"Validation PSNR-Y, {kind} frames",
                [
                    Series("network", "network", history.get(f"val/psnr_y_{kind}", ())),
                    Series("bicubic+linear", "bicubic-linear", baseline),
                ],
                "training step",
                "PSNR-Y in dB",
            ),
            f"Validation during training on {kind} frames, of a few of the test clips.",
        )
    yield (
        line_chart(
            "PSNR-Y by place in the clip",
            [
                Series("network", "network", positions.get("psnr_y", ())),
                Series(
                    "bicubic+linear", "bicubic-linear", positions.get("bicubic_linear_psnr_y", ())
                ),
            ],
            "frame (odd: input, even: interpolated)",
            "PSNR-Y in dB",
        ),
        "Place in the clip: interpolated frames fall behind the input frames beside them.",
    )
    yield (
        line_chart(
            "Learning rate",
            [Series("learning rate", "quiet", history.get("learning_rate", ()))],
            "training step",
            "learning rate",
        ),
        "Learning rate.",
    )


def _registered_facts(registered: Registered | None) -> Iterator[Fact]:
    if registered:
        yield Fact("Version", f"{registered.version}, {registered.uri}", link=registered.page)


def _facts(scores: Scores) -> list[Fact]:
    model, start = scores.model, scores.start
    return [
        Fact("Network", f"{model.name}, {model.parameters:,} parameters", model.weights_sha256),
        *(
            [Fact("Start", f"{start.name}, step {start.step:,}", start.weights_sha256)]
            if start
            else []
        ),
        Fact("Training", f"step {model.step:,}, seed {model.seed}"),
        Fact("Trained on", model.degradation, model.data_hash),
        Fact("Scored on", scores.degradation, scores.data_hash),
        Fact("Code", "" if model.git_commit else "commit not known", model.git_commit),
    ]


def _training_facts(model: Path, history: Curves) -> Iterator[Fact]:
    """Run, date, duration, speed, machine and recipe, as far as the model folder has them."""
    if (model / CARD_FILE).exists() and (run := read_card(model).run):
        yield Fact("Run", run)
    facts = _read_training(model / TRAINING_FILE)
    if facts and facts.began:
        yield Fact("Begun", facts.began)
    if seconds := _seconds_of_steps(history):
        yield Fact("Duration", f"{_duration(seconds)} of steps, without validation and saving")
    if speeds := sorted(value for _, value in history.get("clips_per_second", ())):
        yield Fact("Throughput", f"{speeds[len(speeds) // 2]:.3g} clips per second, the median")
    if facts:
        machine = {**facts.machine, **facts.libraries}
        yield Fact("Machine", _listed(machine) or "not known")
        yield Fact("Recipe", _listed(facts.recipe))


def _read_training(path: Path) -> TrainingFacts | None:
    try:
        return TrainingFacts.read(path, SourceError, "train again, or remove it")
    except FileNotFoundError:
        return None


def _seconds_of_steps(history: Curves) -> float:
    """Seconds that all steps took: each point is the mean over the steps since the one before."""
    before, seconds = 0.0, 0.0
    for step, mean in history.get("step_seconds", ()):
        seconds += (step - before) * mean
        before = step
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _listed(values: Mapping[str, object]) -> str:
    """Names and values in one line; null, which stands for no value, is left out."""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
