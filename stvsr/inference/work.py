"""The work folder of a rendering: whole segments, from which the same command resumes.

`.NAME.stvsr/KEY/` beside the output holds, for each segment, its packets (`000000.data`) and a
record (`000000.json`), which is written last: a segment without one does not count. KEY stands for
input, options, network, device, code and versions: where one of them differs, the folder does.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from stvsr.core.config import Config, ContentError, Count, Sha256
from stvsr.core.files import open_regular, read_bytes, write_text_whole
from stvsr.video.encoding import Coded

LARGEST_RECORD = 16 << 20
"""Bytes at most of a segment's record."""


class SegmentRecord(Config):
    """The packets of a segment."""

    sizes: tuple[Count, ...]
    """Bytes of each packet, in the order of decoding."""
    stamps: tuple[int, ...]
    """Presentation time of each in ticks."""
    keys: tuple[Count, ...]
    """Places of those that are key frames."""
    sha256: Sha256
    """Of all bytes."""


class Work:
    """The segments of one rendering."""

    def __init__(self, output: Path, identity: Mapping[str, object]) -> None:
        """Open the work folder, or make it.

        Args:
            output: the result; the folder is beside it.
            identity: all that decides the segments' bytes.

        Raises:
            OSError: the folder cannot be made.
        """
        text = json.dumps(identity, sort_keys=True, default=str)
        self.root = root_of(output)
        self.folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            write_text_whole(self.folder / "identity.json", text + "\n")
        self.records = self._whole_segments()

    @property
    def frames(self) -> int:
        """Frames in whole segments."""
        return sum(len(record.sizes) for record in self.records)

    def segment(self) -> "SegmentWriter":
        """A writer of the next segment."""
        return SegmentWriter(self, len(self.records))

    def packets(self) -> Iterator[Coded]:
        """The packets of all segments."""
        for number, record in enumerate(self.records):
            keys = frozenset(record.keys)
            with open_regular(self.data(number)) as file:
                sizes = zip(record.sizes, record.stamps, strict=True)
                for at, (size, stamp) in enumerate(sizes):
                    yield Coded(file.read(size), stamp, at in keys)

    def clear(self) -> None:
        """Remove the folder, those of other renderings of the same output included."""
        shutil.rmtree(self.root, ignore_errors=True)

    def clear_own(self) -> None:
        """Remove this rendering's folder; those of others with the same output stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if not any(path.is_dir() for path in self.root.iterdir()):
            self.clear()

    def data(self, number: int) -> Path:
        """File of a segment's packets."""
        return self.folder / f"{number:06d}.data"

    def record(self, number: int) -> Path:
        """File of a segment's record."""
        return self.folder / f"{number:06d}.json"

    def _whole_segments(self) -> list[SegmentRecord]:
        """The segments from the first up to one that is missing or damaged."""
        found: list[SegmentRecord] = []
        while True:
            try:
                content = read_bytes(self.record(len(found)), LARGEST_RECORD)
                record = SegmentRecord.parse(content)
                with open_regular(self.data(len(found))) as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except (OSError, ContentError):
                return found
            if sha256 != record.sha256 or len(record.sizes) != len(record.stamps):
                return found
            found.append(record)


class SegmentWriter:
    """Writes one segment; without `publish`, it is as if nothing was written."""

    def __init__(self, work: Work, number: int) -> None:
        self._work = work
        self._number = number
        self._partial = work.data(number).with_suffix(".partial")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._packets: list[tuple[int, int, bool]] = []

    def __enter__(self) -> Self:
        self._file = self._partial.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:  # what was left to write
                if error is None:
                    raise self._named(failure) from None
        self._partial.unlink(missing_ok=True)

    def add(self, coded: Coded) -> None:
        """Write a packet."""
        if self._file is None:
            raise AssertionError("the writer is not entered")
        try:
            self._file.write(coded.data)
        except OSError as error:
            raise self._named(error) from None
        self._hash.update(coded.data)
        self._packets.append((len(coded.data), coded.pts, coded.is_key))

    def publish(self) -> None:
        """Make the segment count: its packets are on the disk before its record is."""
        if self._file is None:
            raise AssertionError("the writer is not entered")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._named(error) from None
        self._partial.replace(self._work.data(self._number))
        record = SegmentRecord(
            sizes=tuple(size for size, _, _ in self._packets),
            stamps=tuple(stamp for _, stamp, _ in self._packets),
            keys=tuple(at for at, (_, _, is_key) in enumerate(self._packets) if is_key),
            sha256=self._hash.hexdigest(),
        )
        write_text_whole(self._work.record(self._number), record.model_dump_json() + "\n")
        self._work.records.append(record)

    def _named(self, error: OSError) -> OSError:
        error.filename = error.filename or str(self._partial)  # a full disk is told without a name
        return error


def root_of(output: Path) -> Path:
    """The work folder of an output."""
    return output.with_name(f".{output.name}.stvsr")
