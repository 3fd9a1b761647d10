"""A project folder with tiny shards and a tiny network, and `stvsr` commands run in it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from stvsr.training.checkpoint import Checkpoints
from stvsr.training.history import TIMING, read_history
from tests.support.waiting import DEADLINE_S, wait_until

MODEL = {
    "name": "stdan", "preset": "small", "channels": 8, "embedding": 8, "deformable_groups": 2,
    "heads": 2, "reconstruction_groups": 1, "blocks_per_group": 1,
}  # fmt: skip
TRAIN = {
    "steps": 8, "batch_size": 2, "crop": 16, "workers": 1, "log_every": 1, "checkpoint_every": 2,
    "validate_every": 4, "validate_clips": 1,
}  # fmt: skip


def make_project(folder: Path, shards: Path, **train: Any) -> Path:
    """A project in `folder`; `train` is what its params.yaml says otherwise than TRAIN."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "shards").symlink_to(shards)
    params = {"model": MODEL, "train": TRAIN | train, "loader": {"kind": "torch", "threads": 1}}
    (folder / "params.yaml").write_text(json.dumps(params))
    (folder / ".gitignore").write_text("/data\n/runs\n/model\n/mlflow.db\n/mlartifacts\n")
    (folder / "mlflow.db").write_bytes(new_mlflow_store())
    return folder


@cache
def new_mlflow_store() -> bytes:
    """A store that MLflow has just made, which takes it seconds: made once, then copied."""
    with tempfile.TemporaryDirectory() as folder:
        make = "import sys; from stvsr.tracking.store import open_client; open_client(sys.argv[1])"
        uri = f"sqlite:///{folder}/mlflow.db"
        subprocess.run([sys.executable, "-c", make, uri], check=True, capture_output=True)
        return Path(folder, "mlflow.db").read_bytes()


@contextmanager
def started(project: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A `stvsr` command in a process group of its own, which is killed at the end."""
    ray = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_worker_niceness": "0"}
    variables = {**ray, **os.environ, **environment}
    variables.pop("RAY_ADDRESS", None) if "RAY_ADDRESS" not in environment else None
    process = subprocess.Popen(
        [sys.executable, "-m", "stvsr.cli", *arguments],
        cwd=project,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def stvsr(project: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a `stvsr` command to its end; its exit status and what it said."""
    with started(project, *arguments, **environment) as process:
        output, _ = process.communicate(timeout=DEADLINE_S)
        return process.returncode, output


def run_folder(project: Path) -> Path:
    """The folder of the project's only run."""
    (folder,) = (project / "runs").glob("stdan-small-????????-????????")
    return folder


def newest_step(project: Path) -> int:
    """Step of the run's newest checkpoint; 0 where there is none."""
    folders = list((project / "runs").glob("stdan-small-????????-????????/checkpoints"))
    return next(iter(Checkpoints(folders[0]).steps()), 0) if folders else 0


def wait_for_step(project: Path, step: int) -> None:
    """Wait until a checkpoint at `step` or later is whole."""
    wait_until(f"a checkpoint at step {step}", lambda: newest_step(project) >= step)


def losses(project: Path) -> list[tuple[int, dict[str, float]]]:
    """The run's history without what depends on the clock."""
    return [
        (r.step, {name: value for name, value in r.metrics.items() if name not in TIMING})
        for r in read_history(run_folder(project) / "history.jsonl")
    ]
