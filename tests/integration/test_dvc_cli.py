"""Real `dvc repro` runs: what they report, and that nothing of them outlives its caller."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.dvc_cli import data_version, repro
from pipelines.source_control import settle_source_control
from stvsr.core.errors import ParamsError, ServiceError, StvsrError
from stvsr.core.yaml import Value
from stvsr.launch.job import git_commit
from tests.support.dvc import (
    PARAMS,
    PROGRAMS,
    assert_stands_still,
    dvc,
    environment,
    is_counting,
    lock_is_free,
    make_project,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CALLER = """\
import json, sys
from pathlib import Path
from pipelines.dvc_cli import repro
repro([], json.loads(sys.argv[3]), Path(sys.argv[1]), print, save_s=float(sys.argv[2]))
"""


SAYS_WHY = """\
stages:
  register:
    cmd:
      - echo "$STVSR_NO_PROMOTION|$DVC_EXP_NAME" > why.txt
      - python copy_to_project.py
    params: [train.steps]
    outs: [{why.txt: {cache: false}}]
"""
"""A stage that writes down what a registration looks at before it moves the champion."""

COPY_TO_PROJECT = """\
import shutil
from pathlib import Path
from stvsr.core.project import project_of
shutil.copy("why.txt", project_of(Path()) / "registered")
"""
"""What a stage does whose result outlives the copy that an experiment runs in."""


def start_caller(
    project: Path, save_s: float = 30, overrides: dict[str, Value] | None = None
) -> subprocess.Popen[bytes]:
    """A process that runs a stage without end; it has counted when this returns."""
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(project), str(save_s), json.dumps(overrides or {})],
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    wait_until("a stage that counts", lambda: is_counting(project) or caller.poll() is not None)
    assert caller.poll() is None
    return caller


def assert_next_run_works(project: Path) -> None:
    (project / "behaviour").write_text("")
    done = dvc(project, "repro")
    assert done.returncode == 0, done.stderr
    assert (project / "out" / "count").read_text() == "3"


def test_a_project_runs_without_git_and_with_it_once_it_is_there(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    shutil.rmtree(project / ".git")
    for told in (True, False):
        lines: list[str] = []
        repro([], {}, project, lines.append)
        assert any("no git repository: DVC runs without one" in line for line in lines) == told
    assert (project / "out" / "count").read_text() == "3"
    assert git_commit(project) == ""
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    settle_source_control(project)
    assert "no_scm" not in (project / ".dvc" / "config.local").read_text()
    assert "up to date" in dvc(project, "repro").stdout


def test_a_registration_can_tell_experiments_and_runs_with_parameters(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", stages=SAYS_WHY)
    (project / "copy_to_project.py").write_text(COPY_TO_PROJECT)
    (project / ".gitignore").write_text("/registered\n")
    registered = project / "registered"
    repro([], {}, project, print)
    assert registered.read_text() == "|\n"
    repro([], {"train.steps": 2}, project, print)
    assert registered.read_text() == ("a run with parameters of its own, which promotes nothing|\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("add", "."), (*identity, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *words], cwd=project, check=True)
    done = dvc(project, "exp", "run", "--temp", "--name", "lousy-lamb", "-S", "train.steps=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert registered.read_text() == "|lousy-lamb\n"
    assert [*project.rglob("registered")] == [registered], "the copy is kept"


def test_a_project_with_git_keeps_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    settle_source_control(project)
    assert not (project / ".dvc" / "config.local").exists()


def test_repro_tells_every_line_and_a_second_one_runs_nothing(tmp_path: Path) -> None:
    project, first, second = make_project(tmp_path / "p"), [], []  # type: ignore[var-annotated]
    repro([], {}, project, first.append)
    repro([], {}, project, second.append)
    assert [line for line in first if line.startswith("step")] == [
        "step 1 of 3", "step 2 of 3", "step 3 of 3",
    ]  # fmt: skip
    assert (project / "after.txt").read_text() == "done\n"
    assert "Data and pipelines are up to date." in second
    assert re.fullmatch(r"[0-9a-f]{32}\.dir", data_version("count", project))


def test_targets_bring_only_themselves_up_to_date(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    repro(["count"], {}, project, lambda line: None)
    assert not (project / "after.txt").exists()


def test_overrides_hold_for_their_run_alone(tmp_path: Path) -> None:
    project, lines = make_project(tmp_path / "p"), []  # type: ignore[var-annotated]
    repro(["count"], {"train.steps": 2, "train.learning_rate": 1e-5}, project, lines.append)
    assert "step 2 of 2" in lines
    assert (project / "params.yaml").read_text() == PARAMS
    repro(["count"], {}, project, lines.append)
    assert lines[-1] != "Data and pipelines are up to date."
    assert (project / "out" / "count").read_text() == "3"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"train.stepps": 2}, "params.yaml: train.stepps: .*did you mean train.steps?"),
        ({"train.steps": 0}, "params.yaml: train.steps: found 0"),
        ({"train.steps.first": 1}, "train.steps.first: there is no section to hold first"),
    ],
)
def test_a_wrong_override_is_refused_before_anything_is_removed(
    tmp_path: Path, overrides: dict[str, int], says: str
) -> None:
    project = make_project(tmp_path / "p")
    (project / "out").mkdir()
    with pytest.raises(ParamsError, match=says) as refusal:
        repro([], overrides, project, lambda line: None)
    assert "\n" not in str(refusal.value)
    assert (project / "out").exists()
    assert (project / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (
            "refuses",
            "stage count: stvsr count: train.crop: found 30; allowed: a multiple of 8 "
            "(exited with 1)",
        ),
        ("breaks", "stage count: ValueError: no clip has seven frames (exited with 1)"),
    ],
)
def test_a_failed_stage_is_told_in_its_own_last_words(
    tmp_path: Path, behaviour: str, says: str
) -> None:
    project = make_project(tmp_path / "p", behaviour)
    with pytest.raises(StvsrError) as failure:
        repro([], {}, project, lambda line: None)
    assert str(failure.value) == says


def test_what_dvc_itself_refuses_is_one_line(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with pytest.raises(StvsrError, match="Stage 'nowhere' not found") as unknown_stage:
        repro(["nowhere"], {}, project, lambda line: None)
    assert "\n" not in str(unknown_stage.value)
    with pytest.raises(StvsrError, match=r"no DVC project; name the folder that holds \.dvc"):
        repro([], {}, tmp_path, lambda line: None)


@pytest.mark.parametrize("behaviour", ["", "saves", "stubborn", "daemon"])
def test_nothing_goes_on_writing_when_the_caller_is_killed(tmp_path: Path, behaviour: str) -> None:
    project = make_project(tmp_path / "p", f"endless {behaviour}")
    caller = start_caller(project, save_s=1 if behaviour == "stubborn" else 60)
    caller.kill()
    caller.wait()
    wait_until("the lock", lambda: lock_is_free(project))
    writers = [project / "out" / "count", project / "daemon"]
    assert_stands_still(*[file for file in writers if file.exists()])
    assert (project / "daemon").exists() == (behaviour == "daemon")
    assert (project / "saved").exists() == (behaviour == "saves")
    assert not (project / "after.txt").exists(), "a stage started after the run was stopped"
    assert_next_run_works(project)


def test_overrides_leave_with_a_run_whose_caller_is_killed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", "endless")
    caller = start_caller(project, overrides={"train.steps": 7})
    assert YAML(typ="safe", pure=True).load(project / "params.yaml") == {"train": {"steps": 7}}
    caller.kill()
    caller.wait()
    wait_until("the lock", lambda: lock_is_free(project))
    assert (project / "params.yaml").read_text() == PARAMS


def test_the_next_run_undoes_overrides_that_a_killed_supervisor_left(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    kept = project / ".dvc" / "tmp"
    (kept / "params.before.yaml").write_text(PARAMS)
    for file in (kept / "params.during.yaml", project / "params.yaml"):
        file.write_text("train: {steps: 7}")
    repro(["count"], {}, project, lambda line: None)
    assert (project / "params.yaml").read_text() == PARAMS
    assert (project / "out" / "count").read_text() == "3"


@pytest.mark.parametrize("torn", ["", '{"write": {"/data'])
def test_the_next_run_goes_on_where_dvc_was_killed_in_the_middle_of_its_own_list(
    tmp_path: Path, torn: str
) -> None:
    project = make_project(tmp_path / "p")
    (project / ".dvc" / "tmp" / "rwlock").write_text(torn)
    assert "JSON structure is corrupted" in dvc(project, "repro").stderr
    repro([], {}, project, lambda line: None)
    assert (project / "out" / "count").read_text() == "3"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_caller_lets_the_stage_save(tmp_path: Path, number: int) -> None:
    project = make_project(tmp_path / "p", "endless saves")
    caller = start_caller(project)
    caller.send_signal(number)
    caller.wait()
    wait_until("the lock", lambda: lock_is_free(project))
    assert (project / "saved").exists()
    assert_stands_still(project / "out" / "count")


def test_an_error_in_the_caller_stops_the_run_and_hears_its_last_lines(tmp_path: Path) -> None:
    project, lines = make_project(tmp_path / "p", "endless saves"), []

    def cancel(line: str) -> None:
        lines.append(line)
        if line.startswith("step 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repro([], {}, project, cancel)
    assert lock_is_free(project)
    assert "saving 19" in lines


def test_two_runs_at_once_do_not_write_twice(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", "endless")
    caller = start_caller(project)
    with pytest.raises(ServiceError, match=r"another run is at work here: .*process \d+ is alr"):
        repro([], {}, project, lambda line: None)
    by_hand = dvc(project, "repro")
    caller.kill()
    caller.wait()
    wait_until("the lock", lambda: lock_is_free(project))
    assert "is busy" in by_hand.stderr


def test_a_run_beside_a_dvc_started_by_hand_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", "endless")
    by_hand = subprocess.Popen(
        [PROGRAMS / "dvc", "repro"],
        cwd=project,
        env=environment(PATH=f"{PROGRAMS}:/usr/bin:/bin"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until("a stage that counts", lambda: is_counting(project))
        with pytest.raises(ServiceError, match=rf"another dvc is at work here .*PID {by_hand.pid}"):
            repro([], {}, project, lambda line: None)
    finally:
        os.killpg(by_hand.pid, signal.SIGKILL)
        by_hand.wait()
