"""Journal of a score that is being made, so that a killed one resumes with the next clip."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stvsr.core.config import Config, ValidationError
from stvsr.evaluation.scores import FrameScore, Kind

MOST_BYTES = 2**27
"""A line longer than this is not read: a clip of 100,000 frames has a fourth of it."""


class FrameRow(Config):
    """One frame's scores; an infinite PSNR is null."""

    frame: int
    """Place in the clip, from 1."""
    kind: Kind
    """True for an input frame, false for an interpolated one."""
    network: dict[str, float | None]
    """The method's scores by measure."""
    bicubic_linear: dict[str, float | None]
    """The baseline's."""


class ClipRows(Config):
    """A clip that was scored: a line of the journal."""

    clip: str
    """Its name."""
    motion: str
    """Its motion class."""
    state: str
    """Hash of the state of the files and the method that the scores were made from."""
    frames: list[FrameRow]
    """Scores of its frames."""


class ScoreJournal:
    """A hidden file beside the result: a line with the conditions, then one for each clip.

    Lines are only ever appended; a torn last one is cut off by the next run. A clip's scores hold
    for the files and the method they were made from, whose state is beside them.
    """

    def __init__(self, out: Path, conditions: Mapping[str, str]) -> None:
        out = out.resolve()
        self.path = out.with_name(f".{out.name}.clips.jsonl")
        self._first = json.dumps({"format": 1, **conditions}).encode() + b"\n"
        self._kept: dict[str, ClipRows] = {}

    def __len__(self) -> int:
        """Clips that were scored before."""
        return len(self._kept)

    def open(self) -> None:
        """Read what a killed run left; nothing of it holds under other conditions."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with self.path.open("r+b") as file:
            if file.readline(MOST_BYTES) == self._first:
                whole = self._read(file)
            else:
                whole = 0
            file.truncate(whole)
            if not whole:
                file.seek(0)
                file.write(self._first)

    def find(self, clip: str, state: str) -> list[FrameScore] | None:
        """The scores of a clip whose state is the same; None where there are none."""
        kept = self._kept.get(clip)
        if kept is None or kept.state != _digest(state):
            return None
        return [
            FrameScore(
                kept.clip,
                kept.motion,
                row.frame,
                row.kind,
                _with_infinity(row.network),
                _with_infinity(row.bicubic_linear),
            )
            for row in kept.frames
        ]

    def add(self, state: str, frames: Sequence[FrameScore]) -> None:
        """Append the scores of one clip's frames."""
        rows = [
            FrameRow(
                frame=frame.frame,
                kind=frame.kind,
                network=_without_infinity(frame.network),
                bicubic_linear=_without_infinity(frame.bicubic_linear),
            )
            for frame in frames
        ]
        clip, motion = frames[0].clip, frames[0].motion
        line = ClipRows(clip=clip, motion=motion, state=_digest(state), frames=rows)
        with self.path.open("ab") as file:
            file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Forget the clips, when the result is whole."""
        self.path.unlink(missing_ok=True)

    def _read(self, file: BinaryIO) -> int:
        """Keep the lines that are whole; return the byte at which they end."""
        whole = file.tell()
        for line in _lines(file):
            try:
                rows = ClipRows.model_validate_json(line)
            except ValidationError:
                break
            self._kept[rows.clip] = rows
            whole += len(line)
        return whole


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that have an end and are not too long."""
    while (line := file.readline(MOST_BYTES)).endswith(b"\n"):
        yield line


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def _without_infinity(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _with_infinity(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.inf if value is None else value for name, value in scores.items()}
