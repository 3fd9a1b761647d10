"""Users without a home folder or a name, as in containers: a private folder of ours replaces it."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stvsr.core.errors import StvsrError
from stvsr.core.home import ensure_home

NAMELESS = 54321
"""A user id that no list of users has."""

SHOW = """
import getpass, os, pwd
from pathlib import Path
{become}
from stvsr.core.home import ensure_home
ensure_home()
print(Path.home(), getpass.getuser(), os.environ.get("PREFECT_HOME", ""))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def own_folder(temporary: Path) -> Path:
    return temporary / f"stvsr-home-{os.getuid()}"


@pytest.mark.parametrize("home", ["/no/such/folder", "/etc/passwd", "/etc/passwd/below"])
def test_a_home_that_is_no_folder_is_replaced_by_a_private_one_the_same_each_time(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    for _ in range(2):
        monkeypatch.setenv("HOME", home)
        ensure_home()
        assert Path.home() == own_folder(temporary)
        assert stat.filemode(Path.home().stat().st_mode) == "drwx------"


def test_a_home_that_is_there_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    ensure_home()
    assert Path.home() == temporary
    assert not own_folder(temporary).exists()


@pytest.mark.parametrize(
    "take",
    [
        lambda folder: folder.mkdir(mode=0o755),
        lambda folder: folder.symlink_to(tempfile.mkdtemp(dir=folder.parent)),
    ],
    ids=["open to others", "a link"],
)
def test_a_folder_of_ours_that_is_not_private_is_refused_with_the_remedy(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, take: Callable[[Path], object]
) -> None:
    monkeypatch.setenv("HOME", "/no/such/folder")
    take(own_folder(temporary))
    with pytest.raises(StvsrError, match=r"is not private to this user; set HOME to a folder"):
        ensure_home()


@pytest.mark.parametrize("home", [{}, {"HOME": "/"}, {"HOME": "/root"}], ids=str)
def test_a_user_whom_the_machine_does_not_know_gets_a_home_and_a_name(
    home: dict[str, str],
) -> None:
    place, folder, name, *_ = as_nameless(home)
    assert Path(folder).parent == Path(place)
    assert name.startswith("uid-")


def test_a_home_that_can_only_be_read_stays_and_libraries_write_elsewhere() -> None:
    place, folder, _, prefect = as_nameless({"HOME": "/usr"})
    assert folder == "/usr"
    assert Path(prefect).is_relative_to(place)


def as_nameless(home: dict[str, str]) -> list[str]:
    """The temporary folder, and what `SHOW` prints there for a user with no name."""
    become = (
        f"os.setgroups([]); os.setgid({NAMELESS}); import stvsr.core.home; os.setuid({NAMELESS})"
        if os.geteuid() == 0
        else "pwd.getpwuid = {}.__getitem__"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # which everybody may enter
        Path(place).chmod(0o777)
        path = os.pathsep.join(filter(None, sys.path))
        found = subprocess.run(
            [sys.executable, "-c", SHOW.format(become=become)],
            cwd="/",
            env={"PYTHONPATH": path, "TMPDIR": place, **home},
            capture_output=True,
            text=True,
        )
    assert not found.stderr
    return [place, *found.stdout.split()]


def test_importing_the_flows_turns_telemetry_off_first() -> None:
    show = "import os, pipelines.flows; print(os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'])"
    environment = {k: v for k, v in os.environ.items() if not k.endswith("ANALYTICS_ENABLED")}
    found = subprocess.run(
        [sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "false\n"
