"""Cost of the training pipeline beside a step's arithmetic, of a checkpoint, and of a start.

    OMP_WAIT_POLICY=passive python -m benchmarks.training --rounds 2

The same network, batch and threads twice: a bare loop over one batch in memory, and `stvsr train`
with Ray, DALI, MLflow and checkpoints. They take turns, since a machine is not equally fast for
long, and the median step of each counts. Once with a thread for each core, where reading takes its
time from the step, and once with a core left for it. Prints a page for benchmarks/results/.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.harness import head, run_child
from stvsr.losses import charbonnier
from stvsr.models import StdanConfig, build_model
from stvsr.training.checkpoint import Checkpoint, Checkpoints, optimizer_tensors
from stvsr.training.config import TrainConfig
from stvsr.training.counters import Counters
from stvsr.training.loop import make_optimizer

BATCH, CROP = 4, 32

CORES = os.cpu_count() or 1

NETWORKS = {
    "GPU, 8 over NVLink (300 GB/s)": 300e9,
    "InfiniBand 200 Gbit/s": 25e9,
    "Ethernet 25 Gbit/s": 3.1e9,
    "Ethernet 10 Gbit/s": 1.25e9,
}


@dataclass(frozen=True)
class Turn:
    """Times of one turn of the two.

    Attributes:
        bare: seconds of each step of the bare loop.
        start: seconds from the command `stvsr train` to the end of its first step.
        pipeline: seconds of each later step.
    """

    bare: list[float]
    start: float
    pipeline: list[float]


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(bare_loop(options.steps)))
        return
    turns: dict[int, list[Turn]] = {max(1, CORES - 1): [], CORES: []}
    with tempfile.TemporaryDirectory(prefix="stvsr-bench-") as folder:
        project = Path(folder)
        make_shards(project, options)
        for _ in range(options.rounds):
            for threads, taken in turns.items():
                bare = in_child(options, threads)
                taken.append(Turn(bare, *in_the_pipeline(project, options, threads)))
    print(page(options, turns, checkpoint_seconds()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25, help="of each of the two in each round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_shards(project: Path, options: argparse.Namespace) -> None:
    params = {
        "source": {"train_clips": 16, "test_clips": 2},
        "model": {"name": "stdan", "preset": "small"},
        "train": {
            "steps": options.steps,
            "batch_size": BATCH,
            "crop": CROP,
            "workers": 1,
            "log_every": 1,
            "checkpoint_every": options.steps,
            "validate_every": 0,
        },
    }
    (project / "params.yaml").write_text(json.dumps(params))
    for verb in (["source"], ["index"], ["shard", "train"], ["shard", "test"]):
        subprocess.run([sys.executable, "-m", "stvsr.cli", *verb], cwd=project, check=True)


def in_child(options: argparse.Namespace, threads: int) -> list[float]:
    """Seconds of each step of the bare loop, in a process of its own, as Ray's worker is one."""
    arguments = {"child": True, "steps": options.steps}
    return list(run_child("training", arguments, threads=threads))


def bare_loop(steps: int) -> list[float]:
    """Seconds of each step but the first."""
    torch.manual_seed(0)
    model = build_model(StdanConfig(preset="small")).train()
    optimizer = make_optimizer(model, TrainConfig())
    lr_clip = torch.rand(BATCH, 4, 3, CROP, CROP)
    hr_clip = torch.rand(BATCH, 7, 3, 4 * CROP, 4 * CROP)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        charbonnier(model(lr_clip), hr_clip, "mean").backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append(time.perf_counter())
    return differences(seen)


