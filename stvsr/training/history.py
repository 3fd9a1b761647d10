"""The history of a run: one JSON line per logged step, the basis of every curve.

`history.jsonl` may run ahead of the newest checkpoint while a run lives; a resumed run first cuts
it back to the checkpoint's step and then writes the same lines again.
"""

import csv
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.errors import CheckpointError
from stvsr.core.files import write_bytes_whole, write_text_whole

logger = logging.getLogger(__name__)

TIMING = frozenset({"clips_per_second", "data_wait", "peak_memory_mib", "step_seconds"})
"""Metrics that tell of the machine, not of the training: these differ from run to run."""


@dataclass(frozen=True)
class Record:
    """The metrics of a step.

    Attributes:
        step: optimizer steps done.
        metrics: by name, such as "loss" or "val/psnr_y"; finite.
    """

    step: int
    metrics: Mapping[str, float]

    def to_line(self) -> bytes:
        """One line of JSON, newline included."""
        metrics = {name: float(value) for name, value in self.metrics.items()}
        return json.dumps({"step": self.step, **metrics}, allow_nan=False).encode() + b"\n"


def read_history(path: Path) -> list[Record]:
    """The records of a history.jsonl, steps ascending; none where there is no file.

    A last line without its end, which a full disk or a cut of power can leave, is passed over.

    Raises:
        CheckpointError: a line is not a record.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def curve(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """(step, value) of the metric `name`, where it was measured."""
    return [(record.step, record.metrics[name]) for record in records if name in record.metrics]


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write the history as a table: a row per step, a column per metric, empty where unmeasured."""
    names = sorted({name for record in records for name in record.metrics})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", *names], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({"step": record.step, **record.metrics})
    write_text_whole(path, text.getvalue())


class History:
    """A history.jsonl that is being written; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = path.stat().st_size if path.exists() else 0
        self._waiting: list[bytes] = []

    def cut_back(self, step: int) -> None:
        """Drop the records after `step`: a resumed run measures those again."""
        kept = [record.to_line() for record in read_history(self.path) if record.step <= step]
        write_bytes_whole(self.path, b"".join(kept))
        self._size = self.path.stat().st_size
        self._waiting = []

    def append(self, record: Record) -> None:
        """Write a record, or keep it in memory while the disk does not take it."""
        self._waiting.append(record.to_line())
        try:
            self._write_waiting()
        except OSError as error:
            logger.warning(
                "%s: cannot be written (%s); %d lines wait in memory",
                self.path,
                error.strerror,
                len(self._waiting),
            )

    def commit(self) -> None:
        """Make all records so far durable.

        Raises:
            OSError: the disk does not take them; they wait for the next call.
        """
        self._write_waiting()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        text = b"".join(self._waiting)
        with self.path.open("r+b") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(text)
        self._size += len(text)
        self._waiting = []


def _parse(line: bytes, where: str) -> Record:
    try:
        fields = json.loads(line)
        step = fields.pop("step")
        return Record(int(step), {name: float(value) for name, value in fields.items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        raise CheckpointError(
            f"{where}: found {line[:60]!r}, which is no record of a step; "
            "put the file back, or train with --fresh"
        ) from None
