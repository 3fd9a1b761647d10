"""Conversation: the files through which a command and its workers talk, as one value."""

from dataclasses import dataclass
from pathlib import Path

from stvsr.core.config import Config
from stvsr.core.errors import StvsrError, TrainingError
from stvsr.core.files import write_text_whole


class Refusal(Config):
    """Why a worker does not train, as its refusal file has it."""

    text: str
    """The fault."""
    remedy: str = ""
    """The remedy."""
    resumable: bool = False
    """True if the same command, given again, resumes."""


@dataclass(frozen=True)
class Conversation:
    """The files in a run's folder through which a start of the run talks; all nodes share them.

    ```
    the command (driver)                                     the workers
      run.json           ── which run this is ──────────────▶  read once by each
      stop               ── save a checkpoint and leave ────▶  looked for after each step, by each
      refusal-ATTEMPT    ◀── why no start would help ────────  written by the rank that cannot train
      train.log          ◀── lines for the terminal ─────────  appended by rank 0
      history.jsonl      ◀── the step, for the progress bar ─  appended by rank 0
      checkpoints/       ◀── how far the run has come ───────  written by rank 0
      trace.json.gz      ◀── with --profile ─────────────────  written by rank 0
      ray/               ── Ray Train's own bookkeeping, removed after each start
    ```

    Attributes:
        run: the run's folder.
        attempt: name of this start; a refusal holds for it alone.
    """

    run: Path
    attempt: str

    @property
    def stop(self) -> Path:
        """The run saves a checkpoint and stops when this file appears."""
        return self.run / "stop"

    @property
    def log(self) -> Path:
        """Log of rank 0, which the command shows."""
        return self.run / "train.log"

    @property
    def history(self) -> Path:
        """Steps that are recorded, for the progress bar."""
        return self.run / "history.jsonl"

    @property
    def trace(self) -> Path:
        """A profile of a few steps."""
        return self.run / "trace.json.gz"

    @property
    def ray(self) -> Path:
        """Folder of Ray Train's bookkeeping."""
        return self.run / "ray"

    @property
    def is_refused(self) -> bool:
        """True if a worker has refused to train in this start."""
        return self._refusal.exists()

    def refuse(self, error: StvsrError) -> None:
        """Record why this start does not train; Ray would start a worker that raised again."""
        refusal = Refusal(text=error.text, remedy=error.remedy, resumable=error.resumable)
        write_text_whole(self._refusal, refusal.model_dump_json())

    def take_refusal(self) -> Refusal | None:
        """Read and remove the refusal; None where there is none."""
        refusal = self.read_refusal()
        self._refusal.unlink(missing_ok=True)
        return refusal

    def read_refusal(self) -> Refusal | None:
        """The refusal; None where there is none."""
        if not self.is_refused:
            return None
        return Refusal.read(self._refusal, TrainingError, "run the same command again")

    def raise_refusal(self) -> None:
        """Raise what a worker refused with, if one did.

        Raises:
            TrainingError: a worker refused.
        """
        refusal = self.read_refusal()
        if refusal is not None:
            raise TrainingError(refusal.text, remedy=refusal.remedy, resumable=refusal.resumable)

    @property
    def _refusal(self) -> Path:
        return self.run / f"refusal-{self.attempt}.json"