def differences(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def in_the_pipeline(
    project: Path, options: argparse.Namespace, threads: int
) -> tuple[float, list[float]]:
    """Seconds from the command to the end of its first step, and of each later step."""
    shutil.rmtree(project / "runs", ignore_errors=True)
    seen: list[float] = []
    begin = time.perf_counter()
    command = [sys.executable, "-m", "stvsr.cli", "train"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, cwd=project, env=environment) as process:
        while process.poll() is None and len(seen) < options.steps:
            history = next(iter(project.glob("runs/*/history.jsonl")), None)
            lines = history.read_bytes().count(b"\n") if history else 0
            seen += [time.perf_counter()] * (lines - len(seen))
            time.sleep(0.01)
    if process.returncode:
        raise SystemExit("stvsr train failed")
    return seen[0] - begin, differences(seen)


def checkpoint_seconds() -> dict[str, float]:
    """Of the published network with its optimizer and average: seconds to write, and MiB."""
    model = build_model(StdanConfig())
    optimizer = make_optimizer(model, TrainConfig())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with tempfile.TemporaryDirectory(prefix="stvsr-bench-") as folder:
        checkpoints = Checkpoints(Path(folder))
        times = []
        for step in range(1, 6):
            weights = model.state_dict()
            tensors = optimizer_tensors(model, optimizer)
            begin = time.perf_counter()
            checkpoints.save(Checkpoint(Counters(step=step), weights, tensors, weights))
            times.append(time.perf_counter() - begin)
        size = sum(file.stat().st_size for file in checkpoints.path(5).iterdir())
    return {"seconds": sorted(times)[2], "mib": size / 2**20}


def page(
    options: argparse.Namespace, turns: dict[int, list[Turn]], checkpoint: dict[str, float]
) -> str:
    start = min(turn.start for taken in turns.values() for turn in taken)
    parameters = sum(p.numel() for p in build_model(StdanConfig()).parameters())
    gradient = 4 * parameters
    lines = [
        *head(
            "Cost of the pipeline beside a step's arithmetic",
            "training",
            f"torch {torch.__version__}",
            before="OMP_WAIT_POLICY=passive ",
        ),
        f"STDAN, preset small, {BATCH} clips of 4x{CROP}x{CROP} per step, one worker, each step "
        f"logged; the two take turns, {options.rounds} rounds of {options.steps} steps each.",
        "",
        "| threads | median step of the bare loop, s | round by round | of `stvsr train`, s "
        "| round by round | against the bare loop |",
        "|---|---|---|---|---|---|",
        *(row(threads, taken) for threads, taken in turns.items()),
        "",
        f"From the command to the end of the first step: {start:.1f} s.",
        "",
        f"A checkpoint of the published network (weights, Adam's moments, average: "
        f"{checkpoint['mib']:.0f} MiB, flushed to the disk) takes {checkpoint['seconds']:.2f} s; "
        "the recipe's checkpoint_every of 1,000 steps makes that "
        f"{checkpoint['seconds']:.2f} ms a step.",
        "",
        "## Between n nodes, on paper",
        "",
        f"A step adds up one vector of {parameters:,} float32 gradients: {gradient / 1e6:.0f} MB. "
        "A ring moves 2 (n-1)/n of that through each worker, after the backward pass and not "
        "under it, so its time adds to the step. With t seconds of arithmetic per step and a "
        "network of b bytes/s, n workers with the same clips each give n t / (t + 2 (n-1)/n "
        f"{gradient / 1e6:.0f} MB / b) times the clips/s of one. No network was measured here.",
        "",
        "| link | seconds per step, n large | t for 90 % of n times the speed |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {2 * gradient / rate:.4f} | {18 * gradient / rate:.3f} |"
        for name, rate in NETWORKS.items()
    ]
    lines += [
        "",
        "The other end is the batch: the recipe has 18 clips per step, so more than 18 workers "
        "need a larger batch, which is another recipe.",
    ]
    return "\n".join(lines)


def row(threads: int, turns: list[Turn]) -> str:
    cells: list[str] = []
    both = [turn.bare for turn in turns], [turn.pipeline for turn in turns]
    for rounds in both:
        cells.append(f"{statistics.median(itertools.chain(*rounds)):.3f}")
        cells.append(" / ".join(f"{statistics.median(steps):.3f}" for steps in rounds))
    bare, pipeline = (statistics.median(itertools.chain(*rounds)) for rounds in both)
    return f"| {threads} of {CORES} cores | {' | '.join(cells)} | {pipeline / bare:.3f} |"


if __name__ == "__main__":
    main()
