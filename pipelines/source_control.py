"""`python -m pipelines.source_control`: let DVC run where there is no git repository.

An unpacked source archive has none, and DVC refuses to run there unless `core.no_scm` is set.
"""

import logging
import subprocess
import sys
from pathlib import Path

from stvsr.core.errors import StvsrError
from stvsr.core.log import set_up_logging

logger = logging.getLogger(__name__)


def settle_without_git(project: Path) -> None:
    """Set `core.no_scm` in `.dvc/config.local` if no git repository contains the project.

    Args:
        project: the folder that contains `.dvc`.

    Raises:
        StvsrError: DVC cannot be configured.
    """
    folders = (project.resolve(), *project.resolve().parents)
    if any((folder / ".git").exists() for folder in folders) or _is_settled(project):
        return
    command = [str(Path(sys.executable).with_name("dvc")), "config", "--local"]
    set_ = subprocess.run(
        [*command, "core.no_scm", "true"], cwd=project, capture_output=True, text=True, check=False
    )
    if set_.returncode != 0:
        raise StvsrError(f"{project}: no git repository: {set_.stderr}", remedy="run `git init`")
    logger.info(
        "%s: no git repository: DVC runs without one, and commits are unknown; after `git init`, "
        "run `dvc config --local --unset core.no_scm`",
        project.resolve(),
    )


def _is_settled(project: Path) -> bool:
    local = project / ".dvc" / "config.local"
    return local.exists() and "no_scm" in local.read_text(encoding="utf-8", errors="replace")


def main() -> int:
    """Settle the current folder; 1 where that fails."""
    set_up_logging()
    try:
        settle_without_git(Path())
    except StvsrError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
