"""The errors a user can meet: each says what, what was found, what is allowed, and what to do."""


class StvsrError(Exception):
    """Base of every error that is the user's to act on; the command line prints it as one line."""


class ParamsError(StvsrError):
    """A parameter is unknown, of the wrong type or outside what is allowed."""


class SourceError(StvsrError):
    """A clip source (folder, video, image, list) is missing, damaged or not what it should be."""


class ShardError(StvsrError):
    """A shard, its index or its lineage is missing, damaged or of another set."""


class CheckpointError(StvsrError):
    """A checkpoint or a weights file is missing, damaged or of another model."""


class InputError(StvsrError):
    """A tensor or a video handed to a model is not what the model takes."""


class TrainingError(StvsrError):
    """Training cannot start or cannot go on."""


class LeaveAtOnceError(TrainingError):
    """Training was left while a thread still waits for it: the process has to end with this.

    Attributes:
        status: the exit status.
    """

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class ServiceError(StvsrError):
    """A server or a cluster (MLflow, Ray, Prefect) does not answer or refuses."""
