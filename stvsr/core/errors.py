"""The errors a user can meet: each names the fault, what was found and allowed, and a remedy."""

from collections.abc import Sequence

from stvsr.core.escape import one_line

RESUME = "run the same command again to resume"
"""The remedy of every error whose command resumes."""

RESUME_WITHOUT_FRESH = "run the same command without --fresh again to resume"
"""The same for a command that would discard what there is to resume."""


class StvsrError(Exception):
    """Base of every error that is the user's to act on; the command line prints it as one line.

    Attributes:
        text: what is wrong, one line; or one for each of several faults. Line ends and control
            characters of names in it are escaped.
        remedy: what to do; may be empty, or part of `text`.
        resumable: whether the same command, given again, resumes what this error ended.
    """

    def __init__(
        self, text: str | Sequence[str], *, remedy: str = "", resumable: bool = False
    ) -> None:
        lines = [text] if isinstance(text, str) else text
        self.text = "\n".join(map(one_line, lines))
        self.remedy = one_line(remedy)
        self.resumable = resumable
        super().__init__(self.message())

    def __str__(self) -> str:
        return self.message()

    def message(self, *, fresh: bool = False) -> str:
        """Text and remedies.

        Args:
            fresh: whether the command had `--fresh`, with which it would not resume.
        """
        resume = RESUME_WITHOUT_FRESH if fresh else RESUME
        parts = (self.text, self.remedy, resume if self.resumable else "")
        return "; ".join(part for part in parts if part)


class BusyError(StvsrError):
    """Another live process is writing the same file or folder."""


class ParamsError(StvsrError):
    """A parameter is unknown, of the wrong type or outside what is allowed."""


class SourceError(StvsrError):
    """A clip source (folder, video, image, list) is missing, damaged or not what it should be."""


class ShardError(StvsrError):
    """A shard, its index or its lineage is missing, damaged or of another set."""


class CheckpointError(StvsrError):
    """A checkpoint or a weights file is missing, damaged or of another model."""


class InputError(StvsrError):
    """A tensor or a video passed to a model is not what the model takes."""


class TrainingError(StvsrError):
    """Training cannot start or continue."""


class LeaveAtOnceError(TrainingError):
    """Training was left while a thread still waits for it: the process has to end with this.

    Attributes:
        status: the exit status.
    """

    def __init__(
        self,
        text: str | Sequence[str],
        status: int = 1,
        *,
        remedy: str = "",
        resumable: bool = True,
    ) -> None:
        self.status = status
        super().__init__(text, remedy=remedy, resumable=resumable)


class MissingExtraError(StvsrError):
    """A package of an extra is not installed; the remedy installs it."""


class ServiceError(StvsrError):
    """A server or a cluster (MLflow, Ray, Prefect) does not answer or refuses."""
