"""Index: every clip of a source inspected; the valid ones listed with their motion.

The folder it writes holds `manifest.parquet` (one row per listed clip: the fields of
`ClipRecord`), `summary.json` (`IndexSummary`) and `summary.md` (the same, to read).
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from stvsr.core.config import Config, Field, FieldError, model_validator
from stvsr.core.errors import SourceError
from stvsr.core.files import whole_folder
from stvsr.core.workers import available_cores, map_parallel
from stvsr.data.clips.frames import open_frames
from stvsr.data.clips.layout import (
    MOTIONS,
    SPLITS,
    Motion,
    SourceRecord,
    Split,
    motion_list,
    read_clip_list,
    read_record,
    split_list,
)
from stvsr.data.index.inspection import Inspection, Limits, inspect_clip
from stvsr.data.index.journal import InspectionJournal
from stvsr.data.index.manifest import ClipRecord, read_manifest, read_root, write_manifest
from stvsr.data.index.summary import IndexSummary, summarise, write_summary

__all__ = ["ClipRecord", "IndexConfig", "build_index", "read_manifest", "read_root"]

logger = logging.getLogger(__name__)

NOT_DECIDING = (
    "stvsr.core.errors",
    "stvsr.core.files",
    "stvsr.core.fingerprint",
    "stvsr.core.lines",
    "stvsr.core.progress",
    "stvsr.core.workers",
)
"""Modules that this one imports and on which an index does not depend."""

CLIPS_PER_WORKER = 16
"""For fewer clips than this another process takes longer to start than it saves."""


class IndexConfig(Config):
    """Limits of valid clips, and of the motion classes."""

    smallest_side: int = Field(default=64, ge=16, le=16384)
    """Pixels that a frame's width and height must have at least."""
    largest_side: int = Field(default=4096, ge=16, le=16384)
    """Pixels that they may have at most; checked before anything is decoded."""
    black_level: int = Field(default=2, ge=0, le=254)
    """A clip without any value above this (of 0..255) is black and left out."""
    slow_below: float = Field(default=1.5, gt=0, le=1000)
    """Measured motion below this is slow, in pixels per frame; published lists go first."""
    fast_from: float = Field(default=5.0, gt=0, le=1000)
    """Measured motion from this on is fast, in pixels per frame."""

    @model_validator(mode="after")
    def _in_order(self) -> "IndexConfig":
        if self.slow_below >= self.fast_from:
            raise FieldError(
                "slow_below",
                f"found {self.slow_below:g}; allowed: less than fast_from {self.fast_from:g}",
            )
        if self.smallest_side > self.largest_side:
            raise FieldError(
                "smallest_side",
                f"found {self.smallest_side}; allowed: no more than largest_side "
                f"{self.largest_side}",
            )
        return self


def build_index(source: Path, out: Path, config: IndexConfig) -> IndexSummary:
    """Inspect every clip that the source's lists name, on all cores; write the index to `out`.

    A clip is rejected, counted and named in the summary when a frame is missing, is no 8-bit RGB
    PNG, does not decode, or differs in size; when its size is outside the limits or no multiple
    of 4; when it is all black; when its list names it twice; and, in the training list, when the
    test list has it too, by name or with the same bytes in all frames.

    The motion class comes from the source's `{slow,medium,fast}_{test,train}set.txt`. Of a clip
    that none of them names it is measured: the mean length of the DIS optical flow over three of
    the six steps between frames is slow below `slow_below` and fast from `fast_from` pixels per
    frame on. The published classes have no stated thresholds; these are ours.

    Args:
        source: the folder `make_source` wrote.
        out: replaced as a whole when all is inspected.
        config: the limits and thresholds.

    Raises:
        SourceError: the source is missing or damaged, or no clip of a split is valid.
    """
    about = read_record(source)
    root = Path(os.path.normpath(source / about.root))
    listed = [
        (split, clip) for split in SPLITS for clip in read_clip_list(split_list(source, split))
    ]
    limits = Limits(config.smallest_side, config.largest_side, config.black_level)
    journal = InspectionJournal(out, limits)
    inspections = _inspect_all(root, [clip for _, clip in listed], limits, journal)
    classes = _published_motion(source)
    records = [_record(split, clip, inspections[clip], classes, config) for split, clip in listed]
    records = _without_doubles(records, inspections)
    _check_enough(records, source)

    from_lists = sum(record.accepted and record.clip in classes for record in records)
    thresholds = config.slow_below, config.fast_from
    summary = summarise(records, about, thresholds, from_lists)
    with whole_folder(out) as folder:
        write_manifest(folder, records, _root_from(out, root, about))
        write_summary(folder, summary)
    journal.remove()
    _log(summary, out)
    return summary


