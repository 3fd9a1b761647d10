"""The one place that runs `dvc` and reads dvc.lock."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.supervised import SAVE_S, Order, run_order
from stvsr.core.errors import ParamsError, ServiceError, StvsrError
from stvsr.core.extras import missing
from stvsr.core.yaml import Value, read_yaml

_FAILED_STAGE = re.compile(r"ERROR: failed to reproduce '(?P<stage>[^']+)'(?:: (?P<why>.*))?")


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
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise missing("dvc", "flow")
    command = (str(program), "repro", *targets)
    code, lines = run_order(Order(command, dict(overrides), str(project.resolve()), save_s), log)
    if code != 0:
        raise _failure(lines, code, project)


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
