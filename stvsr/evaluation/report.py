"""The report: one self-contained HTML page with the table, the strips and the curves."""

import base64
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from stvsr.core.errors import SourceError
from stvsr.core.escape import one_line
from stvsr.core.files import write_text_whole
from stvsr.evaluation.chart import Series, line_chart
from stvsr.evaluation.pictures import PANELS
from stvsr.evaluation.scores import (
    MOTIONS,
    Scores,
    read_scores,
)

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by the name of a table's column."""

GAIN_SHOWN = 0.005
"""Gains smaller than this, in dB, are neither coloured as better nor as worse."""


def write_report(evaluation: Path, model: Path, out: Path) -> None:
    """Write the report of an evaluation.

    Args:
        evaluation: folder that `evaluate` wrote.
        model: the model folder; its history.csv gives the curves, and a curve
            whose column is missing or empty there is left out.
        out: the HTML file, whole or not at all.

    Raises:
        SourceError: the evaluation is missing or damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    scores = read_scores(evaluation)
    history = read_curves(model / "history.csv", "step")
    positions = read_curves(evaluation / "positions.csv", "frame")
    strips = [(motion, scores.strips[motion]) for motion in MOTIONS if motion in scores.strips]
    page = _template().render(
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
        facts=_facts(scores),
    )
    write_text_whole(out, page)


def _template() -> Template:
    """The page; whatever is put into it is escaped, and a misspelt name is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=_in_one_line,
    )
    environment.filters |= {"number": _shown, "direction": _direction}
    return environment.get_template("report.html.j2")


def _in_one_line(value: object) -> object:
    """A text from outside without control characters; our own markup as it is."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _picture(path: Path) -> str:
    """A PNG file's bytes in base 64."""
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` again") from None


def read_curves(path: Path, x: str) -> dict[str, list[tuple[float, float]]]:
    """The columns of a CSV over its column `x`; cells that are empty or no number are passed over.

    A file that is not there has no columns.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    if not path.is_file():
        return curves
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = _number(row.get(x))
            for name, cell in row.items():
                value = _number(cell)
                if at is not None and value is not None:
                    curves.setdefault(name, []).append((at, value))
    return curves


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _direction(gain: float | None) -> str:
    """CSS class of a gain in dB."""
    return "" if gain is None or abs(gain) < GAIN_SHOWN else "up" if gain > 0 else "down"


def _shown(value: float | None, spec: str) -> str:
    return "\N{EN DASH}" if value is None else format(value, spec).replace("-", "\N{MINUS SIGN}")


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
    yield (
        line_chart(
            "Validation PSNR-Y",
            [
                Series("input frames", "input", history.get("val/psnr_y_input", ())),
                Series(
                    "interpolated frames",
                    "interpolated",
                    history.get("val/psnr_y_interpolated", ()),
                ),
            ],
            "training step",
            "PSNR-Y in dB",
        ),
        "Validation during training, on a few of the test clips.",
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


def _facts(scores: Scores) -> list[tuple[str, str, str]]:
    """Name, text and digest of each fact."""
    model = scores.model
    return [
        ("Network", f"{model.name}, {model.parameters:,} parameters", ""),
        ("Training", f"step {model.step:,}, seed {model.seed}", ""),
        ("Trained on", model.degradation, model.data_hash),
        ("Scored on", scores.degradation, scores.data_hash),
        ("Code", "" if model.git_commit else "commit not known", model.git_commit),
    ]
