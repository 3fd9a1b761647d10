"""Journal of an index that is being made, so that a killed run resumes."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import cv2

from stvsr.core.fingerprint import code_fingerprint
from stvsr.data.index import inspection
from stvsr.data.index.inspection import Inspection, Limits

NOT_DECIDING = ("stvsr.core.errors", "stvsr.core.files", "stvsr.core.fingerprint")
"""Modules on which the result of an inspection does not depend."""


class InspectionJournal:
    """A hidden file beside the index: a line with limits and code, then one per clip.

    Lines are only ever appended, some 8 KiB at a time (two dozen clips), and a torn last one is
    cut off by the next run. An inspection holds for the files it was made from: their file_state
    (`Frames.file_state`) is beside it. Rejections are not kept, so that a clip that was mended or
    made readable is inspected again.
    """

    def __init__(self, index: Path, limits: Limits) -> None:
        self.path = index.with_name(f".{index.name}.inspections.jsonl")
        self._how = {"format": 1, "limits": asdict(limits), "code": _code()}
        self._file: TextIO | None = None

    def open(self) -> dict[str, tuple[str, Inspection]]:
        """Open for appending; return clip -> (file_state, inspection) of the run that was killed.

        There are none where clips were inspected by other limits or other code.
        """
        kept, whole = self._read()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")
        os.truncate(self.path, whole)
        if not whole:
            self._file.write(f"{json.dumps(self._how)}\n")
        return kept

    def add(self, clip: str, file_state: str, inspection: Inspection) -> None:
        """Keep a valid clip's inspection."""
        if inspection.reason or self._file is None:
            return
        self._file.write(f"{json.dumps([clip, file_state, asdict(inspection)])}\n")

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
        if not self.path.is_file():
            return kept, 0
        with self.path.open("rb") as file:
            if _parsed(head := file.readline()) != self._how:
                return kept, 0
            whole = len(head)
            for line in file:
                match _parsed(line):
                    case [str(clip), str(file_state), dict(inspection)]:
                        kept[clip] = file_state, Inspection(**inspection)
                        whole += len(line)
                    case _:
                        break
        return kept, whole


def _parsed(line: bytes) -> object:
    """The value of a whole line; None where it is torn."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _code() -> str:
    """The code that inspects clips, and the version of the library that measures their motion."""
    code = code_fingerprint([inspection.__name__], without=NOT_DECIDING)
    return f"{code} {cv2.__version__}"