def _inspect_all(
    root: Path, clips: Sequence[str], limits: Limits, journal: InspectionJournal
) -> dict[str, Inspection]:
    """Inspect every clip once, on all cores, except those whose inspection the journal has."""
    frames = open_frames(root)
    names = list(dict.fromkeys(clips))
    with closing(journal):
        kept = journal.open()
        inspections = {
            clip: kept[clip][1]
            for clip in names
            if clip in kept and kept[clip][0] == frames.file_state(clip)
        }
        if inspections:
            logger.info("%d of %d clips were inspected before", len(inspections), len(names))
        jobs = [(root, clip, limits) for clip in names if clip not in inspections]
        workers = min(available_cores(), 1 + len(jobs) // CLIPS_PER_WORKER)
        inspected = map_parallel(_inspect_job, jobs, workers, "inspecting clips")
        for (_, clip, _), (file_state, inspection) in zip(jobs, inspected, strict=True):
            journal.add(clip, file_state, inspection)
            inspections[clip] = inspection
    return inspections


def _inspect_job(job: tuple[Path, str, Limits]) -> tuple[str, Inspection]:
    """A clip's inspection, and the file_state its files had before they were read."""
    root, clip, limits = job
    frames = open_frames(root)
    return frames.file_state(clip), inspect_clip(frames, clip, limits)


def _published_motion(source: Path) -> dict[str, Motion]:
    """The class of every clip that a motion list of the source names.

    A list may be missing; one that cannot be read is an error.
    """
    lists = [(m, motion_list(source, m, split)) for m in MOTIONS for split in SPLITS]
    return {clip: m for m, path in lists if os.path.lexists(path) for clip in read_clip_list(path)}


def _record(
    split: Split,
    clip: str,
    inspection: Inspection,
    classes: Mapping[str, Motion],
    config: IndexConfig,
) -> ClipRecord:
    return ClipRecord(
        clip=clip,
        split=split,
        accepted=not inspection.reason,
        reason=inspection.reason,
        width=inspection.width,
        height=inspection.height,
        motion=classes.get(clip) or _measured_class(inspection.motion_px, config),
        motion_px=inspection.motion_px,
        brightness=inspection.brightness,
    )


def _measured_class(motion_px: float, config: IndexConfig) -> Motion:
    if motion_px < config.slow_below:
        return "slow"
    return "fast" if motion_px >= config.fast_from else "medium"


def _without_doubles(
    records: Sequence[ClipRecord], inspections: Mapping[str, Inspection]
) -> list[ClipRecord]:
    """Refuse training clips that are test clips too, and what a list names twice."""
    tests = {record.clip for record in records if record.split == "test"}
    test_bytes = {inspections[clip].digest: clip for clip in tests if not inspections[clip].reason}
    seen: set[tuple[str, str]] = set()
    inspected = []
    for record in records:
        reason = ""
        if (record.split, record.clip) in seen:
            reason = "its list names it twice"
        elif record.split == "train" and record.clip in tests:
            reason = "the test list has it too"
        elif record.split == "train" and (twin := test_bytes.get(inspections[record.clip].digest)):
            reason = f"its frames are those of test clip {twin}, byte for byte"
        seen.add((record.split, record.clip))
        doubled = record.accepted and reason
        inspected.append(replace(record, accepted=False, reason=reason) if doubled else record)
    return inspected


def _check_enough(records: Sequence[ClipRecord], source: Path) -> None:
    for split in SPLITS:
        of_split = [record for record in records if record.split == split]
        if any(record.accepted for record in of_split):
            continue
        shown = "".join(f"; {record.clip}: {record.reason}" for record in of_split[:5])
        raise SourceError(
            f"{split_list(source, split)}: none of its {len(of_split)} clips is valid, and at "
            f"least one is needed{shown}{'; …' if len(of_split) > 5 else ''}"
        )


def _root_from(out: Path, root: Path, about: SourceRecord) -> str:
    """The root as the manifest keeps it: relative to the index, unless it is the dataset's own.

    So the index of one source has the same bytes in every clone of the project.
    """
    return str(root) if Path(about.root).is_absolute() else os.path.relpath(root, out)


def _log(summary: IndexSummary, out: Path) -> None:
    for name, split in summary.splits.items():
        motion = ", ".join(f"{count} {motion}" for motion, count in split.motion.items())
        logger.info("%s: %d of %d clips are valid (%s)", name, split.accepted, split.listed, motion)
    for clip in summary.rejected[:10]:
        logger.warning("%s %s is left out: %s", clip.split, clip.clip, clip.reason)
    if len(summary.rejected) > 10:
        logger.warning("… %d in all: see %s", len(summary.rejected), out / "summary.md")
