"""Shared by all benchmarks: measurements in child processes, and the head of a page."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Times:
    """Smallest wall and CPU seconds over some runs of one piece of work."""

    seconds: float
    cpu_seconds: float


def run_child(name: str, arguments: Mapping[str, Any], *, threads: int = 1) -> Any:
    """Run `python -m benchmarks.NAME` with options and return the JSON that it prints.

    A process of its own has no memory, threads or caches of another measurement.

    Args:
        name: of the benchmark.
        arguments: value by option without its dashes; True: an option without a value.
        threads: of OpenMP and OpenBLAS.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    for option, value in arguments.items():
        command += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, {dict(arguments)}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    print(f"{dict(arguments)}: {result}", file=sys.stderr)
    return result


def timed(work: Callable[[], object], runs: int) -> Times:
    """Time `work` `runs` times, one after the other."""
    wall, cpu = [], []
    for _ in range(runs):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return Times(min(wall), min(cpu))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Resident memory of this process now; its peak also remembers the process that forked it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def head(title: str, name: str, *facts: str, before: str = "") -> list[str]:
    """First lines of a page: title, day, machine, facts, load, and the command that repeats it.

    Args:
        title: of the page.
        name: of the benchmark.
        facts: such as library versions.
        before: environment of the command, with a blank after it.
    """
    cores = f"{len(os.sched_getaffinity(0))} cores"
    return [
        f"# {title}",
        "",
        f"{date.today():%Y-%m-%d}; {'; '.join([f'{processor()}, {cores}', *facts])}; "
        f"load when the run ended: {os.getloadavg()[0]:.1f}.",
        f"`{before}python {' '.join(['-m', f'benchmarks.{name}', *sys.argv[1:]])}`",
        "",
    ]
