"""The report: one self-contained HTML page with the table, the strips and the curves."""

import base64
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from stvsr.core.errors import SourceError
from stvsr.core.files import write_text_whole
from stvsr.evaluation.chart import Series, line_chart
from stvsr.evaluation.page import PAGE
from stvsr.evaluation.pictures import PANELS
from stvsr.evaluation.scores import (
    MOTIONS,
    Comparison,
    GroupScores,
    Quality,
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
        model: folder of the model artifact; its history.csv gives the curves, and a curve
            whose column is missing or empty there is left out.
        out: the HTML file, whole or not at all.

    Raises:
        SourceError: the evaluation is missing or damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    scores = read_scores(evaluation)
    history = read_curves(model / "history.csv", "step")
    positions = read_curves(evaluation / "positions.csv", "frame")
    page = PAGE.substitute(
        title=escape(f"stvsr report: {scores.model.name}"),
        heading=escape(scores.model.name),
        summary=_summary(scores),
        warnings="".join(f'<p class="warning">{text}</p>' for text in _warnings(scores)),
        table=_table(scores),
        strips="\n".join(_strips(scores, evaluation)),
        charts="\n".join(
            f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"
            for chart, caption in _charts(history, positions)
            if chart
        ),
        facts=_facts(scores),
    )
    write_text_whole(out, page)


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


def _summary(scores: Scores) -> str:
    every = scores.groups["all"]
    on_input = _shown(every.input.gain_psnr_y, "+.2f")
    on_interpolated = _shown(every.interpolated.gain_psnr_y, "+.2f")
    return (
        f"{on_input} dB PSNR-Y over the trilinear baseline on input frames, "
        f"{on_interpolated} dB on interpolated frames: "
        f"{every.clips} test clips, &times;4 in space, &times;2 in time."
    )


def _warnings(scores: Scores) -> Iterator[str]:
    if not scores.same_degradation:
        yield (
            f"The network was trained on <b>{escape(scores.model.degradation)}</b> and is scored "
            f"on <b>{escape(scores.degradation)}</b>: these scores say how it does on "
            "low-resolution frames unlike those it has seen."
        )
    if scores.frames_left_out:
        yield (
            f"{scores.frames_left_out} frames are reproduced exactly, have an infinite PSNR, and "
            "count in no mean."
        )


def _table(scores: Scores) -> str:
    return "\n".join(_group(name, group) for name, group in scores.groups.items())


def _group(name: str, group: GroupScores) -> str:
    """The rows of one group of clips, its name beside them."""
    title = "All clips" if name == "all" else name.capitalize()
    clips = f"{group.clips} clip{'s' if group.clips != 1 else ''}"
    head = f'<th rowspan="3" scope="rowgroup">{escape(title)}<small>{clips}</small></th>'
    return (
        f'<tbody><tr class="input">{head}{_cells("input", group.input)}</tr>'
        f'<tr class="interpolated">{_cells("interpolated", group.interpolated)}</tr>'
        f'<tr class="all">{_cells("all", group.all)}</tr></tbody>'
    )


def _cells(kind: str, compared: Comparison) -> str:
    gain = compared.gain_psnr_y
    direction = "" if gain is None or abs(gain) < GAIN_SHOWN else "up" if gain > 0 else "down"
    return (
        f"<th>{kind}</th>{_quality(compared.network)}{_quality(compared.trilinear)}"
        f'<td class="gain {direction}">{_shown(gain, "+.2f")}</td>'
        f'<td class="gain {direction}">{_shown(compared.gain_ssim_y, "+.4f")}</td>'
    )


def _quality(quality: Quality) -> str:
    return f"<td>{_shown(quality.psnr_y, '.2f')}</td><td>{_shown(quality.ssim_y, '.4f')}</td>"


def _shown(value: float | None, spec: str) -> str:
    return "&ndash;" if value is None else format(value, spec).replace("-", "&minus;")


def _strips(scores: Scores, evaluation: Path) -> Iterator[str]:
    for motion in MOTIONS:
        if motion in scores.strips:
            strip = scores.strips[motion]
            gain = _shown(strip.gain_psnr_y, "+.2f")
            yield (
                f'<section class="clip"><h3>{motion.capitalize()} motion</h3>'
                f"<p>Clip {escape(strip.clip)}, {gain} dB: the median gain of its class. "
                f"{strip.crop.size} &times; {strip.crop.size} pixels from row {strip.crop.top}, "
                f"column {strip.crop.left}.</p>"
                f'<div class="heads"><span></span>{_heads()}</div>'
                + _strip(evaluation, motion, "input", strip.input_frame)
                + _strip(evaluation, motion, "interpolated", strip.interpolated_frame)
                + "</section>"
            )


def _heads() -> str:
    return "<div>" + "".join(f"<span>{label}</span>" for label in PANELS) + "</div>"


def _strip(evaluation: Path, motion: str, kind: str, frame: int) -> str:
    path = evaluation / "strips" / f"{motion}_{kind}.png"
    try:
        picture = base64.b64encode(path.read_bytes()).decode()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` again") from None
    alternative = f"{motion} motion, frame {frame}, {kind}: {', '.join(PANELS)}"
    return (
        f'<div class="strip"><span>Frame {frame}<small>{kind}</small></span>'
        f'<img alt="{alternative}" src="data:image/png;base64,{picture}"></div>'
    )


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
                Series("trilinear", "trilinear", positions.get("trilinear_psnr_y", ())),
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


def _facts(scores: Scores) -> str:
    model = scores.model
    facts = (
        ("Network", f"{escape(model.name)}, {model.parameters:,} parameters"),
        ("Training", f"step {model.step:,}, seed {model.seed}"),
        ("Trained on", f"{escape(model.degradation)} {_hash(model.data_hash)}"),
        ("Scored on", f"{escape(scores.degradation)} {_hash(scores.data_hash)}"),
        ("Code", _hash(model.git_commit) if model.git_commit else "commit not known"),
    )
    return "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)


def _hash(text: str) -> str:
    return f"<code>{escape(text)}</code>"
