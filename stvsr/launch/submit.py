"""`stvsr VERB --address http://… | ray://…`: the command as a Ray job, followed from here.

A `ray://` address serves to find the dashboard, which takes the job: Ray Client would end a run
of days with the connection that started it.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import sys
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import ray
from aiohttp import ClientError
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from stvsr.core import escape
from stvsr.core.errors import ServiceError, TrainingError
from stvsr.data.shards.storage import Address, absolute
from stvsr.launch.cluster import check_reachable
from stvsr.launch.package import PARAMS_FILE, SETTINGS_FILE, package
from stvsr.launch.settings import apply_file
from stvsr.params import Params

logger = logging.getLogger(__name__)

STOP_SECONDS = 30
"""How long a job that is stopped may take to end its step and save a checkpoint."""

SUBMIT_SECONDS = 60.0
"""Seconds to keep retrying a cluster that does not accept jobs yet."""

SILENCE_SECONDS = 120.0
"""How long a cluster that takes a job may be out of reach before the command gives up on it."""

RETRY_SECONDS = 1.0
"""Pause between two requests for the status of a job."""

LOUD = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
"""Ray's loggers that report uploads and connections."""

REFUSALS = (OSError, RuntimeError, ValueError, RayError, ClientError)
"""Errors of Ray's clients where a cluster does not answer or refuses."""


def takes_jobs(address: str | None) -> TypeGuard[str]:
    """True if `address` is one that a job is submitted to, rather than a cluster to join."""
    return address is not None and address.startswith(("http://", "https://", "ray://"))


def done_as_job(
    verb: str,
    address: str | None,
    params: Params,
    shards: Address,
    out: Path,
    runs: Path,
    data_version: str,
    flags: Mapping[str, bool],
    settings: Path | None,
) -> bool:
    """Run `train` or `tune` as a job where the cluster's address takes jobs; say whether it did.

    Args:
        verb: "train" or "tune".
        address: the `--address` of the command; None: RAY_ADDRESS.
        params: all parameters.
        shards: folder or address of the shards.
        out: folder of the result.
        runs: folder of all runs.
        data_version: DVC's hash of the shards.
        flags: options without a value, and whether each is given.
        settings: in a job, the file with the settings of whoever submitted it.

    Raises:
        ServiceError: the cluster does not answer or refuses the job.
        SystemExit: the job ended with another status than 0.
    """
    if settings:
        apply_file(settings)
        os.chdir("/")  # paths are absolute in a job, and Ray may replace the folder it began in
    address = address or os.environ.get("RAY_ADDRESS")
    if not takes_jobs(address):
        return False
    out = out.resolve()
    arguments = [
        f"--shards={absolute(shards)}",
        f"--out={out}",
        f"--runs={runs.resolve()}",
        *([f"--data-version={data_version}"] if data_version else []),
        *(flag for flag, is_given in flags.items() if is_given),
    ]
    status = run_as_job(address, verb, arguments, params, out)
    if status:
        raise SystemExit(status)
    return True


def run_as_job(address: str, verb: str, arguments: Sequence[str], params: Params, out: Path) -> int:
    """Run a verb as a job, showing its log; returns its exit status, 130 if it was left to itself.

    Ctrl-C asks whether the job shall be stopped too; where nobody can be asked, it keeps running.

    Args:
        address: of the dashboard, http://HOST:8265, or of Ray Client, ray://HOST:10001.
        verb: such as "train".
        arguments: its arguments without `--params`, paths absolute.
        params: all parameters.
        out: what the verb writes, on storage that the cluster sees.

    Raises:
        ServiceError: the cluster does not answer or refuses the job.
    """
    dashboard = find_dashboard(address)
    client = _connect(dashboard, address)
    words = ["python", "-m", "stvsr.cli", verb, "--params", PARAMS_FILE]
    entrypoint = shlex.join([*words, "--settings", SETTINGS_FILE, *arguments])
    try:
        with package(params, Path()) as folder:
            job = _submit(client, entrypoint, f"stvsr-{verb}-{uuid.uuid4().hex[:8]}", folder)
    except REFUSALS as error:
        raise ServiceError(f"{address}: does not take the job ({_reason(error)})") from None
    status = _accompany(client, job, dashboard)
    if status == 0 and not out.exists():
        logger.warning("%s: written on the cluster's storage, which this machine does not see", out)
    return status


def _submit(client: JobSubmissionClient, entrypoint: str, name: str, folder: Path) -> str:
    """Hand a job in, again and again while the cluster's agent is not up yet."""
    deadline = time.monotonic() + SUBMIT_SECONDS
    while True:
        try:
            job: str = client.submit_job(
                entrypoint=entrypoint,
                submission_id=name,
                runtime_env={
                    "working_dir": str(folder),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                },
            )
        except RuntimeError as error:
            if "try again later" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return job


