"""The commit of a run is that of the project, or unknown."""

import subprocess
from pathlib import Path

import pytest

from stvsr.launch.job import git_commit

COMMIT = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_the_commit_is_the_projects_and_unknown_in_an_unpacked_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STVSR_GIT_COMMIT", raising=False)
    archive = tmp_path / "archive"
    archive.mkdir()
    (tmp_path / "file").write_text("1")
    assert git_commit(tmp_path) == ""
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "file")
    assert git_commit(tmp_path) == ""
    git(tmp_path, *COMMIT)
    assert git_commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(archive) == ""
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path).endswith("-dirty")


def test_a_change_of_parameters_alone_leaves_the_commit_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STVSR_GIT_COMMIT", raising=False)
    project = tmp_path / "repository" / "project"
    project.mkdir(parents=True)
    for path in (project / "params.yaml", project / "dvc.lock", project.parent / "code.py"):
        path.write_text("1")
    git(project.parent, "init", "-q")
    git(project.parent, "add", ".")
    git(project.parent, *COMMIT)
    for name in ("params.yaml", "dvc.lock"):
        (project / name).write_text("2")
    assert git_commit(project) == git(project, "rev-parse", "HEAD")
    (project.parent / "code.py").write_text("2")
    assert git_commit(project).endswith("-dirty")
