"""A tiny DVC project whose one stage counts, so that a writer left behind shows by its count."""

import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[2]

COUNT = """\
import os, pathlib, signal, subprocess, sys, time
from ruamel.yaml import YAML

out = pathlib.Path("out")
out.mkdir(exist_ok=True)
steps = YAML(typ="safe", pure=True).load(pathlib.Path("params.yaml"))["train"]["steps"]
behaviour = pathlib.Path("behaviour").read_text().split()

def save_and_leave(*_):
    for line in range(20):
        print("saving", line, flush=True)
        time.sleep(0.05)
    pathlib.Path("saved").touch()
    sys.exit(0)

if "endless" in behaviour:
    steps = 100_000
if "saves" in behaviour:
    signal.signal(signal.SIGTERM, save_and_leave)
if "stubborn" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "daemon" in behaviour:
    counter = "import pathlib, time\\n" \\
        "while True: pathlib.Path('daemon').write_text(str(time.time())); time.sleep(0.05)"
    if os.fork() == 0:
        subprocess.Popen([sys.executable, "-c", counter], start_new_session=True)
        os._exit(0)
    while not pathlib.Path("daemon").exists():
        time.sleep(0.01)
if "refuses" in behaviour:
    print("loading", flush=True)
    sys.exit("stvsr count: train.crop: found 30; allowed: a multiple of 8")
if "breaks" in behaviour:
    raise ValueError("no clip has seven frames")
for step in range(steps):
    print("step", step + 1, "of", steps, flush=True)
    (out / "count").write_text(str(step + 1))
    if pathlib.Path("enough").exists():
        break
    time.sleep(0.05)
"""

STAGES = """\
stages:
  count:
    cmd: python count.py && echo counted
    params: [train.steps]
    outs: [out]
  after:
    cmd: echo done > after.txt
    deps: [out]
    outs: [after.txt]
"""

PARAMS = """\
# A comment that stays.
train:
  steps: 3
"""


def make_project(folder: Path, behaviour: str = "", stages: str = STAGES) -> Path:
    """A git repository with DVC in it; `behaviour` says how its stage behaves."""
    files = {"count.py": COUNT, "dvc.yaml": stages, "params.yaml": PARAMS, "behaviour": behaviour}
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    for command in (["git", "init", "-q"], [str(PROGRAMS / "dvc"), "init", "-q"]):
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder


def environment(**more: str) -> dict[str, str]:
    """The environment of a user whose shell has not activated the virtual environment."""
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != PROGRAMS
    )
    return {**os.environ, "PATH": path, "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1", **more}


def dvc(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC as a user would by hand, in an activated environment."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [PROGRAMS / "dvc", *arguments],
        cwd=project,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=False,
    )


def is_counting(project: Path) -> bool:
    """Whether the stage has begun to count."""
    return (project / "out" / "count").exists()


def assert_stands_still(*files: Path) -> None:
    """None of the files changes any more."""
    before = [file.stat().st_mtime_ns for file in files]
    time.sleep(0.5)
    assert [file.stat().st_mtime_ns for file in files] == before


def lock_is_free(project: Path) -> bool:
    """Whether the supervisor has let go of the project."""
    from stvsr.core.errors import StvsrError
    from stvsr.core.files import only_writer

    try:
        with only_writer(project / ".dvc" / "tmp" / "run"):
            return True
    except StvsrError:
        return False
