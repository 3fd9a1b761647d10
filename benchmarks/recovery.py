"""How long is a run without a step after a worker, its driver or a node was killed?

    python -m benchmarks.recovery

A tiny network on two `ray start` nodes of one core each on this machine, with Ray Train's own time
limits. Prints a page for benchmarks/results/. Each number is one trial: an order of magnitude.
"""

import argparse
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from benchmarks.harness import head
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig, write_shards
from tests.support.clips import write_tiny_source
from tests.support.projects import make_project, started
from tests.support.ray_nodes import Nodes, two_nodes
from tests.support.waiting import DEADLINE_S, wait_until

TRAIN = {
    "steps": 100_000, "batch_size": 2, "crop": 8, "checkpoint_every": 20, "validate_every": 0,
    "workers": 2,
}  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory(prefix="stvsr-recovery-") as folder:
        shards = write_tiny_shards(Path(folder))
        with two_nodes(Path(folder, "nodes")) as nodes:
            times = fixed_size(make_project(Path(folder, "fixed"), shards, **TRAIN), nodes)
            elastic_project = make_project(Path(folder, "elastic"), shards, **TRAIN, min_workers=1)
            times |= elastic(elastic_project, nodes)
    print(page(times))


def write_tiny_shards(folder: Path) -> Path:
    source = write_tiny_source(folder / "source")
    build_index(source, folder / "index", IndexConfig())
    config = ShardsConfig(workers=1)
    for split in ("train", "test"):
        out = folder / "shards" / split
        write_shards(folder / "index", split, out, config, DegradationConfig())
    return folder / "shards"


class Watch:
    """A `stvsr train` under way, and when it said what."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[tuple[float, str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def first_step(self, workers: int, since: float) -> float:
        """When the first step was done by a group of `workers` that began after `since`."""
        began = self.said(f"{workers} of 2 workers train", since)
        return self.said(r"step \d+/\d+  loss", began)

    def said(self, pattern: str, since: float) -> float:
        """When a line that fits was said after `since`."""
        wait_until(pattern, lambda: bool(self._fitting(pattern, since)) or self._has_ended())
        fitting = self._fitting(pattern, since)
        if not fitting:
            raise SystemExit("".join(line for _, line in self._lines))
        return fitting[0]

    def _fitting(self, pattern: str, since: float) -> list[float]:
        return [at for at, line in self._lines[:] if at > since and re.search(pattern, line)]

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.append((time.monotonic(), line))


@contextmanager
def training(project: Path, nodes: Nodes) -> Iterator[Watch]:
    words = ("train", "--address", nodes.address)
    with started(project, *words, **nodes.environment) as process:
        yield Watch(process)


def fixed_size(project: Path, nodes: Nodes) -> dict[str, float]:
    times, start = {}, time.monotonic()
    with training(project, nodes) as watch:
        times["start of the command to its first step"] = watch.first_step(2, start) - start

        killed = time.monotonic()
        nodes.kill_one(lambda line: line.startswith("ray::RayTrainWorker"))
        times["a worker killed"] = watch.first_step(2, killed) - killed

        killed = time.monotonic()
        nodes.lose()
        noticed = watch.said("training waits", killed)
        times["a node killed, fixed size: until the command says what it waits for"] = (
            noticed - killed
        )
        nodes.add()
        joined = watch.said("room for 2 of 2 workers", noticed)
        times["a node killed, fixed size: after another has joined"] = (
            watch.first_step(2, noticed) - joined
        )
        os.killpg(watch.process.pid, signal.SIGKILL)
        watch.process.wait(DEADLINE_S)
    again = time.monotonic()
    with training(project, nodes) as watch:
        times["the driver killed, the same command given again"] = (
            watch.first_step(2, again) - again
        )
    return times


def elastic(project: Path, nodes: Nodes) -> dict[str, float]:
    times, start = {}, time.monotonic()
    with training(project, nodes) as watch:
        watch.first_step(2, start)
        killed = time.monotonic()
        nodes.lose()
        shrunk = watch.first_step(1, killed)
        times["a node killed, elastic: until one worker trains"] = shrunk - killed
        nodes.add()
        joined = watch.said("room for 2 of 2 workers", shrunk)
        times["a node killed, elastic: after another has joined, until two train"] = (
            watch.first_step(2, joined) - joined
        )
    return times


def page(times: dict[str, float]) -> str:
    lines = [
        *head("Seconds without a step after a fault", "recovery", f"ray {ray.__version__}"),
        "One trial each, two `ray start` nodes of one core on one machine, a tiny network: nearly "
        "all of it is processes that start and import. On top come at most "
        "`train.checkpoint_every` steps that are done again.",
        "",
        "| fault | seconds to the next step |",
        "|---|---|",
        *(f"| {fault} | {seconds:.0f} |" for fault, seconds in times.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
