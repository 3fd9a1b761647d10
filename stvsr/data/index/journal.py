"""Journal of an index that is being made, so that a killed run resumes."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import cv2

from stvsr.core.config import Config, ContentError
from stvsr.core.errors import SourceError
from stvsr.core.files import open_regular
from stvsr.core.fingerprint import code_fingerprint
from stvsr.core.lines import Chain
from stvsr.data.index import inspection
from stvsr.data.index.inspection import Inspection, Limits

NOT_DECIDING = ("stvsr.core.errors", "stvsr.core.files", "stvsr.core.fingerprint")
"""Modules on which the result of an inspection does not depend."""


LINE_BYTES = 2**16
"""Bytes at most of a line that this module wrote."""


class _Line(Config):
    """A line of the journal: a valid clip's inspection."""

    clip: str
    """Name."""
    file_state: str
    """Of the clip's files when they were inspected."""
    inspection: Inspection
    """The findings."""
    checksum: str
    """As `Chain` makes it."""


class InspectionJournal:
    """A hidden file beside the index: a line with limits and code, then one per clip.

    Lines are only ever appended, some 8 KiB at a time (two dozen clips), and the next run cuts off
    a torn last one, and all lines from the first one on whose checksum differs. An inspection holds
    for the files it was made from: their file_state (`Frames.file_state`) is beside it. Rejections
    are not kept, so that a clip that was mended or made readable is inspected again.
    """

    def __init__(self, index: Path, limits: Limits) -> None:
        self.path = index.with_name(f".{index.name}.inspections.jsonl")
        self._how = {"format": 2, "limits": asdict(limits), "code": _code()}
        self._file: BinaryIO | None = None
        self._chain = Chain()

    def open(self) -> dict[str, tuple[str, Inspection]]:
        """Open for appending; return clip -> (file_state, inspection) of the run that was killed.

        There are none where clips were inspected by other limits or other code.

        Raises:
            SourceError: something else than a file is in the journal's place.
        """
        kept, whole = self._read()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        os.truncate(self.path, whole)
        if not whole:
            self._chain = Chain()
            self._file.write(self._chain.seal(self._how))
        return kept

    def add(self, clip: str, file_state: str, inspection: Inspection) -> None:
        """Keep a valid clip's inspection."""
        if inspection.reason or self._file is None:
            return
        fields = {"clip": clip, "file_state": file_state, "inspection": asdict(inspection)}
        self._file.write(self._chain.seal(fields))

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Forget the inspections, when the index is whole."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, tuple[str, Inspection]], int]:
        """The inspections, and the bytes of the file that are whole lines of the same code."""
        kept: dict[str, tuple[str, Inspection]] = {}
        whole = 0
        try:
            with open_regular(self.path) as file:
                if (head := file.readline(LINE_BYTES)) != self._chain.seal(self._how):
                    return kept, 0
                whole = len(head)
                while (entry := self._entry(file.readline(LINE_BYTES))) is not None:
                    kept[entry.clip] = entry.file_state, entry.inspection
                    whole = file.tell()
        except FileNotFoundError:
            return kept, 0
        except OSError as error:
            raise SourceError(
                f"{self.path}: cannot be read ({error.strerror})", remedy="remove it"
            ) from None
        return kept, whole

    def _entry(self, line: bytes) -> _Line | None:
        """The content of a whole line; None where it is torn, changed or not one of ours."""
        before = self._chain.copy()
        try:
            if line.endswith(b"\n") and self._chain.accept(line[:-1]):
                return _Line.parse(line)
        except ContentError:
            pass
        self._chain = before
        return None


def _code() -> str:
    """The code that inspects clips, and the version of the library that measures their motion."""
    code = code_fingerprint([inspection.__name__], without=NOT_DECIDING)
    return f"{code} {cv2.__version__}"
