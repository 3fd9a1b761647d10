"""A command and everything it starts, as one unit that can be stopped completely."""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_SET_CHILD_SUBREAPER = 36
"""prctl's number for it, from linux/prctl.h."""

_LEFTOVERS_GRACE_S = 3.0
"""Seconds that what a command or a stage left running gets to leave, once that has ended."""


def run_supervised(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    let_go: threading.Event,
    grace_s: float,
) -> int:
    """Run a scheduler of stages (`dvc repro`) that ends, with all it started, on request.

    When `let_go` is set, the scheduler is frozen, so that it starts nothing further and still
    holds its locks; the stage at work gets SIGTERM and `grace_s` seconds to save and leave; then
    all that is left is killed. What a command that ends by itself leaves running is stopped too.
    The command's output goes to this process's standard output, and nowhere once nobody reads it.

    Returns:
        The exit code; negative where a signal ended the scheduler.
    """
    _adopt_orphans()
    reading, writing = os.pipe()
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as scheduler:
        os.close(writing)
        pump = threading.Thread(target=_forward, args=(reading,))
        pump.start()
        while scheduler.poll() is None:
            if let_go.wait(0.1):
                _stop(psutil.Process(scheduler.pid), grace_s)
        _end_descendants()
        _reap_orphans()
        pump.join()
        return scheduler.returncode


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets out of sight.

    Only Linux has this; elsewhere a process that was started and abandoned is not found again.
    """
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _reap_orphans() -> None:
    """Collect the exit codes of adopted processes, which would stay zombies in a container."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue


def _forward(reading: int) -> None:
    """Copy the pipe to standard output until it ends; the writer never meets a closed pipe."""
    is_read = True
    with open(reading, "rb", buffering=0) as pipe:
        while chunk := pipe.read(65536):
            try:
                while is_read and chunk:
                    chunk = chunk[os.write(sys.stdout.fileno(), chunk) :]
            except BrokenPipeError:
                is_read = False


def _stop(scheduler: psutil.Process, grace_s: float) -> None:
    """Freeze the scheduler, let its stage save and leave, end what stays, the scheduler last."""
    scheduler.suspend()
    stage = list(_stage_processes(scheduler))
    for process in stage:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _wait_until(lambda: not any(map(_is_running, stage)), grace_s)
    _end_descendants(but=scheduler)
    scheduler.kill()


def _end_descendants(but: psutil.Process | None = None) -> None:
    """SIGTERM, a moment to leave, SIGKILL, for what no stage is there any more to look after."""

    def alive() -> list[psutil.Process]:
        return [process for process in _descendants() if process != but]

    for process in alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _wait_until(lambda: not alive(), _LEFTOVERS_GRACE_S)
    while processes := alive():  # again: one may start another between the look and the blow
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _descendants() -> list[psutil.Process]:
    """Every live process below this one, whatever its group or session."""
    return [
        process for process in psutil.Process().children(recursive=True) if _is_running(process)
    ]


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stage_processes(scheduler: psutil.Process) -> Iterator[psutil.Process]:
    """The processes that are the stage itself: what the scheduler, or its shell, started.

    Their own children (Ray's, a loader's) are left to them while they save.
    """
    shell = Path(os.environ.get("SHELL") or "/bin/sh").resolve()
    for process in scheduler.children():
        yield process
        with contextlib.suppress(psutil.Error):
            if Path(process.exe()) == shell:
                yield from _stage_processes(process)
