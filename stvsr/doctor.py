"""`stvsr doctor`: the parts of this machine that the jobs need, found or missing."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from rich.table import Table

from stvsr.core.errors import StvsrError
from stvsr.core.terminal import output

INSTALL = "pip install -c constraints.txt -e '.[all]'"
FREE_BYTES_WANTED = 2 * 1024**3
PROBE_SECONDS = 120
CONNECT_SECONDS = 5
NONE = "none"

_ASK_PREFECT = f"""
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
url, version = PREFECT_API_URL.value() or "{NONE}", ""
if url != "{NONE}":
    try:
        with get_client(sync_client=True) as client:
            is_cloud = client.server_type == ServerType.CLOUD  # which has no version of its own
            version = "cloud" if is_cloud else client.api_version()
    except Exception:
        pass
print(url, version)
"""
"""Program that prints the address of Prefect's server, and its version where it answers."""


@dataclass(frozen=True)
class Finding:
    """One row of the table: what was looked at, whether it is fit, what was found, who needs it.

    Attributes:
        subject: name of the part.
        fit: whether jobs can use it.
        found: what was found.
        needed_for: the jobs.
        remedy: what to do where it is not fit.
        is_optional: whether all jobs work without it in some way.
    """

    subject: str
    fit: bool
    found: str
    needed_for: str
    remedy: str = ""
    is_optional: bool = False


def diagnose(project: Path, params: Path | None = None) -> list[Finding]:
    """Look at everything a job may need; a probe that fails is a finding, not an error.

    Args:
        project: the project's folder.
        params: its parameters, as the verbs read them; default: params.yaml in it.
    """
    uri, of_params = _parameters(params or project / "params.yaml")
    probes: list[Callable[[Path], Finding]] = [
        _python,
        _torch,
        _gpu,
        _dali,
        _ray,
        lambda _: of_params,
        lambda _: _mlflow_store(uri, project),
        _git,
        _dvc,
        _prefect,
        _codecs,
        _onnx,
        _memory,
        _folders,
        _disk,
    ]
    return [probe(project) for probe in probes]


