"""Summary of an index, as JSON and Markdown."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from stvsr.core.config import Config
from stvsr.core.escape import markdown
from stvsr.core.files import write_text_whole
from stvsr.data.clips.layout import MOTIONS, SPLITS, LeftOut, SourceRecord
from stvsr.data.index.inspection import FLOW_PAIRS, FLOW_WIDTH
from stvsr.data.index.manifest import ClipRecord

MOTION_EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0)
"""Edges of the motion histogram, pixels per frame; the last bin is open."""

BRIGHTNESS_EDGES = tuple(float(edge) for edge in range(0, 256, 32))
"""Edges of the brightness histogram, grey levels; the last bin ends at 255."""

MOST_LINES = 200
"""Rejected clips that the summary names; the manifest has them all."""


class SplitSummary(Config):
    """One split's clips."""

    listed: int
    """Clips in its list."""
    accepted: int
    """Valid clips."""
    motion: dict[str, int]
    """Valid clips of each motion class."""
    sizes: dict[str, int]
    """Valid clips of each frame size, "WIDTHxHEIGHT"."""


class Histogram(Config):
    """Counts between edges; the last bin is open at its end."""

    edges: tuple[float, ...]
    """Lower edge of each bin."""
    counts: tuple[int, ...]
    """Clips in each bin."""


class Rejected(Config):
    """A clip that was left out."""

    clip: str
    """Its name."""
    split: str
    """The list that names it."""
    reason: str
    """The reason."""


class IndexSummary(Config):
    """The content of `summary.json`."""

    source: SourceRecord
    """The source's record, with the inputs it left out."""
    splits: dict[str, SplitSummary]
    """Counts for train and test."""
    slow_below: float
    """Measured motion below this many pixels per frame is slow."""
    fast_from: float
    """Measured motion from this many pixels per frame on is fast."""
    motion_from_lists: int
    """Valid clips whose class the source's lists name; for the others it was measured."""
    motion_histogram: Histogram
    """Measured motion of the valid clips, pixels per frame."""
    brightness_histogram: Histogram
    """Mean grey level of the valid clips."""
    rejected: tuple[Rejected, ...]
    """Every clip left out, and why."""


def summarise(
    records: Sequence[ClipRecord],
    source: SourceRecord,
    thresholds: tuple[float, float],
    from_lists: int,
) -> IndexSummary:
    """Count the records.

    Args:
        records: all listed clips.
        source: the source's own record.
        thresholds: `slow_below` and `fast_from`, pixels per frame.
        from_lists: valid clips whose motion class was published.
    """
    valid = [record for record in records if record.accepted]
    return IndexSummary(
        source=source,
        splits={split: _of_split(records, split) for split in SPLITS},
        slow_below=thresholds[0],
        fast_from=thresholds[1],
        motion_from_lists=from_lists,
        motion_histogram=_histogram([record.motion_px for record in valid], MOTION_EDGES),
        brightness_histogram=_histogram([record.brightness for record in valid], BRIGHTNESS_EDGES),
        rejected=tuple(
            Rejected(clip=record.clip, split=record.split, reason=record.reason)
            for record in records
            if not record.accepted
        ),
    )


def write_summary(folder: Path, summary: IndexSummary) -> None:
    """Write `summary.json` and `summary.md`."""
    write_text_whole(folder / "summary.json", summary.model_dump_json(indent=2) + "\n")
    write_text_whole(folder / "summary.md", "\n".join(_markdown(summary)) + "\n")


def _of_split(records: Sequence[ClipRecord], split: str) -> SplitSummary:
    listed = [record for record in records if record.split == split]
    valid = [record for record in listed if record.accepted]
    motion = Counter(record.motion for record in valid)
    return SplitSummary(
        listed=len(listed),
        accepted=len(valid),
        motion={name: motion[name] for name in MOTIONS},
        sizes=dict(Counter(f"{record.width}x{record.height}" for record in valid).most_common()),
    )


def _histogram(values: Sequence[float], edges: tuple[float, ...]) -> Histogram:
    counts = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    return Histogram(edges=edges, counts=(*counts, sum(value >= edges[-1] for value in values)))


def _markdown(summary: IndexSummary) -> list[str]:
    return [
        f"# Clips from `source.kind={summary.source.kind}`",
        "",
        *_counts(summary),
        "",
        f"Motion is the mean length of the optical flow (DIS, frames at most {FLOW_WIDTH} wide, "
        f"{len(FLOW_PAIRS)} steps a clip) in pixels per frame: slow below "
        f"{summary.slow_below:g}, fast from {summary.fast_from:g} on. The source's lists name "
        f"the class of {summary.motion_from_lists} clips; it was measured for the others.",
        "",
        *_bars("Motion, pixels per frame", summary.motion_histogram),
        *_bars("Brightness, mean grey level", summary.brightness_histogram),
        *_rejected(summary.rejected),
        *_left_out(summary.source.left_out),
        "## Made from",
        "",
        *(f"- {markdown(k)}: {markdown(v)}" for k, v in summary.source.provenance.items()),
    ]


def _counts(summary: IndexSummary) -> list[str]:
    lines = ["| split | listed | accepted | rejected | slow | medium | fast | sizes |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, split in summary.splits.items():
        motion = " | ".join(str(split.motion[kind]) for kind in MOTIONS)
        sizes = ", ".join(f"{size} ({count})" for size, count in split.sizes.items())
        rejected = split.listed - split.accepted
        lines += [
            f"| {name} | {split.listed} | {split.accepted} | {rejected} | {motion} | {sizes} |"
        ]
    return lines


def _bars(title: str, histogram: Histogram) -> list[str]:
    """A histogram as a block of text: one line a bin, at most 40 marks."""
    most = max(*histogram.counts, 1)
    ends = [f"{edge:g}" for edge in histogram.edges[1:]] + ["…"]
    lines = [
        f"{low:>5g} to {end:<5} {count:>6} {'█' * -(-40 * count // most)}".rstrip()
        for low, end, count in zip(histogram.edges, ends, histogram.counts, strict=True)
    ]
    return [f"## {title}", "", "```", *lines, "```", ""]


def _rejected(rejected: Sequence[Rejected]) -> list[str]:
    lines = [f"## Rejected: {len(rejected)}", ""]
    lines += [
        f"- {clip.split} {markdown(f'{clip.clip}: {clip.reason}')}"
        for clip in rejected[:MOST_LINES]
    ]
    if len(rejected) > MOST_LINES:
        lines += [f"- and {len(rejected) - MOST_LINES} more: see summary.json"]
    return [*lines, ""] if rejected else [*lines[:1], ""]


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    total = sum(item.clips for item in left_out)
    lines = [f"- {markdown(f'{item.what}: {item.why}')}" for item in left_out[:MOST_LINES]]
    if len(left_out) > MOST_LINES:
        lines += [f"- and {len(left_out) - MOST_LINES} more: see summary.json"]
    return [f"## Left out by the source: {total}", "", *lines, ""]
