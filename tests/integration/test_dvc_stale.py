"""A real DVC with the project's own graph: what makes a stage stale, and what does not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.fingerprints import STAGES, stage_fingerprint

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
OUTPUTS = (
    *("data/params.txt", "data/source/x", "data/index/x", "data/shards/train/x"),
    *("data/shards/test/x", "model/history.csv", "evaluation/metrics.json", "registration/x"),
    "report/x",
)

HISTORY = """\
step,learning_rate,loss,val/psnr_y_input,val/psnr_y_interpolated
10,0.0004,0.04,,
20,0.0003,0.03,30.5,28.5
30,0.0001,0.02,31.5,29.25
"""

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
    shutil.copytree(PROJECT / ".dvc" / "plots", project / ".dvc" / "plots")
    shutil.copy(PROJECT / ".dvc" / "config", project / ".dvc" / "config")
    for name in OUTPUTS:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("{}")
    (project / "data" / "code").mkdir()
    for stage in STAGES:
        (project / "data" / "code" / f"{stage}.txt").write_text(f"{stage_fingerprint(stage)}\n")
    dvc(project, "commit", "-f", "-q")
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def dvc(project: Path, *arguments: str, refuses: bool = False) -> str:
    """Run DVC, and with it the code that is in the project; what it said."""
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(PROGRAMS / "dvc"), *arguments],
        cwd=project,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == refuses, done.stdout + done.stderr
    return done.stdout + (done.stderr if refuses else "")


def commit(project: Path) -> None:
    for words in (("add", "."), ("commit", "-qm", "first")):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *words], cwd=project, check=True)


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
    commit(project)
    (project / "evaluation" / "metrics.json").write_text('{"psnr_y": 30.5}')
    dvc(project, "commit", "-f", "-q", "evaluate")
    found = json.loads(dvc(project, "metrics", "diff", "--json"))
    assert found["evaluation/metrics.json"]["psnr_y"]["new"] == 30.5
    report = dvc(project, "exp", "show", "--csv")
    assert "30.5" in report


def test_a_clone_that_pulls_has_nothing_to_do(project: Path, tmp_path: Path) -> None:
    dvc(project, "remote", "add", "--default", "store", str(tmp_path / "store"))
    dvc(project, "push", "-q")
    commit(project)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", project, clone], check=True)
    dvc(clone, "pull", "-q")
    assert stale(clone) == set()
    assert "up to date" in dvc(clone, "repro")


def test_a_mistake_in_the_parameters_is_refused_before_any_stage(project: Path) -> None:
    edit(project, "params.yaml", "  steps: null", "  steps: 7")
    edit(project, "params.yaml", "  strip_size:", "  stripsize:")
    edit(project, "params.yaml", "  train_clips: null", "  train_clips: 3")
    said = dvc(project, "repro", refuses=True)
    assert "evaluate.stripsize: found an unknown key; did you mean evaluate.strip_size?" in said
    assert re.findall("Running stage '(.*)'", said) == ["check"]
    assert all((project / name).exists() for name in OUTPUTS)


def test_the_page_of_plots_loads_nothing_and_has_all_curves(project: Path) -> None:
    (project / "model" / "history.csv").write_text(HISTORY)
    dvc(project, "plots", "show")
    page = (project / "dvc_plots" / "index.html").read_text()
    assert not re.search(r"<[^>]*\b(src|href)\s*=|@import|url\(|fetch\(|XMLHttp", page)
    assert page.count("vegaEmbed('#") == 3
    assert "function vegaEmbed(" in page
    assert '"dvc_inferred_y_value": "29.25"' in page


def test_a_changed_luma_weight_makes_the_scores_stale(project: Path) -> None:
    edit(project, "stvsr/core/color.py", "65.481", "65.482")
    assert "evaluate" in stale(project)


def test_of_changed_code_only_what_decides_bytes_makes_them_stale(project: Path) -> None:
    edit(project, "stvsr/data/clips/png.py", '"""', '"""Reworded. ')  # read by index and shard
    edit(project, "stvsr/core/resize.py", "TAPS = 4 * SCALE", "TAPS = 2 * 2 * SCALE")
    assert {"code@index", "code@shard"} <= stale(project)
    dvc(project, "repro", "-q", "code")
    found = stale(project)
    assert {"shard@train", "shard@test"} <= found
    assert "index" not in found


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (
            {
                "  threads: 2": "  threads: 3",
                "  on_damage: stop": "  on_damage: skip",
                "  workers: 2                       #": "  workers: 1 #",
                "  log_every: null": "  log_every: 7",
            },
            set(),
        ),
        ({"  learning_rate: null": "  learning_rate: 0.001"}, {"train"}),
        ({"  k: null": "  k: 1"}, {"train"}),
        (
            {
                "  experiment: stvsr": "  experiment: other",
                "  clips_per_shard: 16": "  clips_per_shard: 8",
            },
            {"register", "shard@train", "shard@test"},
        ),
    ],
)
def test_a_parameter_makes_stale_what_it_decides(
    project: Path, edits: dict[str, str], expected: set[str]
) -> None:
    for old, new in edits.items():
        edit(project, "params.yaml", old, new)
    assert stale(project) == expected | {"check"}
