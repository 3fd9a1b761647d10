"""The one place that runs `dvc` and reads dvc.lock.

`repro` runs DVC under a supervisor: this module, started as a process in a session of its own,
whose standard input is a pipe that only the caller holds open. However the caller ends, even by
SIGKILL, the pipe closes, and the supervisor stops DVC, its stage and all that the stage started,
and only then lets go of the project's lock: nothing continues to write unseen.
"""

import contextlib
import json
import os
import re
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
from pipelines.source_control import settle_without_git
from stvsr.cli import TELEMETRY_OFF
from stvsr.core.errors import BusyError, ParamsError, ServiceError, StvsrError
from stvsr.core.files import only_writer
from stvsr.core.log import set_up_logging
from stvsr.core.yaml import Value, read_yaml
from stvsr.tracking.config import NO_PROMOTION

SAVE_S = 60.0
"""Seconds that a stage gets to save and leave when its run is cancelled or its caller is gone."""

_REFUSED = "refused: "
"""Prefix of the lines with which the supervisor, not DVC, refuses a run."""

_REFUSALS: dict[int, type[StvsrError]] = {1: StvsrError, 2: ParamsError, 3: ServiceError}
"""The supervisor's exit code for each kind of refusal."""

_FAILED_STAGE = re.compile(r"ERROR: failed to reproduce '(?P<stage>[^']+)'(?:: (?P<why>.*))?")
_LAST_LINES = 400
"""Last lines of the output that are kept to find the reason for a failure."""


@dataclass(frozen=True)
class _Order:
    """Arguments of `repro`, passed to the supervisor."""

    targets: Sequence[str]
    overrides: Mapping[str, Value]
    project: str
    save_s: float


def repro(
    targets: Sequence[str],
    overrides: Mapping[str, Value],
    project: Path,
    log: Callable[[str], None],
    save_s: float = SAVE_S,
) -> None:
    """Run `dvc repro`, and leave nothing running however this call or its process ends.

    Args:
        targets: stages to bring up to date, with what they depend on; none: all of dvc.yaml.
        overrides: parameters of this run alone, such as {"train.steps": 200}; they are checked
            first, and params.yaml is as it was when the run ends.
        project: the folder with dvc.yaml and params.yaml.
        log: called with each line, but for empty ones, that DVC and its stages write.
        save_s: seconds a stage gets, after SIGTERM, to save and leave when the run is stopped.

    Raises:
        ParamsError: an override is refused; no stage has run.
        ServiceError: another run is at work in this project.
        StvsrError: a stage failed (the text is what it said itself), or DVC cannot run.
    """
    order = _Order(tuple(targets), dict(overrides), str(project.resolve()), save_s)
    lines: deque[str] = deque(maxlen=_LAST_LINES)

    def tell(line: str) -> None:
        line = line.rstrip()
        if line:
            lines.append(line)
        if line and not line.startswith(_REFUSED):
            log(line)

    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.dvc_cli", json.dumps(asdict(order))],
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
    if supervisor.returncode != 0:
        raise _failure(list(lines), supervisor.returncode, project)


def data_version(stage: str, project: Path) -> str:
    """MD5 of a stage's output as dvc.lock has it: the version of what the stage last made.

    Args:
        stage: a stage with one output, such as "shard@train".
        project: the folder with dvc.lock.

    Raises:
        StvsrError: dvc.lock is missing or damaged, or does not know one output of that stage.
    """
    lock = project / "dvc.lock"
    try:
        stages = read_yaml(lock)["stages"]
        outs = stages[stage]["outs"] if stage in stages else []
        hashes = [str(out["md5"]) for out in outs]
    except FileNotFoundError:
        raise StvsrError(f"{lock}: no such file; run `dvc repro {stage}` first") from None
    except OSError as error:
        raise StvsrError(f"{lock}: cannot be read ({error.strerror})") from None
    except (ParamsError, KeyError, TypeError):
        raise StvsrError(f"{lock}: not a lock file of DVC; restore it from git") from None
    if len(hashes) != 1:
        raise StvsrError(
            f"{lock}: found {len(hashes)} outputs of stage {stage!r}, needed: 1; stages there: "
            f"{', '.join(stages)}; `dvc repro {stage}` makes a missing one"
        )
    return hashes[0]


def _failure(lines: list[str], code: int, project: Path) -> StvsrError:
    """The error behind a run's last lines."""
    refusals = [line.removeprefix(_REFUSED) for line in lines if line.startswith(_REFUSED)]
    if refusals:
        return _REFUSALS[code](refusals)
    if any("is busy, it is being blocked by" in line for line in lines[-20:]) or any(
        "Unable to acquire lock" in line for line in lines[-20:]
    ):
        holders = " ".join(line.strip() for line in lines if line.strip().startswith("(PID "))
        return ServiceError(
            f"{project}: another dvc is at work here {holders}".rstrip()
            + "; wait until it ends, or stop it, and run this again"
        )
    for place in reversed(range(len(lines))):
        if failed := _FAILED_STAGE.match(lines[place]):
            first, *more = _reason(failed["why"], lines[:place])
            return StvsrError([f"stage {failed['stage']}: {first}", *more])
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    words = said or lines or ["it said nothing"]
    return StvsrError(f"dvc repro in {project}: {words[-1]} (exit code {code})")


def _reason(why: str | None, lines: list[str]) -> list[str]:
    """Reason of a failed stage: the lines of its refusal, else its last line, else DVC's."""
    if not (why or "").startswith("failed to run: "):
        return [why or "failed; see the log"]
    heading = "Running stage "
    begin = max((i for i, line in enumerate(lines) if line.startswith(heading)), default=0)
    said = [line for line in lines[begin:] if not line.startswith((heading, "> "))]
    refusal = [line for line in said if re.match(r"stvsr [a-z]+: ", line)]
    status = (why or "").rpartition(", ")[2]
    *more, last = refusal or said[-1:] or ["it said nothing"]
    return [*more, f"{last} ({status})"]


def main() -> int:
    """Run the supervisor; the order is the first argument."""
    order = _Order(**json.loads(sys.argv[1]))
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


def _supervise(order: _Order, let_go: threading.Event) -> int:
    project = Path(order.project)
    programs = Path(sys.executable).parent
    if not (programs / "dvc").exists():
        raise StvsrError(f"{programs / 'dvc'}: no such program; pip install 'stvsr[flow]'")
    if not (project / ".dvc").is_dir():
        raise StvsrError(f"{project}: no DVC project; name the folder that holds .dvc")
    environment = TELEMETRY_OFF | os.environ | {"PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if order.overrides:
        environment[NO_PROMOTION] = "a run with parameters of its own, which promotes nothing"
    command = [str(programs / "dvc"), "repro", *order.targets]
    settle_without_git(project)
    with _only_run(project), overridden(project, order.overrides, environment):
        return run_supervised(command, project, environment, let_go, order.save_s)


@contextlib.contextmanager
def _only_run(project: Path) -> Iterator[None]:
    """Hold the project's lock until every process of this run is gone."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_writer(project / ".dvc" / "tmp" / "run"))
        except BusyError as busy:
            raise ServiceError(f"another run is at work here: {busy}") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
