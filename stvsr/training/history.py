"""The history of a run: one JSON line per logged step, the basis of every curve.

`history.jsonl` may run ahead of the newest checkpoint while a run lives; a resumed run first cuts
it back to the checkpoint's step and then writes the same lines again.
"""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.config import ContentError, Count, Numbers
from stvsr.core.errors import CheckpointError
from stvsr.core.escape import csv_cell
from stvsr.core.files import MIB, open_regular, read_bytes, write_bytes_whole, write_text_whole
from stvsr.core.lines import Chain

MOST_BYTES = 256 * MIB
"""A history that is larger is not read; a million records have about this size."""

LONGEST_LINE = 64 * 1024
"""Bytes at the end of a history in which its last whole line is looked for."""

logger = logging.getLogger(__name__)

TIMING = frozenset({"clips_per_second", "data_wait", "peak_memory_mib", "step_seconds"})
"""Metrics that tell of the machine, not of the training: these differ from run to run."""

REMEDY = "put the file back, or train with --fresh"
"""Remedy for a history that cannot be used."""


@dataclass(frozen=True)
class Record:
    """The metrics of a step.

    Attributes:
        step: optimizer steps done.
        metrics: by name, such as "loss" or "val/psnr_y"; finite.
    """

    step: int
    metrics: Mapping[str, float]

    def to_line(self, chain: Chain) -> bytes:
        """The next line of a history: JSON with a checksum, newline included."""
        metrics = {name: float(value) for name, value in self.metrics.items()}
        return chain.seal({"step": self.step, **metrics})


class _Line(Numbers):
    """A line of a history: the step, and the metrics by name."""

    step: Count
    """Optimizer steps done."""
    checksum: str = ""
    """As `Chain` makes it."""

    def record(self) -> Record:
        """The step and its metrics.

        Raises:
            ContentError: a metric is no number.
        """
        metrics = {}
        for name, value in self.by_name.items():
            if value is None or isinstance(value, bool):
                raise ContentError(f"{name}: found {value}, allowed is a number")
            metrics[name] = float(value)
        return Record(self.step, metrics)


def read_history(path: Path) -> list[Record]:
    """The records of a history.jsonl, steps ascending; none where there is no file.

    A last line without its end, which a full disk or a cut of power can leave, is passed over.

    Raises:
        CheckpointError: the file cannot be read, or a line is changed, lost, or not a record.
    """
    chain = Chain()
    lines = enumerate(_whole_lines(path), start=1)
    return [_parse(line, chain, f"{path}, line {number}") for number, line in lines]


def read_history_until(path: Path, step: int, records: int) -> list[Record]:
    """The records of a history.jsonl up to the step of a checkpoint.

    Args:
        path: the file.
        step: the checkpoint's.
        records: how many there were when it was saved.

    Raises:
        CheckpointError: the history is damaged, or has fewer records.
    """
    found = [record for record in read_history(path) if record.step <= step]
    if len(found) < records:
        raise CheckpointError(
            f"{path}: found {len(found)} records up to step {step}, its checkpoint was saved after "
            f"{records}",
            remedy=REMEDY,
        )
    return found


def newest_step(path: Path) -> int:
    """Step of the last whole line of a history that is being written; 0 where there is none."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LINE))
            return _Line.parse(file.read().split(b"\n")[-2]).step
    except (OSError, ContentError, IndexError):
        return 0


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return read_bytes(path, MOST_BYTES).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", remedy=REMEDY) from None


def curve(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """(step, value) of the metric `name`, where it was measured."""
    return [(record.step, record.metrics[name]) for record in records if name in record.metrics]


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write the history as a table: a row per step, a column per metric, empty where unmeasured."""
    names = sorted({name for record in records for name in record.metrics})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", *names], lineterminator="\n")
    csv.writer(text, lineterminator="\n").writerow(map(csv_cell, ["step", *names]))
    for record in records:
        writer.writerow({"step": record.step, **record.metrics})
    write_text_whole(path, text.getvalue())


class History:
    """A history.jsonl that is being written; one process at a time.

    Attributes:
        path: the file.
        records: how many it has, those that wait for the disk among them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = path.stat().st_size if path.exists() else 0
        self._waiting: list[bytes] = []
        self._chain = Chain()
        self.records = 0

    def cut_back(self, step: int, records: int = 0) -> None:
        """Drop the records after `step`: a resumed run measures those again.

        Args:
            step: the checkpoint's.
            records: how many there were when it was saved.

        Raises:
            CheckpointError: the history is damaged, or has fewer records.
        """
        kept = read_history_until(self.path, step, records)
        self._chain = Chain()
        write_bytes_whole(self.path, b"".join(record.to_line(self._chain) for record in kept))
        self._size = self.path.stat().st_size
        self._waiting = []
        self.records = len(kept)

    def append(self, record: Record) -> None:
        """Write a record, or keep it in memory while the disk does not take it."""
        self._waiting.append(record.to_line(self._chain))
        self.records += 1
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
        with open_regular(self.path) as file:
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


def _parse(line: bytes, chain: Chain, where: str) -> Record:
    try:
        if not chain.accept(line):
            raise ContentError("changed, or a line before it is lost: its checksum differs")
        return _Line.parse(line).record()
    except ContentError as fault:
        raise CheckpointError(
            f"{where}: found {line[:60]!r}, which is no record of a step ({fault})", remedy=REMEDY
        ) from None