def print_diagnosis(project: Path, params: Path | None = None) -> None:
    """Print the table of `diagnose`, and below it what to do about what is missing.

    Raises:
        StvsrError: a part is missing or cannot be used that some jobs need.
    """
    findings = diagnose(project, params)
    table = Table(title="stvsr doctor", title_justify="left")
    for heading in ("", "what", "found", "needed for"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = "ok" if finding.fit else "--" if finding.is_optional else "NO"
        table.add_row(mark, finding.subject, finding.found, finding.needed_for)
    console = output(width=110)
    console.print(table)
    for finding in findings:
        if not finding.fit and finding.remedy:
            for line in finding.remedy.splitlines():
                console.print(f"{finding.subject}: {line}", soft_wrap=True)
    unfit = [each.subject for each in findings if not (each.fit or each.is_optional)]
    if unfit:
        raise StvsrError(
            f"{len(unfit)} of {len(findings)} parts cannot be used: {', '.join(unfit)}",
            remedy="do what is said above, or leave it if no job of yours needs them",
        )


def _python(_: Path) -> Finding:
    version = platform.python_version()
    cores = len(os.sched_getaffinity(0))
    return Finding("Python", sys.version_info >= (3, 11), f"{version}, {cores} cores", "everything")


def _torch(_: Path) -> Finding:
    return _package("torch", "torch", "import torch", "train, evaluate")


def _gpu(_: Path) -> Finding:
    code = (
        "import torch; print(', '.join(torch.cuda.get_device_name(i)"
        " for i in range(torch.cuda.device_count())"
        " if torch.ones(2, device=f'cuda:{i}').sum() == 2) or 'none')"
    )
    found = _run(code)
    return Finding(
        "GPU",
        found not in (None, "none"),
        found or "torch does not load, or computes nothing there",
        "the published preset; the small one trains without",
        "the small preset trains on a CPU; for a GPU install torch's CUDA build",
        is_optional=True,
    )


def _dali(_: Path) -> Finding:
    finding = _package(
        "DALI",
        "nvidia-dali-cuda130",
        "import nvidia.dali",
        "train with loader.kind=dali",
        f"set loader.kind to torch, or {INSTALL}",
    )
    return replace(finding, is_optional=True)


def _ray(_: Path) -> Finding:
    finding = _package("Ray", "ray", "import ray.train, ray.tune", "train, tune")
    address = os.environ.get("RAY_ADDRESS")
    if not finding.fit:
        return finding
    if address in (None, "", "local"):
        return replace(finding, found=f"{finding.found}, a local cluster at each run")
    fault = _cluster_fault(address)
    where = f"does not answer ({fault})" if fault else "answers"
    shown = re.sub(r"//[^/\s]*@", "//", address)
    return replace(
        finding,
        fit=not fault,
        found=f"{finding.found}, cluster {shown} {where}",
        remedy=f"start the cluster at {shown}, or correct or unset RAY_ADDRESS",
    )


def _cluster_fault(address: str) -> str:
    """Why no Ray cluster answers at an address, as RAY_ADDRESS may name one; or empty."""
    from stvsr.launch.cluster import check_reachable

    try:
        if address != "auto":
            check_reachable(address)
        if address.startswith(("http://", "https://")):
            parts = urlsplit(address)
            dashboard = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            with urlopen(f"{dashboard.rstrip('/')}/api/version", timeout=CONNECT_SECONDS) as answer:
                return "" if b"ray_version" in answer.read(4096) else "this is not a Ray dashboard"
    except HTTPError as error:  # such as the token that is missing
        return "" if error.code in (401, 403) else f"this is not a Ray dashboard: {error}"
    except (OSError, HTTPException, ValueError) as error:
        return str(error)
    if "://" in address:  # Ray Client, which is asked where a job is submitted
        return ""
    named = [] if address == "auto" else ["--address", address]
    ask = (sys.executable, "-m", "ray.scripts.scripts", "health-check", *named)
    return "this is not the head of a Ray cluster" if _said_by(*ask)[1] else ""


def _parameters(params: Path) -> tuple[str | None, Finding]:
    """The MLflow store that the parameters name, and what they are like."""
    uri, fit, found, remedy = None, True, f"{params}: valid", ""
    try:
        from stvsr.params import load_params

        uri = load_params(params).tracking.uri
    except StvsrError as error:
        fit, remedy = False, str(error)
        found = "no such file" if not params.exists() else "refused"
    except ImportError as error:
        fit, found, remedy = False, f"cannot be read without {error.name}", INSTALL
    return uri, Finding("Parameters", fit, found, "everything", remedy)


def _mlflow_store(named: str | None, project: Path) -> Finding:
    """The store that the verbs would use, used."""
    subject, needed_for = "MLflow store", "train, register, tune"
    try:
        from stvsr.tracking.store import hide_password, resolve_uri, try_store
    except ImportError as error:
        return Finding(subject, False, f"{error.name} not installed", needed_for, INSTALL)
    uri = resolve_uri(named, project)
    found = f"{hide_password(uri)}, mlflow {_version('mlflow')}"
    try:
        return Finding(subject, True, f"{found}: {try_store(uri)}", needed_for)
    except StvsrError as error:
        return Finding(subject, False, f"{found}: cannot be used", needed_for, str(error))


def _git(project: Path) -> Finding:
    found, fault = _said_by("git", "-C", str(project), "log", "-1", "--format=commit %h")
    return Finding(
        "Git",
        not fault,
        fault or found,
        "dvc repro; the commit in cards and versions",
        "commit the project (git init, git add, git commit); training, evaluation and "
        "registration work without, and name no commit",
        is_optional=True,
    )


def _dvc(project: Path) -> Finding:
    """DVC's list of the project's stages, which it makes in a Git repository or with no_scm."""
    finding = _package("DVC", "dvc", None, "dvc repro, flows")
    remedy = INSTALL if not finding.fit else "run this in the project's folder"
    state, fault = "no DVC project here", "none"
    if finding.fit and (project / "dvc.yaml").is_file() and (project / ".dvc").is_dir():
        python = (sys.executable, "-m", "dvc", "--cd", str(project))
        listed, fault = _said_by(*python, "stage", "list", "--names-only")
        state = f"{len(listed.splitlines())} stages" if not fault else f"no stage: {fault}"
        remedy = "see Git above, or `dvc config core.no_scm true`" if fault else remedy
    return Finding(
        "DVC", finding.fit and not fault, f"{finding.found}, {state}", finding.needed_for, remedy
    )


def _prefect(_: Path) -> Finding:
    finding = _package("Prefect", "prefect", None, "flows")
    if not finding.fit:
        return finding
    told = _run(_ASK_PREFECT) or f"{NONE} does not load"
    url, version = f"{told} ".split(" ", 1)
    version = version.strip()
    if url == NONE:
        found = version or "a server of its own at each run"
        return replace(finding, fit=not version, found=f"{finding.found}, {found}")
    is_same = version.partition(".")[0] in ("cloud", finding.found.partition(".")[0])
    found = f"has version {version}" if version else "does not answer"
    return replace(
        finding,
        fit=is_same,
        found=f"{finding.found}, server {url} {'answers' if is_same else found}",
        remedy="start it with `prefect server start`, or correct PREFECT_API_URL",
    )


def _codecs(_: Path) -> Finding:
    code = (
        "import av, contextlib\nfor name in ('h264', 'hevc', 'vp9', 'av1', 'mpeg4'):\n"
        "  with contextlib.suppress(Exception):\n"
        "    av.CodecContext.create(name, 'r').open()\n    print(name)"
    )
    found = _run(code)
    return Finding(
        "Video codecs",
        found is not None and "h264" in found,
        f"PyAV {_version('av')}: {', '.join(found.split())}" if found else "PyAV does not load",
        "source.kind=videos",
        INSTALL,
    )


def _onnx(_: Path) -> Finding:
    code = "import onnx, onnxruntime, onnxscript"
    return _package("ONNX Runtime", "onnxruntime", code, "export --format onnx")


def _memory(_: Path) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding(
        "Memory",
        total >= 4 * 1024**3,
        f"{total / 1024**3:.1f} GiB",
        "train",
        "4 GiB are wanted for the small preset",
    )


def _folders(_: Path) -> Finding:
    """The folders besides the project's in which libraries keep their files."""
    needed_for = "train, tune, serve"
    try:
        home = Path.home()
        folders = (home, Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache"))
        temporary = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    except (RuntimeError, OSError) as error:
        return Finding("Home", False, str(error), needed_for, "set HOME and TMPDIR to folders")
    faults = {fault for folder in (*folders, temporary) if (fault := _write_fault(folder))}
    return Finding(
        "Home",
        not faults,
        "; ".join(sorted(faults)) or f"{home} and {temporary} can be written",
        needed_for,
        "set HOME (or XDG_CACHE_HOME, TMPDIR, RAY_TMPDIR) to a folder that can be written",
    )


def _write_fault(folder: Path) -> str:
    """Write and remove a file in a folder, or where it would be made; the fault, or nothing."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            file.write(b"stvsr doctor")
            file.flush()
    except OSError as error:
        return f"{there} cannot be written ({error.strerror})"
    return ""


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free
    fault = _write_fault(project)
    return Finding(
        "Disk",
        free >= FREE_BYTES_WANTED and not fault,
        fault or f"{free / 1024**3:.1f} GiB free in {project.resolve()}",
        "everything",
        "make the project's folder writable for this user"
        if fault
        else f"free some space: {FREE_BYTES_WANTED / 1024**3:.0f} GiB are wanted for the sample",
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


def _said_by(*command: str) -> tuple[str, str]:
    """A command's output, and the last line of its complaint where it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{command[0]} does not run ({error})"
    complaint = (run.stderr.strip() or f"exit status {run.returncode}").splitlines()[-1]
    return run.stdout.strip(), complaint if run.returncode else ""
