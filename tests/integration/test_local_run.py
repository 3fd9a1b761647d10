"""A run on this machine, as another user of the machine and others of its network see it."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from stvsr.launch.local import FOLDER
from tests.support.projects import make_project, newest_step, started
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.slow

PASSWORD = "open-sesame"

NOBODY = 65534
"""User and group of nobody, who owns no files."""


@dataclass
class Seen:
    """What could be seen while a run of two workers trained."""

    listening: dict[str, set[str]]
    """Addresses at which its processes listen, by their command lines."""
    token: str
    """What Ray's processes show each other."""
    folder_mode: str
    """As `ls` has it."""
    token_mode: str
    readable: list[Path]
    """Files of the private folder that another user can read."""
    with_secret: list[Path]
    """Files of the project with the token or the password in them."""
    is_left: bool
    """True if the private folder is still there after the run."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, tiny_sets: Path) -> Seen:
    project = make_project(
        tmp_path_factory.mktemp("local") / "project", tiny_sets, steps=100_000, workers=2
    )
    open_settings = {
        "RAY_AUTH_MODE": "disabled",
        "GLOO_SOCKET_IFNAME": "no-such",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    with started(project, "train", **open_settings) as command:
        wait_until("a step", lambda: newest_step(project) >= 1 or command.poll() is not None)
        assert command.poll() is None, command.stdout and command.stdout.read()
        processes = list(family(command.pid))
        folder = private_folder(processes)
        token = (folder / "token").read_text()
        found = Seen(
            listening={" ".join(p.cmdline()): listening(p) for p in processes},
            token=token,
            folder_mode=mode(folder),
            token_mode=mode(folder / "token"),
            readable=[path for path in folder.rglob("*") if is_readable_to_others(path)],
            with_secret=[path for path in files(project) if has_secret(path, token)],
            is_left=False,
        )
        os.killpg(command.pid, signal.SIGINT)
        command.wait(DEADLINE_S)
        found.is_left = folder.exists()
        return found


def family(pid: int) -> Iterator[psutil.Process]:
    """A process and all below it."""
    first = psutil.Process(pid)
    yield first
    yield from first.children(recursive=True)


def private_folder(processes: list[psutil.Process]) -> Path:
    (folder,) = {p.environ()[FOLDER] for p in processes if FOLDER in p.environ()}
    return Path(folder)


def listening(process: psutil.Process) -> set[str]:
    with suppress(psutil.NoSuchProcess):
        found = process.net_connections("inet")
        return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN}
    return set()


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def is_readable_to_others(path: Path) -> bool:
    """Whether another user can read a file: tried where this one may become another."""
    if os.geteuid() == 0:
        tried = ["test", "-r", str(path)]
        return not subprocess.run(tried, user=NOBODY, group=NOBODY, extra_groups=[]).returncode
    way = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    return way and bool(path.stat().st_mode & stat.S_IROTH)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def has_secret(path: Path, token: str) -> bool:
    content = path.read_bytes()
    return token.encode() in content or PASSWORD.encode() in content


def test_every_process_of_a_local_run_listens_at_loopback_addresses_alone(seen: Seen) -> None:
    addresses = set().union(*seen.listening.values())
    assert addresses
    outside = {
        words: found
        for words, found in seen.listening.items()
        if not all(is_loopback(address) for address in found)
    }
    assert outside == {}
    workers = [found for words, found in seen.listening.items() if "RayTrainWorker" in words]
    assert workers
    assert all(workers)


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def test_another_user_reads_neither_the_token_nor_rays_logs(seen: Seen) -> None:
    assert seen.folder_mode == "drwx------"
    assert seen.token_mode == "-rw-------"
    assert seen.readable == []
    assert is_readable_to_others(Path("/etc/passwd"))  # so it is the folder that keeps them out


def test_no_secret_is_in_a_command_line_or_in_a_file_of_the_project(seen: Seen) -> None:
    assert len(seen.token) == 64
    words = "\n".join(seen.listening)
    assert seen.token not in words
    assert PASSWORD not in words
    assert seen.with_secret == []


def test_a_local_run_leaves_nothing_of_ray_behind(seen: Seen) -> None:
    assert not seen.is_left
