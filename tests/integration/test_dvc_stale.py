"""A real DVC with the project's own graph: what makes a stage stale, and what does not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
OUTPUTS = (
    *("data/source/x", "data/index/x", "data/shards/train/x", "data/shards/test/x"),
    *("model/history.csv", "evaluation/metrics.json", "report/x", "registration/x"),
)

Stale = Callable[[], set[str]]
Edit = Callable[[str, str, str], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose stages all have run, as far as DVC knows."""
    project = tmp_path_factory.mktemp("graph") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("stvsr", "pipelines"):
        shutil.copytree(PROJECT / folder, project / folder, ignore=ignored)
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(PROJECT / name, project / name)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    dvc(project, "init", "-q")
    for name in OUTPUTS:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("{}")
    dvc(project, "repro", "-q", "code")
    dvc(project, "commit", "-f", "-q")
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def dvc(project: Path, *arguments: str) -> str:
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PYTHONPATH": ""}
    done = subprocess.run(
        [str(PROGRAMS / "dvc"), *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stale(project: Path) -> set[str]:
    """The stages that `dvc repro` would run."""
    return set(json.loads(dvc(project, "status", "--json")))


def edit(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new, 1))


def test_a_finished_project_has_nothing_to_do(finished: Path) -> None:
    assert stale(finished) == set()


def test_the_scores_of_two_commits_are_compared(project: Path) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*git, *words], cwd=project, check=True)
    (project / "evaluation" / "metrics.json").write_text('{"psnr_y": 30.5}')
    dvc(project, "commit", "-f", "-q", "evaluate")
    found = json.loads(dvc(project, "metrics", "diff", "--json"))
    assert found["evaluation/metrics.json"]["psnr_y"]["new"] == 30.5
    report = dvc(project, "exp", "show", "--csv")
    assert "30.5" in report


def test_a_changed_luma_weight_makes_the_scores_stale(project: Path) -> None:
    edit(project, "stvsr/core/color.py", "65.481", "65.482")
    assert "evaluate" in stale(project)


def test_a_comment_reruns_only_the_fingerprints_of_expensive_stages(project: Path) -> None:
    edit(project, "stvsr/data/clips/png.py", '"""', '"""Reworded. ')
    assert {"code@index", "code@shard"} <= stale(project)
    dvc(project, "repro", "-q", "code")
    assert not {"index", "shard@train", "shard@test"} & stale(project)


def test_code_that_decides_the_shards_bytes_makes_them_stale(project: Path) -> None:
    edit(project, "stvsr/core/resize.py", "TAPS = 4 * SCALE", "TAPS = 2 * 2 * SCALE")
    dvc(project, "repro", "-q", "code")
    found = stale(project)
    assert {"shard@train", "shard@test"} <= found
    assert "index" not in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  threads: 2", "  threads: 3", set()),
        ("  on_damage: stop", "  on_damage: skip", set()),
        ("  workers: 2                       #", "  workers: 1 #", set()),
        ("  log_every: null", "  log_every: 7", set()),
        ("  experiment: stvsr", "  experiment: other", {"register"}),
        ("  learning_rate: null", "  learning_rate: 0.001", {"train"}),
        ("  k: 3", "  k: 1", {"train"}),
        ("  clips_per_shard: 16", "  clips_per_shard: 8", {"shard@train", "shard@test"}),
    ],
)
def test_a_parameter_makes_stale_what_it_decides(
    project: Path, old: str, new: str, expected: set[str]
) -> None:
    edit(project, "params.yaml", old, new)
    assert stale(project) == expected
