"""TrainJob: all that a training worker needs to know, as one value that crosses machines."""

import os
import re
import subprocess
import uuid
from pathlib import Path

from stvsr.artifact import CodeVersion
from stvsr.core.config import Config, Field
from stvsr.core.fingerprint import code_fingerprint
from stvsr.data.shards.format import Lineage
from stvsr.data.shards.storage import Address, absolute
from stvsr.launch.conversation import Conversation
from stvsr.launch.settings import Settings, own_settings
from stvsr.models import MODEL_NAMES
from stvsr.params import Params
from stvsr.training.run import RunFolder, fingerprint, flatten

START_FILE = "start.safetensors"
"""File in a run's folder with the weights that it starts from."""

NOT_DECIDING = (
    *("stvsr.core.color", "stvsr.core.errors", "stvsr.core.extras", "stvsr.core.files"),
    "stvsr.core.fingerprint",
    *("stvsr.core.log", "stvsr.core.progress", "stvsr.core.workers"),  # words, files, processes
    *("stvsr.data.clips.frames", "stvsr.data.clips.layout", "stvsr.data.clips.zip_directory"),
    *("stvsr.data.index", "stvsr.data.sources", "stvsr.data.shards.degrade"),  # before the shards
    *("stvsr.data.shards.storage", "stvsr.data.shards.write"),  # the bytes are checked
    *("stvsr.evaluation", "stvsr.metrics", "stvsr.training.validation"),  # scores
    *("stvsr.tracking", "stvsr.training.history", "stvsr.training.meter"),  # records
    *("stvsr.training.profile", "stvsr.training.run", "stvsr.training.tracker"),
    *(
        "stvsr.launch.conversation",
        "stvsr.launch.job",
        "stvsr.launch.settings",
        "stvsr.launch.track",
    ),
    "stvsr.params",  # its values are in the run's record
)
"""Modules that a training worker imports and on which the weights do not depend."""


class TrainJob(Config):
    """One start of a run, as passed to `stvsr.launch.worker`. Paths are absolute."""

    params: Params
    """The parameters."""
    shards: str
    """Folder, or fsspec address, with the shard sets `train` and `test`."""
    run: str
    """The run's folder, on storage that all workers share."""
    attempt: str
    """Name of this start of the run."""
    tracking_uri: str
    """The MLflow store."""
    code: str = ""
    """Fingerprint of the code that decides the weights, which each worker must have; empty: any."""
    start: str = ""
    """SHA-256 of the run's `START_FILE`; empty: it starts from random weights."""
    start_file: str = ""
    """That file."""
    parent: str | None = None
    """MLflow id of the search that this run is a trial of."""
    reports: bool = False
    """True if validations are reported to Ray, which a search needs and a single run does not."""
    profile: bool = False
    """True if a trace of a few steps is written to the run's folder."""
    settings: Settings = Settings()
    """The driver's settings, which Ray does not hand on to workers."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Origin of the run: commit, code, data version, data hash."""

    @property
    def conversation(self) -> Conversation:
        """The files through which this start talks with its workers."""
        return Conversation(Path(self.run), self.attempt)


def new_job(
    params: Params,
    shards: Address,
    run: RunFolder,
    *,
    tracking_uri: str,
    profile: bool = False,
    reports: bool = False,
    start: str = "",
) -> TrainJob:
    """A new start of a run, with the settings of this process; its tags are the run's record."""
    code = run.record.code
    return TrainJob(
        params=params,
        shards=absolute(shards),
        run=str(run.path),
        attempt=uuid.uuid4().hex[:8],
        tracking_uri=tracking_uri,
        code=code[-1].fingerprint,
        start=start,
        start_file=str(run.path / START_FILE) if start else "",
        profile=profile,
        reports=reports,
        settings=Settings(values=own_settings()),
        tags={
            "git_commit": code[-1].git_commit,
            "code": "; ".join(f"from step {c.step}: {c.fingerprint} {c.git_commit}" for c in code),
            "data_version": run.record.data_version,
            "data_hash": str(run.parameters["data_hash"]),
        },
    )


def deciding_parameters(params: Params, lineage: Lineage, start: str = "") -> dict[str, object]:
    """Everything but code that decides a run's weights: seed, data, model, recipe and start.

    Args:
        params: all parameters.
        lineage: of the shards.
        start: SHA-256 of the weights it starts from; empty: it starts from random ones.
    """
    return {
        **({"start": start} if start else {}),
        "seed": params.seed,
        "data_hash": lineage.data_hash,
        "degradation": lineage.degradation.model_dump(mode="json"),
        "model": params.model.model_dump(mode="json"),
        "train": params.train.deciding(),
    }


def present_code(model: str, project: Path = Path()) -> CodeVersion:
    """The code that would train now: its fingerprint, and the commit of the folder `project`.

    Args:
        model: name of the network; the rooms of others do not count.
        project: the folder whose commit is named.
    """
    return CodeVersion(fingerprint=weights_code(model), git_commit=git_commit(project))


def weights_code(model: str) -> str:
    """Fingerprint of the code here that decides the weights of the network `model`."""
    others = (f"stvsr.models.{name}" for name in MODEL_NAMES if name != model)
    return code_fingerprint(["stvsr.launch.worker"], without=(*NOT_DECIDING, *others))


def run_stem(params: Params, lineage: Lineage, start: str = "") -> str:
    """The part of a run's name that its parameters decide, such as "stdan-small-3f2a91c4"."""
    digits = fingerprint(flatten(deciding_parameters(params, lineage, start)))
    return f"{params.model.name}-{params.model.preset}-{digits}"


def run_name(params: Params, lineage: Lineage) -> str:
    """Name of a run that begins now, such as "stdan-small-3f2a91c4-77aa01bd"."""
    return f"{run_stem(params, lineage)}-{present_code(params.model.name).fingerprint[:8]}"


def git_commit(project: Path) -> str:
    """The commit that is checked out, "-dirty" appended where files differ from it; "" if unknown.

    It is unknown too where the repository has no file in `project`, as in an archive unpacked below
    another project. STVSR_GIT_COMMIT says it where there is no repository, as inside a Ray job.
    """
    told = os.environ.get("STVSR_GIT_COMMIT", "")
    if told:
        return told if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", told) else ""
    try:
        if not _git(project, "ls-files"):
            return ""
        commit = _git(project, "rev-parse", "HEAD")
        changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