def find_dashboard(address: str) -> str:
    """The URL of the dashboard of the cluster at `address`.

    Raises:
        ServiceError: nothing answers there, or the dashboard is out of this machine's reach.
    """
    url = address.rstrip("/")
    try:
        check_reachable(address)
        if address.startswith("ray://"):
            url = _ask_dashboard(address)
    except REFUSALS as error:
        raise _unreachable(address, error) from None
    if url != address.rstrip("/"):
        try:
            check_reachable(url)
        except OSError as error:
            raise ServiceError(
                f"{address}: its dashboard at {url} does not answer here ({_reason(error)}); "
                "start the head with --dashboard-host=0.0.0.0, or forward that port and name it "
                "with --address http://127.0.0.1:PORT"
            ) from None
    return url


def _ask_dashboard(address: str) -> str:
    """Ask a Ray Client server, again and again while it fails.

    The process that it forks for a client may die at once (gRPC's threads and fork do not go
    together), which it reports after 30 s; and the cluster behind it may not be up yet.
    """
    deadline = time.monotonic() + SILENCE_SECONDS
    while True:
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                ray.init(address=address, logging_level=logging.ERROR) as context,
            ):
                return f"http://{context.dashboard_url}"
        except ConnectionAbortedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _connect(dashboard: str, address: str) -> JobSubmissionClient:
    os.environ["RAY_API_SERVER_ADDRESS"] = dashboard  # else RAY_ADDRESS would overrule it
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(dashboard)
    except REFUSALS as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: BaseException) -> ServiceError:
    return ServiceError(
        f"{address}: cannot be reached ({_reason(error)}); start that cluster, or name "
        "another; with token auth, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
    )


def _accompany(client: JobSubmissionClient, job: str, dashboard: str) -> int:
    """Show a job's log to its end, or until Ctrl-C; returns the exit status."""
    log = _Log(client, job)
    asked = announced = False
    while True:
        try:
            if not announced:  # here, where a Ctrl-C that answers it is heard
                announced = True
                logger.info("job %s runs at %s; its log follows", job, dashboard)
            log.follow()
            break
        except KeyboardInterrupt:
            if asked or not _shall_stop():
                logger.warning(
                    "job %s keeps running without this command; follow it with `ray job logs "
                    "--follow --address %s %s`, stop it with `ray job stop --address %s %s`",
                    job, dashboard, job, dashboard, job,
                )  # fmt: skip
                return 130
            asked = True
            try:
                client.stop_job(job)
            except REFUSALS as error:
                raise ServiceError(
                    f"job {job}: cannot be stopped ({_reason(error)}); stop it with `ray job stop "
                    f"--address {dashboard} {job}`"
                ) from None
            logger.warning("stopping job %s: the step is ended and a checkpoint saved", job)
    try:
        details = client.get_job_info(job)
    except REFUSALS as error:
        raise ServiceError(
            f"job {job}: its end is not known ({_reason(error)})", resumable=True
        ) from None
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        raise TrainingError(f"job {job}: stopped as asked", resumable=True)
    if not details.driver_exit_code:
        raise TrainingError(f"job {job}: failed ({(details.message or 'no reason given').strip()})")
    status: int = details.driver_exit_code
    return status if status > 0 else 128 - status  # as a shell says that a signal ended it


def _shall_stop() -> bool:
    """Ask on the terminal; no where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write("\nstop the job too? [y/N] ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        return False


class _Log:
    """A job's log on this command's standard error, each character once."""

    def __init__(self, client: JobSubmissionClient, job: str) -> None:
        self._client = client
        self._job = job
        self._shown = 0

    def follow(self) -> None:
        """Show the job's log until it has ended.

        Raises:
            ServiceError: the cluster is out of reach for long; the job may be running.
        """
        last_answer = time.monotonic()
        while True:
            with contextlib.suppress(*REFUSALS):  # the loop asks again
                asyncio.run(self._tail())
            try:
                if self._client.get_job_status(self._job).is_terminal():
                    return
                last_answer = time.monotonic()
            except REFUSALS as error:
                if time.monotonic() - last_answer > SILENCE_SECONDS:
                    raise ServiceError(
                        f"job {self._job}: the cluster does not answer any more ({_reason(error)})",
                        resumable=True,
                    ) from None
            time.sleep(RETRY_SECONDS)

    async def _tail(self) -> None:
        """Show the log from where it was left, as long as the connection lasts."""
        seen = 0
        async for text in self._client.tail_job_logs(self._job):
            new = text[max(0, self._shown - seen) :]
            seen += len(text)
            self._shown = max(self._shown, seen)
            sys.stderr.write(escape.lines(new))
            sys.stderr.flush()


def _reason(error: BaseException) -> str:
    """One line: the first, or the last of a traceback that a server sent."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
