"""`stvsr doctor`: the parts of this machine that the jobs need, found or missing."""

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

from rich.table import Table

from stvsr.core.errors import StvsrError
from stvsr.core.terminal import output

INSTALL = "pip install -c constraints.txt -e '.[all]'"
FREE_BYTES_WANTED = 2 * 1024**3
PROBE_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One row of the table: what was looked at, whether it is fit, what was found, who needs it."""

    subject: str
    fit: bool
    found: str
    needed_for: str
    remedy: str = ""


def diagnose(project: Path, params: Path | None = None) -> list[Finding]:
    """Look at everything a job may need; a probe that fails is a finding, not an error.

    Args:
        project: the project's folder.
        params: its parameters, as the verbs read them; default: params.yaml in it.
    """
    uri, of_params = _tracking_uri(project, params or project / "params.yaml")
    probes: list[Callable[[Path], Finding]] = [
        _python,
        _torch,
        _gpu,
        _dali,
        _ray,
        lambda _: of_params,
        lambda _: _mlflow_store(uri),
        _dvc,
        _prefect,
        _codecs,
        _memory,
        _disk,
    ]
    return [probe(project) for probe in probes]


def print_diagnosis(project: Path, params: Path | None = None) -> None:
    """Print the table of `diagnose`, and below it what to do about what is missing."""
    findings = diagnose(project, params)
    table = Table(title="stvsr doctor", title_justify="left")
    for heading in ("", "what", "found", "needed for"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = "ok" if finding.fit else "--"
        table.add_row(mark, finding.subject, finding.found, finding.needed_for)
    console = output(width=110)
    console.print(table)
    for finding in findings:
        if not finding.fit and finding.remedy:
            for line in finding.remedy.splitlines():
                console.print(f"{finding.subject}: {line}", soft_wrap=True)


def _python(_: Path) -> Finding:
    version = platform.python_version()
    cores = len(os.sched_getaffinity(0))
    return Finding("Python", sys.version_info >= (3, 11), f"{version}, {cores} cores", "everything")


def _torch(_: Path) -> Finding:
    return _package("torch", "torch", "import torch", "train, evaluate")


def _gpu(_: Path) -> Finding:
    code = (
        "import torch; print(', '.join(torch.cuda.get_device_name(i)"
        " for i in range(torch.cuda.device_count())) or 'none')"
    )
    found = _run(code)
    return Finding(
        "GPU",
        found not in (None, "none"),
        found or "torch does not load",
        "the published preset; the small one trains without",
        "the small preset trains on a CPU; for a GPU install torch's CUDA build",
    )


def _dali(_: Path) -> Finding:
    return _package(
        "DALI",
        "nvidia-dali-cuda130",
        "import nvidia.dali",
        "train with loader.kind=dali",
        f"set loader.kind to torch, or {INSTALL}",
    )


def _ray(_: Path) -> Finding:
    finding = _package("Ray", "ray", "import ray.train, ray.tune", "train, tune")
    address = os.environ.get("RAY_ADDRESS")
    where = f"cluster {address}" if address else "a local cluster at each run"
    return Finding(
        finding.subject, finding.fit, f"{finding.found}, {where}", finding.needed_for, INSTALL
    )


def _tracking_uri(project: Path, params: Path) -> tuple[str, Finding]:
    """The MLflow store that the verbs would use, and what the parameters are like."""
    named, fit, found, remedy = None, True, f"{params}: valid", ""
    try:
        from stvsr.params import load_params

        named = load_params(params).tracking.uri
    except StvsrError as error:
        fit, remedy = False, str(error)
        found = "no such file" if not params.exists() else "refused"
    except ImportError as error:
        fit, found, remedy = False, f"cannot be read without {error.name}", INSTALL
    uri = named or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project / 'mlflow.db'}"
    return uri, Finding("Parameters", fit, found, "everything", remedy)


def _mlflow_store(uri: str) -> Finding:
    shown = re.sub(r"//[^/@]*@", "//", uri)
    remedy = f"start the server at {shown}, or change tracking.uri or MLFLOW_TRACKING_URI"
    if urlparse(uri).scheme in ("http", "https"):
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
                fit, state = answer.status == 200, f"answers {answer.status}"
        except OSError as error:
            fit, state = False, f"does not answer ({error})"
        return Finding("MLflow store", fit, f"{shown} {state}", "train, register, tune", remedy)
    database = Path(uri.removeprefix("sqlite:///"))
    if not database.exists():
        fit, state = True, "will be made by the first run"
    else:
        fit, state = _reads_as_sqlite(database)
        remedy = f"move {database} away; the next run makes a new one"
    package = _version("mlflow")
    return Finding(
        "MLflow store",
        fit and package is not None,
        f"{shown} ({state}), mlflow {package or 'not installed'}",
        "train, register, tune",
        remedy if package else INSTALL,
    )


def _reads_as_sqlite(database: Path) -> tuple[bool, str]:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            (count,) = connection.execute("select count(*) from runs").fetchone()
        return True, f"{count} runs"
    except sqlite3.Error as error:
        return False, f"cannot be read: {error}"


def _dvc(project: Path) -> Finding:
    finding = _package("DVC", "dvc", None, "dvc repro, flows")
    in_project = (project / "dvc.yaml").is_file() and (project / ".dvc").is_dir()
    state = "project found" if in_project else "no DVC project here"
    remedy = INSTALL if not finding.fit else "run this in the project's folder"
    return Finding(
        "DVC", finding.fit and in_project, f"{finding.found}, {state}", finding.needed_for, remedy
    )


def _prefect(_: Path) -> Finding:
    return _package("Prefect", "prefect", None, "flows")


def _codecs(_: Path) -> Finding:
    code = (
        "import av; print(', '.join(c for c in ('h264', 'hevc', 'vp9', 'av1', 'mpeg4')"
        " if c in av.codecs_available))"
    )
    found = _run(code)
    return Finding(
        "Video codecs",
        found is not None and "h264" in found,
        f"PyAV {_version('av')}: {found}" if found else "PyAV does not load",
        "source.kind=videos",
        INSTALL,
    )


def _memory(_: Path) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding(
        "Memory",
        total >= 4 * 1024**3,
        f"{total / 1024**3:.1f} GiB",
        "train",
        "4 GiB are wanted for the small preset",
    )


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free
    return Finding(
        "Disk",
        free >= FREE_BYTES_WANTED,
        f"{free / 1024**3:.1f} GiB free in {project.resolve()}",
        "everything",
        f"free some space: {FREE_BYTES_WANTED / 1024**3:.0f} GiB are wanted for the sample",
    )


def _package(
    subject: str, distribution: str, code: str | None, needed_for: str, remedy: str = INSTALL
) -> Finding:
    """A package is fit when it is installed and, where `code` is given, `code` runs."""
    version = _version(distribution)
    if version is None:
        return Finding(subject, False, "not installed", needed_for, remedy)
    loads = code is None or _run(code) is not None
    found = version if loads else f"{version} does not load"
    return Finding(subject, loads, found, needed_for, remedy)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run(code: str) -> str | None:
    """Output of `code` in a fresh Python; None if it fails (a broken library may also crash)."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
