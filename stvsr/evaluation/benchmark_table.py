"""The papers' table from any number of scores, as Markdown, as CSV and as a page with pictures."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stvsr.core.errors import SourceError
from stvsr.core.files import whole_folder
from stvsr.evaluation.meters import FURTHER
from stvsr.evaluation.published_scores import OUR_MODELS, PUBLISHED, PublishedScore
from stvsr.evaluation.set_scores import (
    SCORES_FILE,
    Estimate,
    Group,
    Part,
    SetScores,
    read_set_scores,
)
from stvsr.evaluation.sets import SETS
from stvsr.evaluation.speed import INPUT_FRAMES, RUNS
from stvsr.evaluation.table_page import Table, table_page
from stvsr.evaluation.tables import Row, to_csv

HEADER = (
    "Method",
    "PSNR-Y",
    "SSIM-Y",
    "PSNR-Y input",
    "PSNR-Y interpolated",
    "PSNR-RGB",
    "SSIM-RGB",
    "Gain PSNR-Y",
)
PUBLISHED_HEADER = ("Published", "Difference")
SPEED_HEADER = (
    "Method",
    "Parameters (M)",
    "LR size",
    "Precision",
    "Device",
    "Frames/s",
    "Peak memory (MiB)",
    "GFLOPs a frame",
)
SPEED_NOTE = (
    f"Output frames per second in windows of {INPUT_FRAMES} input frames, one at a time: the "
    f"median of {RUNS}, warm and synchronised. Peak memory: of tensors on a GPU, of the whole "
    "process on a CPU. GFLOPs: counted operations of convolutions and matrix products for an "
    "output frame, a multiply-add is two."
)
BASELINE = "bicubic+linear"
NOTE = (
    "PSNR in dB; in brackets, the 95 % interval over clips. Gain: over bicubic+linear on the same "
    "frames. Published: PSNR-Y / SSIM-Y as the papers print them, by the papers' protocols; "
    "Difference: measured minus published. Of tOF, in pixels, less is better; XPSNR is in dB."
)

COMPARABLE = ("stvsr", "zsm", "rstt")
"""Protocols of the published figures; all of them are of bicubic LR frames."""

NAMED = 6
"""Things missing or left out that a table names."""

Condition = tuple[str, str, str, int, int, tuple[str, ...], tuple[str, ...]]
"""Set, protocol, origin of the LR frames, clips, frames, what was missing and what was left out:
only scores alike in all of them are in one table."""


def write_table(folders: Sequence[Path], out: Path) -> str:
    """Write table.md, table.csv and table.html of scores.

    Args:
        folders: results of `stvsr score`; none: all that are in `scores/`.
        out: folder that gets them; it appears whole or not at all.

    Returns:
        The Markdown.

    Raises:
        SourceError: there is no score, or one is damaged.
    """
    found = list(folders) or _all_scores()
    if not found:
        raise SourceError("scores: found no score; run `stvsr score` first, or name its folder")
    scores = [read_set_scores(folder) for folder in found]
    markdown = table_markdown(scores)
    page = table_page(tables_of(scores), NOTE, dict(zip(map(id, scores), found, strict=True)))
    with whole_folder(out) as partial:
        (partial / "table.md").write_text(markdown, encoding="utf-8")
        (partial / "table.csv").write_text(table_csv(scores), encoding="utf-8")
        (partial / "table.html").write_text(page, encoding="utf-8")
    return markdown


def _all_scores() -> list[Path]:
    """The folders in `scores/` that have a score, be it a link that leads to nothing."""
    paths = sorted(Path("scores").glob("*/*"))
    return [path.parent for path in paths if path.name == SCORES_FILE]


def table_markdown(scores: Iterable[SetScores]) -> str:
    """The tables as Markdown."""
    lines = [line for table in tables_of(scores) for line in _markdown(table)]
    return "\n".join([*lines, NOTE, ""])


def tables_of(scores: Iterable[SetScores]) -> list[Table]:
    """An overview of methods and sets, then a table for all scores of equal conditions.

    In a table the best PSNR-Y is first.
    """
    ordered = sorted(scores, key=_order)
    tables: dict[Condition, list[SetScores]] = {}
    overviews: dict[tuple[str, str], list[SetScores]] = {}
    for score in ordered:
        tables.setdefault(_condition(score), []).append(score)
        if not score.partial:
            overviews.setdefault((score.protocol, score.degradation), []).append(score)
    several = [group for group in overviews.values() if len({score.set for score in group}) > 1]
    return [*map(_overview, several), *map(_section, tables.values()), *_speed_tables(ordered)]


def table_csv(scores: Iterable[SetScores]) -> str:
    """One row per score, group of clips, kind of frame and measure."""
    return to_csv(
        row
        for score in sorted(scores, key=_order)
        for name, group in score.groups.items()
        for row in _csv_rows(score, name, group)
    )


def published_score(score: SetScores) -> PublishedScore | None:
    """The published figures of a scored method on this set; None where there are none.

    A network of this package has its paper's only if it is the published one, frames that others
    made if the method's name is the paper's. A partial set, another protocol and another
    degradation have none; LR frames that the set brings are taken for bicubic.
    """
    is_bicubic = score.degradation == "bicubic" or score.degradation.startswith("read from ")
    if score.partial or score.protocol not in COMPARABLE or not is_bicubic:
        return None
    if score.model is not None:
        method: str | None = OUR_MODELS.get(score.model.name)
    else:
        wanted = score.method.casefold()
        method = next((name for name in PUBLISHED if name.casefold() == wanted), None)
    return PUBLISHED[method].get(score.set) if method else None


def _condition(score: SetScores) -> Condition:
    lr = score.degradation
    counts = score.clips, score.frames
    return score.set, score.protocol, lr, *counts, score.missing, score.left_out


def _order(score: SetScores) -> tuple[int, Condition, float, str]:
    names = [known.name for known in SETS]
    place = names.index(score.set) if score.set in names else len(names)
    psnr = score.groups["all"].parts["all"].network["psnr_y"].mean
    return place, _condition(score), -(psnr or 0.0), score.method


def _overview(scores: Sequence[SetScores]) -> Table:
    """PSNR-Y / SSIM-Y of each method on each set, as papers print it."""
    names = list(dict.fromkeys(score.set for score in scores))
    rows: dict[str, dict[str, str]] = {}
    for score in scores:
        found = score.groups["all"].parts["all"]
        rows.setdefault(score.method, {})[score.set] = _pair(found.network)
        rows.setdefault(BASELINE, {})[score.set] = _pair(found.bicubic_linear)
        if published := published_score(score):
            row = rows.setdefault(f"{score.method}, published", {})
            row[score.set] = f"{published.psnr_y:.2f} / {published.ssim_y:.4f}"
    return Table(
        title=f"PSNR-Y / SSIM-Y, protocol {scores[0].protocol}, LR {scores[0].degradation}",
        notes=(),
        header=("Method", *names),
        rows=tuple(
            (method, *(row.get(name, "-") for name in names)) for method, row in rows.items()
        ),
    )


def _section(scores: Sequence[SetScores]) -> Table:
    """The table of scores of equal conditions, with the baseline."""
    first = scores[0]
    further = [name for name in FURTHER if any(name in _all(s).network for s in scores)]
    rows = [
        (
            score.method,
            *_measured(score, "network"),
            *_further(_all(score).network, further),
            *_published_cells(score),
        )
        for score in scores
    ]
    fullest = max(scores, key=lambda score: len(_all(score).bicubic_linear))
    baseline = _further(_all(fullest).bicubic_linear, further)
    rows.append((BASELINE, *_measured(first, "bicubic_linear"), *baseline, "-", "-"))
    return Table(
        title=f"{first.set}{', partial' if first.partial else ''}",
        notes=tuple(_notes(first)),
        header=(*HEADER, *(FURTHER[name].label for name in further), *PUBLISHED_HEADER),
        rows=tuple(rows),
        scores=tuple(scores),
    )


def _speed_tables(scores: Iterable[SetScores]) -> Iterator[Table]:
    """The speed of the methods, if it was measured; of a network, size and device the first one."""
    rows: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
    for score in scores:
        for one in score.speed:
            size = f"{one.width}x{one.height}"
            parameters = score.model.parameters if score.model else 0
            cells = (
                f"{parameters / 1e6:.2f}",
                size,
                one.precision,
                one.device,
                f"{one.frames_per_second:.3g}",
                "-" if one.peak_memory is None else f"{one.peak_memory / 2**20:,.0f}",
                f"{one.operations / one.output_frames / 1e9:,.1f}",
            )
            key = (score.method, size, one.precision, one.device)
            rows.setdefault(key, (score.method, *cells))
    if rows:
        yield Table("Speed", (SPEED_NOTE,), SPEED_HEADER, tuple(rows.values()))


def _notes(score: SetScores) -> Iterator[str]:
    """The conditions of a table, what was missing, and what was left out."""
    yield (
        f"Protocol {score.protocol}; LR {score.degradation}; {score.rounding}; "
        f"{score.clips} clips, {score.frames} frames."
    )
    for label, lines in (("Missing", score.missing), ("Left out", score.left_out)):
        if lines:
            more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
            yield f"{label}: {'; '.join(lines[:NAMED])}{more}."


def _markdown(table: Table) -> Iterator[str]:
    yield f"### {_cell(table.title)}"
    yield ""
    for note in table.notes:
        yield _cell(note)
        yield ""
    yield f"| {' | '.join(map(_cell, table.header))} |"
    yield f"|{'---|' * len(table.header)}"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _measured(score: SetScores, method: str) -> list[str]:
    parts = score.groups["all"].parts
    every: dict[str, Estimate] = getattr(parts["all"], method)
    gain = parts["all"].gain["psnr_y"] if method == "network" else None
    return [
        _with_interval(every["psnr_y"], "{:.2f}"),
        _with_interval(every["ssim_y"], "{:.4f}"),
        _psnr_of(parts.get("input"), method),
        _psnr_of(parts.get("interpolated"), method),
        _number(every["psnr_rgb"].mean, "{:.2f}"),
        _number(every["ssim_rgb"].mean, "{:.4f}"),
        _with_interval(gain, "{:+.2f}") if gain else "-",
    ]


def _all(score: SetScores) -> Part:
    return score.groups["all"].parts["all"]


def _further(estimates: dict[str, Estimate], names: Sequence[str]) -> list[str]:
    """Cells of further measures; "-" where one was not asked for."""
    return [
        _with_interval(estimates[name], FURTHER[name].form) if name in estimates else "-"
        for name in names
    ]


def _psnr_of(part: Part | None, method: str) -> str:
    if part is None:
        return "-"
    estimates: dict[str, Estimate] = getattr(part, method)
    return _number(estimates["psnr_y"].mean, "{:.2f}")


def _published_cells(score: SetScores) -> list[str]:
    published = published_score(score)
    if published is None:
        return ["-", "-"]
    found = score.groups["all"].parts["all"].network
    return [
        f"{published.psnr_y:.2f} / {published.ssim_y:.4f}",
        f"{_number(_minus(found['psnr_y'].mean, published.psnr_y), '{:+.2f}')} / "
        f"{_number(_minus(found['ssim_y'].mean, published.ssim_y), '{:+.4f}')}",
    ]


def _csv_rows(score: SetScores, name: str, group: Group) -> Iterator[Row]:
    published = published_score(score)
    for kind, part in group.parts.items():
        for measure, estimate in part.network.items():
            gain = part.gain[measure]
            printed = getattr(published, measure, None) if (name, kind) == ("all", "all") else None
            yield {
                "method": score.method,
                "set": score.set,
                "protocol": score.protocol,
                "degradation": score.degradation,
                "partial": str(score.partial).lower(),
                "group": name,
                "clips": group.clips,
                "kind": kind,
                "frames": part.frames,
                "measure": measure,
                "mean": estimate.mean,
                "low": estimate.low,
                "high": estimate.high,
                "bicubic_linear": part.bicubic_linear[measure].mean,
                "gain": gain.mean,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "published": printed,
                "difference": _minus(estimate.mean, printed),
            }


def _pair(estimates: dict[str, Estimate]) -> str:
    psnr, ssim = estimates["psnr_y"].mean, estimates["ssim_y"].mean
    return f"{_number(psnr, '{:.2f}')} / {_number(ssim, '{:.4f}')}"


def _minus(measured: float | None, published: float | None) -> float | None:
    return None if measured is None or published is None else measured - published


def _with_interval(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return _number(estimate.mean, form)
    ends = f"{form.format(estimate.low)}, {form.format(estimate.high)}"
    return f"{_number(estimate.mean, form)} [{ends}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _cell(text: str) -> str:
    """Text that ends no cell and no line of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
