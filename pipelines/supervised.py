"""Commands that run under a supervisor, and leave nothing running however their caller ends.

The supervisor is this module, started as a process in a session of its own, whose standard input is
a pipe that only the caller holds open. However the caller ends, even by SIGKILL, the pipe closes,
and the supervisor stops the command and all that it started, and only then lets go of the project's
lock: nothing continues to write unseen.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

from pipelines.overrides import overridden
from pipelines.process_tree import run_supervised
from pipelines.source_control import settle_source_control
from stvsr.cli import TELEMETRY_OFF
from stvsr.core.errors import BusyError, ParamsError, ServiceError, StvsrError
from stvsr.core.files import only_writer
from stvsr.core.log import set_up_logging
from stvsr.core.yaml import Value
from stvsr.tracking.config import NO_PROMOTION

logger = logging.getLogger(__name__)

SAVE_S = 60.0
"""Seconds that a stage gets to save and leave when its run is cancelled or its caller is gone."""

_REFUSED = "refused: "
"""Prefix of the lines with which the supervisor, not the command, refuses a run."""

_REFUSALS: dict[int, type[StvsrError]] = {1: StvsrError, 2: ParamsError, 3: ServiceError}
"""The supervisor's exit code for each kind of refusal."""

_LAST_LINES = 400
"""Last lines of the output that are kept to find the reason for a failure."""


@dataclass(frozen=True)
class Order:
    """A command for the supervisor.

    Attributes:
        command: scheduler of stages, by its name among this environment's programs or by its path.
        overrides: parameters of this run alone, such as {"train.steps": 200}.
        project: the folder with params.yaml that it runs in.
        save_s: seconds that a stage gets, after SIGTERM, to save and leave when the run is stopped.
    """

    command: Sequence[str]
    overrides: Mapping[str, Value]
    project: str
    save_s: float = SAVE_S


def run_order(order: Order, log: Callable[[str], None]) -> tuple[int, list[str]]:
    """Run a command to its end, or stop it when this call or its process ends.

    Args:
        order: what to run.
        log: called with each line, but for empty ones, that the command writes.

    Returns:
        Its exit code and its last lines.

    Raises:
        ParamsError: an override is refused; nothing has run.
        ServiceError: another run is at work in this project.
        StvsrError: the command cannot run.
    """
    lines: deque[str] = deque(maxlen=_LAST_LINES)

    def tell(line: str) -> None:
        line = line.rstrip()
        if line:
            lines.append(line)
        if line and not line.startswith(_REFUSED):
            log(line)

    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.supervised", json.dumps(asdict(order))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as supervisor:
        leash, output = cast(IO[str], supervisor.stdin), cast(IO[str], supervisor.stdout)
        try:
            for line in output:
                tell(line)
        finally:
            leash.close()
            for line in output:  # what a stage says while it saves; nothing after a normal end
                tell(line)
    refusals = [line.removeprefix(_REFUSED) for line in lines if line.startswith(_REFUSED)]
    if refusals and supervisor.returncode:
        raise _REFUSALS[supervisor.returncode](refusals)
    return supervisor.returncode, list(lines)


def main() -> int:
    """Run the supervisor; the order is the first argument."""
    order = Order(**json.loads(sys.argv[1]))
    set_up_logging()
    let_go = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: let_go.set())
    threading.Thread(target=_await_end_of_input, args=(let_go,), daemon=True).start()
    try:
        return _supervise(order, let_go)
    except StvsrError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(StvsrError(f"{error.filename}: {error.strerror}; put it right and retry"))


def _await_end_of_input(let_go: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    let_go.set()


def _refuse(error: StvsrError) -> int:
    # The caller may be gone, and then nobody reads this.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write("".join(f"{_REFUSED}{line}\n" for line in str(error).splitlines()))
        sys.stdout.flush()
    return next(code for code in reversed(_REFUSALS) if isinstance(error, _REFUSALS[code]))


def _supervise(order: Order, let_go: threading.Event) -> int:
    project = Path(order.project)
    programs = Path(sys.executable).parent
    if not (project / ".dvc").is_dir():
        raise StvsrError(f"{project}: no DVC project; name the folder that holds .dvc")
    environment = TELEMETRY_OFF | os.environ | {"PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if order.overrides:
        environment[NO_PROMOTION] = "a run with parameters of its own, which promotes nothing"
    with _only_run(project):
        settle_source_control(project)
        _drop_torn_rwlock(project / ".dvc" / "tmp")
        with overridden(project, order.overrides, environment):
            return run_supervised(order.command, project, environment, let_go, order.save_s)


@contextlib.contextmanager
def _only_run(project: Path) -> Iterator[None]:
    """Hold the project's lock until every process of this run is gone."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_writer(project / ".dvc" / "tmp" / "run"))
        except BusyError as busy:
            raise ServiceError(f"another run is at work here: {busy}") from None
        yield


def _drop_torn_rwlock(folder: Path) -> None:
    """Delete DVC's list of readers and writers if a dvc was killed while it wrote it.

    DVC would refuse to run until somebody deletes it by hand. One that is whole stays: DVC drops
    the entries of dead processes itself.
    """
    rwlock = folder / "rwlock"
    if not _is_torn(rwlock):
        return
    with (folder / "rwlock.lock").open("a+") as guard:  # DVC holds it while it writes the list
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if _is_torn(rwlock):
            rwlock.unlink()
            logger.info("%s: deleted: a dvc was killed while it wrote it", rwlock)


def _is_torn(rwlock: Path) -> bool:
    try:
        json.loads(rwlock.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
