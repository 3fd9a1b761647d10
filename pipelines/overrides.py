"""Parameters of one run: they are in params.yaml while the run lasts, and leave it at its end.

`dvc exp run -S` would leave them in params.yaml for the next run, scheduled or not, to train
with; it also unstages what the user has staged, and needs a commit.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stvsr.core.errors import ParamsError
from stvsr.core.files import write_bytes_whole
from stvsr.core.yaml import Value, read_bounded, with_values

logger = logging.getLogger(__name__)


@contextmanager
def overridden(
    project: Path, overrides: Mapping[str, Value], environment: Mapping[str, str]
) -> Iterator[None]:
    """Put `overrides` into params.yaml inside the block, and its former bytes back afterwards.

    What a killed process could not undo, the next call undoes; an edit made meanwhile stays.

    Args:
        project: the folder with params.yaml.
        overrides: values by dotted key, such as {"train.steps": 200}; none: nothing is written.
        environment: for `stvsr params`, which checks them.

    Raises:
        ParamsError: params.yaml cannot be read, or refuses an override; it is then as it was.
    """
    params = project / "params.yaml"
    before = project / ".dvc" / "tmp" / "params.before.yaml"
    during = project / ".dvc" / "tmp" / "params.during.yaml"
    _put_back(params, before, during)
    if not overrides:
        yield
        return
    original = _read(params)
    write_bytes_whole(during, _merged(original, overrides, params))
    write_bytes_whole(before, original)
    write_bytes_whole(params, during.read_bytes())
    try:
        _check(project, environment)
        yield
    finally:
        _put_back(params, before, during)


def _put_back(params: Path, before: Path, during: Path) -> None:
    """Undo an override, if there is one; idempotent."""
    if not before.exists():
        return
    if params.exists() and params.read_bytes() not in (during.read_bytes(), before.read_bytes()):
        kept = before.replace(before.with_name("params.replaced.yaml"))
        logger.warning("%s was edited during a run and stays so; before: %s", params, kept)
        return
    write_bytes_whole(params, before.read_bytes())
    before.unlink()


def _read(params: Path) -> bytes:
    try:
        return read_bounded(params)
    except FileNotFoundError:
        raise ParamsError(f"{params}: no such file; restore it from git") from None


def _merged(original: bytes, overrides: Mapping[str, Value], params: Path) -> bytes:
    """The parameters with `overrides` in them, as YAML; whether they are known is checked later."""
    notice = f"# For the run of process {os.getpid()} alone: what stood here returns at its end.\n"
    return notice.encode() + with_values(original, overrides, str(params))


def _check(project: Path, environment: Mapping[str, str]) -> None:
    """Refuse wrong values now: DVC removes a stage's outputs before the stage could refuse.

    In a process of its own, so that the checker's imports do not stay in memory during the run.
    """
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("stvsr")), "params"],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode != 0:
        lines = [line.removeprefix("stvsr params: ") for line in checked.stderr.splitlines()]
        raise ParamsError(lines or f"`stvsr params` ended with {checked.returncode}")
