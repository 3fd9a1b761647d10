"""A Ray cluster of `ray start` nodes on this machine, with token auth."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.ports import held_port

RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE_BYTES = str(80 * 1024**2)
START_S = 600
"""How long a node may take to join on a busy machine."""


class Nodes:
    """A head and the nodes that joined it, one core each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        # Its own, else a job would join whatever cluster was started last on this machine; and
        # short, for the sockets in it.
        self._temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self._ports = ExitStack()
        self.gcs, self.dashboard, self.client = (self._port() for _ in range(3))
        self.address = f"127.0.0.1:{self.gcs}"
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PATH": f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # 15 by default: starved by any other work
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_health_check_period_ms": "500",
            # Of a node that is starved, not dead: a dead one's connection is refused at once.
            "RAY_health_check_timeout_ms": "60000",
            "RAY_health_check_failure_threshold": "4",
        }

    def start_head(self) -> None:
        self._start(
            "--head",
            f"--temp-dir={self._temporary}",
            f"--port={self.gcs}",
            f"--dashboard-port={self.dashboard}",
            f"--ray-client-server-port={self.client}",
        )
        self.wait_for(1)

    def add(self) -> None:
        """Start a node that joins; `wait_for` says when it has."""
        self._start(f"--address={self.address}")

    def lose(self) -> None:
        """SIGKILL all of the node that was added last: its raylet, its agents, its workers."""
        kill_tree(self._started.pop())

    def wait_for(self, count: int) -> None:
        """Wait until `count` nodes are alive."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._alive() == count:
                return
            ended = [node.args for node in self._started if node.poll() is not None]
            assert not ended, f"{ended} ended; see {self._folder}"
            time.sleep(0.2)
        raise AssertionError(f"not {count} nodes within {START_S} s; see {self._folder}")

    def kill_one(self, described: Callable[[str], bool]) -> None:
        """SIGKILL one of the cluster's processes, one whose command line fits."""
        next(found for found, words in self._processes() if described(words)).kill()

    def session(self) -> Path:
        """Ray's own folder of this cluster."""
        return next(path for path in self._temporary.glob("session_2*") if not path.is_symlink())

    def _processes(self) -> Iterator[tuple[psutil.Process, str]]:
        for node in self._started:
            for process in psutil.Process(node.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    yield process, " ".join(process.cmdline())

    def close(self) -> None:
        for node in self._started:
            kill_tree(node)
        self._ports.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _alive(self) -> int:
        """Nodes that are alive, asked of the dashboard: no Ray in the test's own process."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.dashboard}/nodes?view=summary&nocache=1",
            headers={"Authorization": f"Bearer {(self._folder / 'token').read_text()}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                nodes = json.load(answer)["data"]["summary"]
        except (OSError, KeyError, ValueError):
            return 0
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def _port(self) -> int:
        return self._ports.enter_context(held_port())

    def _start(self, *arguments: str) -> None:
        log = (self._folder / f"node-{len(list(self._folder.glob('node-*')))}.log").open("wb")
        node = subprocess.Popen(
            [
                RAY, "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1",
                f"--object-store-memory={OBJECT_STORE_BYTES}",
                # Every node's by default is 52365: jobs are taken by the one that was first.
                f"--dashboard-agent-listen-port={self._port()}", *arguments,
            ],
            env=os.environ | self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._started.append(node)


@contextmanager
def two_nodes(folder: Path, **environment: str) -> Iterator[Nodes]:
    """A head and one more node; what is left of them at the end is killed."""
    nodes = Nodes(folder)
    nodes.environment |= environment
    try:
        nodes.start_head()
        nodes.add()
        nodes.wait_for(2)
        yield nodes
    finally:
        nodes.close()


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and all below it, the lowest last, so that none is started again."""
    try:
        family = [psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    family += family[0].children(recursive=True)
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
