"""The verdicts of an index that is being made, kept so that a killed run need not judge again."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import cv2

from stvsr.core.fingerprint import code_fingerprint
from stvsr.data.index import inspection
from stvsr.data.index.inspection import Limits, Verdict

NOT_DECIDING = ("stvsr.core.errors", "stvsr.core.files", "stvsr.core.fingerprint")
"""Modules on which the result of an inspection does not depend."""


class VerdictJournal:
    """A hidden file beside the index: a line that says how clips are judged, then one per clip.

    Lines are only ever appended, some 8 KiB at a time (two dozen clips), and a torn last one is
    cut off by the next run. A verdict holds for the files it was made from: their stamp
    (`Frames.stamp`) stands beside it. Refusals are not kept, so that a clip that was mended or
    made readable is judged again.
    """

    def __init__(self, index: Path, limits: Limits) -> None:
        self.path = index.with_name(f".{index.name}.verdicts.jsonl")
        self._how = {"format": 1, "limits": asdict(limits), "code": _code()}
        self._file: TextIO | None = None

    def open(self) -> dict[str, tuple[str, Verdict]]:
        """Open for appending; return clip -> (stamp, verdict) of the run that was killed.

        There are none where clips were judged by other limits or other code.
        """
        kept, whole = self._read()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")
        os.truncate(self.path, whole)
        if not whole:
            self._file.write(f"{json.dumps(self._how)}\n")
        return kept

    def add(self, clip: str, stamp: str, verdict: Verdict) -> None:
        """Keep a sound clip's verdict."""
        if verdict.reason or self._file is None:
            return
        self._file.write(f"{json.dumps([clip, stamp, asdict(verdict)])}\n")

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Forget the verdicts, when the index is whole."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, tuple[str, Verdict]], int]:
        """The verdicts, and the bytes of the file that are whole lines of this way of judging."""
        kept: dict[str, tuple[str, Verdict]] = {}
        if not self.path.is_file():
            return kept, 0
        with self.path.open("rb") as file:
            if _parsed(head := file.readline()) != self._how:
                return kept, 0
            whole = len(head)
            for line in file:
                match _parsed(line):
                    case [str(clip), str(stamp), dict(verdict)]:
                        kept[clip] = stamp, Verdict(**verdict)
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
