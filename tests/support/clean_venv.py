"""A virtual environment as `pip install REQUIREMENTS` makes one, without a network.

It sees the distributions that the requirements name and what those require, and nothing else of
this environment: no other package, no editable install, no path of ours.
"""

import os
import subprocess
import tomllib
import venv
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]


class CleanVenv:
    """A virtual environment in `folder` with the requirements' distributions, as links."""

    def __init__(self, folder: Path, requirements: Iterable[str]) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        for found in installed(requirements):
            for entry in entries(found):
                target = self.packages / entry.name
                if not target.exists():
                    target.symlink_to(entry)

    def run(self, code: str, folder: Path, **environment: str) -> str:
        """Run Python code in a folder, offline; what it printed."""
        return self.call([str(self.python), "-c", code], folder, **environment)

    def call(self, command: Sequence[str], folder: Path, **environment: str) -> str:
        """Run a command in a folder with few variables; what it printed."""
        kept = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
        quiet = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**kept, **quiet, "HOME": str(folder), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


def base_installation(folder: Path) -> CleanVenv:
    """The environment that `pip install stvsr` makes, without extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = CleanVenv(folder, project["dependencies"])
    (environment.packages / "stvsr").symlink_to(REPOSITORY / "stvsr")
    return environment


def installed(requirements: Iterable[str]) -> list[Distribution]:
    """The distributions of requirements and of all that these require, each once."""
    found: dict[str, Distribution] = {}
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        each = distribution(wanted.name)
        assert wanted.specifier.contains(each.version, prereleases=True), (wanted, each.version)
        found[wanted.name.lower()] = each
        for text in each.requires or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return list(found.values())


def entries(found: Distribution) -> set[Path]:
    """Top-level files and folders of a distribution, without its scripts."""
    names = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "/")}
    return {Path(str(found.locate_file(name))) for name in names - {"__pycache__"}}
