"""`python -m pipelines.source_control`: let DVC run where there is no git repository, and with one.

An unpacked source archive has none, and DVC refuses to run there unless `core.no_scm` is set.
"""

import logging
import re
import subprocess
import sys
from pathlib import Path

from stvsr.core.errors import StvsrError
from stvsr.core.extras import missing
from stvsr.core.log import set_up_logging

logger = logging.getLogger(__name__)

_OURS = Path(".dvc", "tmp", "without-git")
"""Exists while `core.no_scm` is set by this module."""


def settle_source_control(project: Path) -> None:
    """Set `core.no_scm` in `.dvc/config.local` if no git repository contains the project.

    Once one does, after `git init`, it is unset if it was set here: experiments and commits need
    git. What a person set stays.

    Args:
        project: the folder that contains `.dvc`.

    Raises:
        StvsrError: DVC cannot be configured.
    """
    project = project.resolve()
    has_git = any((folder / ".git").exists() for folder in (project, *project.parents))
    ours = project / _OURS
    if has_git and ours.exists():
        if _is_without(project):
            _configure(project, "--unset", "core.no_scm")
        ours.unlink()
        logger.info("%s: in a git repository now: DVC uses it", project)
    elif not has_git and not _is_without(project):
        _configure(project, "core.no_scm", "true")
        ours.parent.mkdir(exist_ok=True)
        ours.touch()
        logger.info("%s: no git repository: DVC runs without one, commits are unknown", project)


def _is_without(project: Path) -> bool:
    local = project / ".dvc" / "config.local"
    if not local.exists():
        return False
    text = local.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(r"^\s*no_scm\s*=\s*true\b", text, re.MULTILINE | re.IGNORECASE))


def _configure(project: Path, *arguments: str) -> None:
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise missing("dvc", "flow")
    command = [str(program), "config", "--local", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(arguments)
        raise StvsrError(
            f"{project}: `dvc config --local {words}` failed: {done.stderr.strip()}",
            remedy=f"see that {project / '.dvc' / 'config.local'} is valid and can be written",
        )


def main() -> int:
    """Settle the current folder; 1 where that fails."""
    set_up_logging()
    try:
        settle_source_control(Path())
    except StvsrError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
