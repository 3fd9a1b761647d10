"""The project's folder, which outlives the copies of it that DVC's experiments run in."""

import os
from pathlib import Path

_ROOT = "DVC_ROOT"
"""Variable that DVC sets for stages: the folder of the project, also where they run in a copy."""

_COPIES = Path(".dvc", "tmp", "exps")
"""Folder in the project in which DVC makes the copies."""


def project_of(folder: Path) -> Path:
    """The project that `folder` is, or of which it is a copy.

    `dvc exp run --temp` and `dvc queue start` run the stages in a copy of the project, and remove
    it at the end. Runs with their checkpoints and the MLflow store are kept in the project.
    """
    root = os.environ.get(_ROOT)
    if root is None:
        return folder
    project = Path(root).resolve()
    return project if folder.resolve().is_relative_to(project / _COPIES) else folder
