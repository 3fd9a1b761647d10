"""How fast and how small is our STDAN on a CPU, against the straightforward pair-by-pair version?

    OMP_WAIT_POLICY=passive python -m benchmarks.models_cpu --threads 2 --runs 3 --large

Each measurement runs in a process of its own, whose peak memory is read when it ends. Prints a page
for benchmarks/results/. Weights are random, offsets not zero; times are the best of the runs.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import head, peak_mib, resident_mib, run_child, timed
from stvsr.models import StdanConfig, build_model
from stvsr.models.layers.naming import published_name
from stvsr.models.operations import count_operations
from stvsr.models.stdan.state_dict import RULES
from tests.support.straightforward import StraightforwardStdan

CASES = {
    "train, 1 clip of 4x32x32": (1, 4, 32, 32, True),
    "train, 2 clips of 4x32x32": (2, 4, 32, 32, True),
    "train, 4 clips of 4x32x32": (4, 4, 32, 32, True),
    "inference, 4x64x112": (1, 4, 64, 112, False),
}
LARGE = {"inference, 4x180x320": (1, 4, 180, 320, False)}

STRAIGHTFORWARD_CLIP_KIB = 8 << 20
"""Memory to spare for each clip of a straightforward training step, else it goes clip by clip."""

VARIANTS = {
    "ours": "ours",
    "straightforward": "straightforward, pair by pair",
    "grid_sample": "the same with torch's grid_sample",
}


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(measure(options.child, options.case, options.runs)))
        return
    cases = [case for case in CASES | (LARGE if options.large else {}) if options.only in case]
    rate, floors = matmul_rate(options.threads), {}
    results: dict[tuple[str, str], dict[str, float]] = {}
    for case in cases:
        floors[case] = operations(case) / rate
        for variant in VARIANTS:
            results[case, variant] = in_child(variant, case, options)
            print(f"{case}, {variant}: {results[case, variant]}", file=sys.stderr)
    print(page(options, rate, floors, results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="also 4x180x320, for minutes")
    parser.add_argument("--only", default="", help="part of a case's name, such as `inference`")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_child(variant: str, case: str, options: argparse.Namespace) -> dict[str, float]:
    runs = 1 if case in LARGE else options.runs
    arguments = {"child": variant, "case": case, "runs": runs}
    return dict(run_child("models_cpu", arguments, threads=options.threads))


def measure(variant: str, case: str, runs: int) -> dict[str, float]:
    step = make_step(variant, case)
    idle = resident_mib()
    taken = timed(step, runs + (runs > 1))
    return {
        "seconds": taken.seconds,
        "cpu_seconds": taken.cpu_seconds,
        "peak_mib": peak_mib(),
        "idle_mib": idle,
    }


def make_step(variant: str, case: str) -> Callable[[], None]:
    B, N, H, W, trains = (CASES | LARGE)[case]
    torch.manual_seed(0)
    model = build_model(StdanConfig()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "conv_offset" in name:
                parameter.normal_(0, 0.02)
    lr_clip, hr_clip = torch.rand(B, N, 3, H, W), torch.rand(B, 2 * N - 1, 3, 4 * H, 4 * W)
    forward: Callable[[Tensor], Tensor] = model
    if variant != "ours":
        weights = {published_name(name, RULES): p for name, p in model.named_parameters()}
        straightforward = StraightforwardStdan(weights)
        if variant == "grid_sample":
            straightforward.sample = sample_by_grid
        below, right = -H % 8, -W % 8
        padded = F.pad(lr_clip.flatten(0, 1), (0, right, 0, below), mode="replicate")
        lr_clip = padded.unflatten(0, (B, N))
        hr_clip = F.pad(hr_clip, (0, 4 * right, 0, 4 * below))
        forward = straightforward

    together = B if variant == "ours" or fits_at_once(B) else 1

    def train() -> None:
        model.zero_grad()
        for lr, hr in zip(lr_clip.split(together), hr_clip.split(together), strict=True):
            (((forward(lr) - hr).square() + 1e-6).sqrt().mean() * together / B).backward()

    def infer() -> None:
        with torch.inference_mode():
            forward(lr_clip)

    return train if trains else infer


def fits_at_once(clips: int) -> bool:
    """True if this machine has the memory for the straightforward version's graphs of all clips."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return clips == 1 or available > clips * STRAIGHTFORWARD_CLIP_KIB


