"""TrainJob: all that a training worker needs to know, as one value that crosses machines."""

import os
import re
import subprocess
import uuid
from pathlib import Path

from stvsr.core.config import Config, Field
from stvsr.data.shards.format import Lineage
from stvsr.data.shards.storage import Address, absolute
from stvsr.launch.settings import Settings, own_settings
from stvsr.params import Params
from stvsr.training.run import fingerprint, flatten


class TrainJob(Config):
    """What `stvsr.launch.worker` builds a run from. Paths are absolute: a worker's cwd is Ray's."""

    params: Params
    """The parameters."""
    shards: str
    """Folder, or fsspec address, with the shard sets `train` and `test`."""
    run: str
    """The run's folder, on storage that all workers share."""
    attempt: str
    """Name of this start of the run; what a worker refuses to do is told under this name."""
    tracking_uri: str
    """The MLflow store."""
    parent: str | None = None
    """MLflow id of the search that this run is a trial of."""
    reports: bool = False
    """Whether validations are reported to Ray, which a search needs and a single run does not."""
    profile: bool = False
    """Whether a trace of a few steps is written to the run's folder."""
    settings: Settings = Settings()
    """The driver's settings, which Ray does not hand on to workers."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What the run was made from: git commit, data version, data hash."""

    @property
    def stop_file(self) -> Path:
        """The run stops after a checkpoint when this file appears."""
        return Path(self.run) / "stop"

    @property
    def refusal_file(self) -> Path:
        """Where a worker says, in one line, why it does not go on."""
        return Path(self.run) / f"refusal-{self.attempt}.txt"

    @property
    def log_file(self) -> Path:
        """Log of rank 0, which the command shows."""
        return Path(self.run) / "train.log"


def new_job(
    params: Params,
    shards: Address,
    run: Path,
    *,
    tracking_uri: str,
    lineage: Lineage,
    data_version: str,
    profile: bool = False,
    reports: bool = False,
) -> TrainJob:
    """A new start of the run in `run`, from the project and the settings of this process."""
    return TrainJob(
        params=params,
        shards=absolute(shards),
        run=str(run),
        attempt=uuid.uuid4().hex[:8],
        tracking_uri=tracking_uri,
        profile=profile,
        reports=reports,
        settings=Settings(values=own_settings()),
        tags={
            "git_commit": git_commit(Path()),
            "data_version": data_version,
            "data_hash": lineage.data_hash,
        },
    )


def deciding_parameters(params: Params, lineage: Lineage) -> dict[str, object]:
    """What decides a run's weights: seed, data, model and recipe, but not who reads or logs."""
    return {
        "seed": params.seed,
        "data_hash": lineage.data_hash,
        "degradation": lineage.degradation.model_dump(mode="json"),
        "model": params.model.model_dump(mode="json"),
        "train": params.train.deciding(),
    }


def run_name(params: Params, lineage: Lineage) -> str:
    """The run's name, such as "stdan-small-3f2a91c4": other deciding parameters, other name."""
    digits = fingerprint(flatten(deciding_parameters(params, lineage)))
    return f"{params.model.name}-{params.model.preset}-{digits}"


def git_commit(project: Path) -> str:
    """The commit that is checked out, "-dirty" appended where files differ from it; "" if unknown.

    STVSR_GIT_COMMIT says it where there is no repository, as inside a Ray job.
    """
    told = os.environ.get("STVSR_GIT_COMMIT", "")
    if told:
        return told if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", told) else ""
    try:
        commit = _git(project, "rev-parse", "HEAD")
        changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
