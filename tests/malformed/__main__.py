"""`python -m tests.malformed KIND SEED`: one input alone. Without arguments: those that are read.

Each line of the standard input is a kind and a seed; each is answered by a line of JSON: what is
wrong, or null.
"""

import contextlib
import faulthandler
import gc
import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.malformed.kind import COMMIT, Damage, Door, Kind
from tests.malformed.kinds import KINDS

MEMORY = 2**31
"""Bytes that an input may take, beside those that this process has anyway."""

LONGEST_LINE = 4000
"""Characters of a refusal."""

ALLOWED_CONTROLS = "\n\r\t"


class Bench:
    """The folder in which projects are made, damaged and tried, one at a time.

    `project` is the working folder, `wholes` keeps the whole projects, `home` is HOME, and
    `outside` has what a file could lead to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self._left: dict[str, list[object]] = {}
        self._built: dict[Callable[[], None], Path] = {}
        for name in ("home", "tmp", "wholes", "outside"):
            (root / name).mkdir()
        os.environ.update(HOME=str(root / "home"), TMPDIR=str(root / "tmp"))
        tempfile.tempdir = None

    def try_input(self, kind: Kind, seed: int, *, shown: bool = False) -> str:
        """What is wrong with how the doors take an input; "" if nothing is."""
        whole = self._whole(kind)
        damage, random = kind.input(seed)
        self._begin(self._built[kind.build])
        damage.apply(random, self.project / damage.file)
        outside = self._outside()
        _limit_memory()
        for door, left in zip(kind.doors, whole, strict=True):
            with self._output() as log:
                status = _entered(door)
            text = log.read_text(errors="replace")
            if shown:
                sys.stdout.write(
                    f"== {damage.name}: {damage.file}\n== {door.name}: {status}\n{text}\n"
                )
            if fault := _fault(door, damage, status, text, left) or self._strays(outside):
                return f"{damage.name} of {damage.file}: {door.name}: {fault}"
            if status and kind.is_chain:
                break
        return ""

    def _whole(self, kind: Kind) -> list[object]:
        """What the doors leave of the kind's whole project, which is made at the first call."""
        if kind.name in self._left:
            return self._left[kind.name]
        if kind.build in self._built:
            self._begin(self._built[kind.build])
        else:
            self._build(kind)
        left = []
        for door in kind.doors:
            with self._output() as log:
                status = _entered(door)
            if status != 0:
                raise AssertionError(f"{door.name} of a whole project: {status}\n{log.read_text()}")
            left.append(door.left())
            if not door.same(left[-1], left[-1]):
                raise AssertionError(f"{door.name} of a whole project: found {left[-1]}")
        self._left[kind.name] = left
        return left

    def _build(self, kind: Kind) -> None:
        """Make the kind's whole project in the working folder, and keep a copy."""
        self._begin(None)
        with self._output():  # else what a verb prints would be read as an answer
            kind.build()
        kept = self.root / "wholes" / kind.name
        shutil.copytree(self.project, kept, symlinks=True)
        self._built[kind.build] = kept

    def _begin(self, whole: Path | None) -> None:
        os.chdir(self.root)
        _close_databases()
        shutil.rmtree(self.project, ignore_errors=True)
        if whole is None:
            self.project.mkdir()
        else:
            shutil.copytree(whole, self.project, symlinks=True)
        os.chdir(self.project)

    def _outside(self) -> dict[Path, tuple[int, int]]:
        """Size and time of change of every file that is not the project's."""
        places = (self.root / name for name in ("home", "wholes", "outside"))
        files = [self.root, *(file for place in places for file in place.rglob("*"))]
        return {
            file: (file.lstat().st_size, file.lstat().st_mtime_ns)
            for file in (*files, *self.root.iterdir())
            if file not in (self.root, self.project, self.root / "tmp", self.root / "output")
        }

    def _strays(self, before: Mapping[Path, tuple[int, int]]) -> str:
        after = self._outside()
        changed = sorted(str(p) for p in {*before, *after} if before.get(p) != after.get(p))
        return f"changed outside the project: {', '.join(changed[:3])}" if changed else ""

    @contextlib.contextmanager
    def _output(self) -> Iterator[Path]:
        """Standard output and error go to a file, whoever writes them."""
        path = self.root / "output"
        kept = os.dup(1), os.dup(2)
        streams = sys.stdout, sys.stderr
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = file
            try:
                yield path
            finally:
                sys.stdout, sys.stderr = streams
                for descriptor, saved in enumerate(kept, start=1):
                    os.dup2(saved, descriptor)
                    os.close(saved)


def _close_databases() -> None:
    """Close the connections that MLflow keeps to a database which is replaced by another."""
    if "sqlalchemy.engine" in sys.modules:
        from sqlalchemy.engine import Engine

        for engine in [each for each in gc.get_objects() if type(each) is Engine]:
            engine.dispose()


def _entered(door: Door) -> int | str:
    """The exit status of a door, or the traceback with which it was left."""
    try:
        return door.enter()
    except SystemExit as end:
        return f"SystemExit({end.code})"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "/stvsr/" in f.filename]
        where = f"{Path((own or [place])[-1].filename).name}:{(own or [place])[-1].lineno}"
        return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"


def _fault(door: Door, damage: Damage, status: int | str, text: str, whole: object) -> str:
    """What is wrong with how a door took a damaged project."""
    controls = sorted({c for c in text if not c.isprintable() and c not in ALLOWED_CONTROLS})
    if isinstance(status, str):
        return f"traceback: {status}"
    if "Traceback (most recent call last)" in text:
        return f"traceback in the output: {text.strip().splitlines()[-1][:200]}"
    if controls:
        return f"control characters in the output: {controls}"
    if status:
        return _fault_of_refusal(door, damage, text)
    try:
        found = door.left()
        is_right = door.same(whole, found)
    except Exception as error:
        return f"silently wrong: what it left cannot be read: {type(error).__name__}: {error}"
    return "" if is_right else "silently wrong: it is accepted, and not as the whole one"


def _fault_of_refusal(door: Door, damage: Damage, text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("stvsr ")]
    if not lines:
        return f"refused without a line of ours: {text[-200:]!r}"
    if max(map(len, lines)) > LONGEST_LINE:
        return f"refused in a line of {max(map(len, lines))} characters: {lines[0][:200]}"
    if not any(name in line for line in lines for name in damage.names):
        return f"refused without naming {damage.names}: {lines[-1][:300]}"
    if door.out and Path(door.out).exists():
        return f"refused, and {door.out} is left"
    return ""


def _limit_memory() -> None:
    """Let an allocation beyond `MEMORY` fail, so that it is a traceback and not this machine's."""
    status = Path("/proc/self/status").read_text()
    held = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held * 1024 + MEMORY, most))


def main(arguments: list[str]) -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the work is done in this process
    os.environ["STVSR_GIT_COMMIT"] = COMMIT
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    kinds = {kind.name: kind for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="malformed-", ignore_cleanup_errors=True) as root:
        bench = Bench(Path(root).resolve())
        if arguments:
            name, seed = arguments
            fault = bench.try_input(kinds[name], int(seed), shown=True)
            sys.stdout.write(f"{fault or 'as it should be'}\n")
            return bool(fault)
        with os.fdopen(os.dup(1), "w") as answers, os.fdopen(os.dup(2), "w") as log:
            faulthandler.enable(log)
            for line in sys.stdin:
                name, seed = line.split()
                fault = bench.try_input(kinds[name], int(seed))
                answers.write(f"{json.dumps(fault)}\n")
                answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