def sample_by_grid(x: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """`straightforward.sample` with torch's own bilinear sampler."""
    _, C, H, W = x.shape
    _, G, K = modulation.shape[:3]
    side = round(K**0.5)
    steps = torch.arange(side, dtype=x.dtype) - side // 2
    dy, dx = steps.repeat_interleave(side), steps.repeat(side)
    y = offset[0, :, :, 0] + dy[:, None, None] + torch.arange(H, dtype=x.dtype)[:, None]
    x_position = offset[0, :, :, 1] + dx[:, None, None] + torch.arange(W, dtype=x.dtype)
    grid = torch.stack([(2 * x_position + 1) / W - 1, (2 * y + 1) / H - 1], -1)
    groups = x.reshape(G, C // G, H, W)
    sampled = F.grid_sample(groups, grid.flatten(1, 2), align_corners=False)
    return (sampled.unflatten(2, (K, H)) * modulation[0][:, None]).reshape(1, C, K, H, W)


def matmul_rate(threads: int) -> float:
    """Floating-point operations per second of a large float32 matrix product: the best of 10."""
    torch.set_num_threads(threads)
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def operations(case: str) -> float:
    """Operations that the function needs, as we order it; a training step: three times those."""
    B, N, H, W, trains = (CASES | LARGE)[case]
    model = build_model(StdanConfig()).eval()
    return B * count_operations(model, (N, H, W)) * (3 if trains else 1)


def maps_mib(case: str) -> float:
    """MiB of four maps of 64 channels for each of a case's 2N-1 frames."""
    B, N, H, W, _ = (CASES | LARGE)[case]
    return 4 * 4 * 64 * B * (2 * N - 1) * H * W / 2**20


def page(
    options: argparse.Namespace,
    rate: float,
    floors: dict[str, float],
    results: dict[tuple[str, str], dict[str, float]],
) -> str:
    lines = [
        *head(
            "STDAN on a CPU: ours against the straightforward version",
            "models_cpu",
            f"{options.threads} threads",
            f"torch {torch.__version__}",
        ),
        f"Floor: counted convolutions and matrix products at the measured "
        f"{rate / 1e9:.0f} GFLOP/s of a large float32 matrix product.",
        "",
        "| case | version | seconds | CPU seconds | peak MiB | of it idle | faster by | memory "
        "| floor, s | floor, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (case, variant), result in results.items():
        ours = results[case, "ours"]
        lines.append(
            f"| {case} | {VARIANTS[variant]} | {result['seconds']:.2f} "
            f"| {result['cpu_seconds']:.2f} | {result['peak_mib']:.0f} "
            f"| {result['idle_mib']:.0f} | {result['seconds'] / ours['seconds']:.2f}x "
            f"| {ours['peak_mib'] / result['peak_mib']:.2f} | {floors[case]:.2f} "
            f"| {ours['idle_mib'] + maps_mib(case):.0f} |"
        )
    lines += [
        "",
        "Idle is the process with torch and the weights before its first step. The memory's floor "
        "is that and the maps (C = 64 channels, float32) that aggregation cannot do without: "
        "the frames, their keys and values and the result, of all 2N-1 frames.",
        "",
        "`faster by` and `memory` are ours against the row's version: its seconds over ours, and "
        "our peak over its peak. Where the machine has no room for the straightforward version's "
        f"{STRAIGHTFORWARD_CLIP_KIB >> 20} GiB per clip, it takes the clips of a training step one "
        "after the other; its peak is then that of one clip.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
