"""How fast is STDAN's training step on one GPU, and how near its kernels to the machine's limits?

    python -m benchmarks.models_gpu > benchmarks/results/models_gpu.md

Compares, at 24 clips of 4x32x32, ours (float32, bf16, with and without torch.compile) and the
straightforward float32 version, which takes one clip at a time; then each kernel's bytes
and operations over its time, against a measured copy and a measured matrix product.
`--device cpu` runs the same code on a tiny scale, to see that it works.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from stvsr import ops
from stvsr.models import StdanConfig, build_model
from stvsr.models.layers.naming import published_name
from stvsr.models.stdan.state_dict import RULES
from tests.support.straightforward import StraightforwardStdan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 4, 24])
    parser.add_argument("--size", type=int, default=32, help="LR crop, pixels")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("models_gpu.py: found no CUDA device, so there is no page", file=sys.stderr)
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    command = f"python -m benchmarks.models_gpu {' '.join(sys.argv[1:])}"
    print(f"# STDAN on {name}\n\ntorch {torch.__version__}; `{command}`\n")
    print("## Training step\n\n| version | precision | compiled | clips | clips/s | peak MiB |")
    print("|---|---|---|---|---|---|")
    for clips in options.clips:
        for precision in (torch.float32, torch.bfloat16):
            for compiled in (False, True) if device.type == "cuda" else (False,):
                print_step("ours", precision, compiled, clips, options.size, device)
        print_step("straightforward", torch.float32, False, clips, options.size, device)
    kernels(device, max(options.clips), options.size)


def print_step(
    version: str,
    precision: torch.dtype,
    compiled: bool,
    clips: int,
    size: int,
    device: torch.device,
) -> None:
    model = build_model(StdanConfig()).to(device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "conv_offset" in name:
                parameter.normal_(0, 0.02)
    step = make_step(version, model, precision, compiled, clips, size)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(step)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    print(
        f"| {version} | {str(precision).removeprefix('torch.')} | {'yes' if compiled else 'no'} "
        f"| {clips} | {clips / seconds:.2f} | {peak:.0f} |",
        flush=True,
    )


def make_step(
    version: str, model: nn.Module, precision: torch.dtype, compiled: bool, clips: int, size: int
) -> Callable[[], None]:
    device = next(model.parameters()).device
    lr_clip = torch.rand(clips, 4, 3, size, size, device=device)
    hr_clip = torch.rand(clips, 7, 3, 4 * size, 4 * size, device=device)
    forward: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model
    together = clips
    if version == "straightforward":
        weights = {published_name(name, RULES): p for name, p in model.named_parameters()}
        forward, together = StraightforwardStdan(weights), 1
    optimizer = torch.optim.Adam(model.parameters(), 1e-6, fused=device.type == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        for lr, hr in zip(lr_clip.split(together), hr_clip.split(together), strict=True):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                sr = forward(lr)
            (((sr.float() - hr).square() + 1e-6).sqrt().mean() * len(lr) / clips).backward()
        optimizer.step()

    return step


def seconds_of(function: Callable[[], object]) -> float:
    """Median seconds of a call, with the device's work waited for."""
    function()
    timer = Timer("function()", globals={"function": function})
    return float(timer.blocked_autorange(min_run_time=1.0).median)


def kernels(device: torch.device, clips: int, size: int) -> None:
    """A table of each operator's time, least traffic and operations, as shares of the limits."""
    bandwidth, rate = copy_bandwidth(device), matmul_rate(device)
    print(
        f"\n## Kernels\n\nMeasured: copy {bandwidth / 1e9:.0f} GB/s, "
        f"bf16 matrix product {rate / 1e12:.1f} TFLOP/s.\n\n"
        "| kernel | precision | ms | MiB in and out | of the bandwidth | of the matrix rate |\n"
        "|---|---|---|---|---|---|"
    )
    for precision in (torch.float32, torch.bfloat16):
        for name, (inputs, call, operations) in cases(device, clips, size, precision).items():
            report(name, precision, inputs, call, operations, bandwidth, rate)


def cases(
    device: torch.device, clips: int, size: int, precision: torch.dtype
) -> dict[str, tuple[list[Tensor], Callable[..., Tensor], float]]:
    """The published sizes: six pairs of each frame, the alignment of all gaps both ways."""
    G, K, pairs, gaps = 8, 9, 6, 6

    def features(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=precision).requires_grad_()

    def points(*batch: int) -> list[Tensor]:
        offset = torch.randn(*batch, G, K, 2, size, size, device=device)
        modulation = torch.rand(*batch, G, K, size, size, device=device)
        return [offset.requires_grad_(), modulation.requires_grad_()]

    pixels = clips * size * size
    attention = [
        features(clips, 72, size, size),
        features(clips, pairs, 72, size, size),
        features(clips, pairs, 72, size, size),
        *points(clips, pairs),
    ]
    convolution = [
        features(clips * gaps, 64, size, size),
        *points(clips * gaps),
        features(64, 64, 3, 3),
        features(64),
    ]
    windows = [features(7 * pixels // 64, 64, 216), features(6, 64, 64)]
    return {
        "deformable attention": (
            attention,
            lambda *given: ops.deformable_attention(*given, 2)[0],  # type: ignore[call-arg]
            2.0 * pixels * pairs * 72 * (K + 2),
        ),
        "deformable convolution": (
            convolution,
            ops.modulated_deform_conv2d,
            2.0 * pixels * gaps * 64 * 64 * K,
        ),
        "window attention": (
            windows,
            lambda qkv, bias: ops.window_attention(qkv, bias, None),
            4.0 * 7 * pixels * 64 * 72,
        ),
    }


def report(
    name: str,
    precision: torch.dtype,
    inputs: list[Tensor],
    call: Callable[..., Tensor],
    operations: float,
    bandwidth: float,
    rate: float,
) -> None:
    out = call(*inputs)
    incoming = torch.randn_like(out)
    moved = sum(t.nbytes for t in inputs) + out.nbytes

    def backward() -> None:
        torch.autograd.grad(out, inputs, incoming, retain_graph=True)

    with torch.no_grad():
        forward_seconds = seconds_of(lambda: call(*inputs))
    for way, seconds, traffic, work in (
        ("forward", forward_seconds, moved, operations),
        ("backward", seconds_of(backward), 2 * moved, 2 * operations),
    ):
        print(
            f"| {name}, {way} | {str(precision).removeprefix('torch.')} | {seconds * 1e3:.2f} "
            f"| {traffic / 2**20:.0f} | {traffic / seconds / bandwidth:.0%} "
            f"| {work / seconds / rate:.0%} |",
            flush=True,
        )


def copy_bandwidth(device: torch.device) -> float:
    source = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source))


def matmul_rate(device: torch.device) -> float:
    side = 8192 if device.type == "cuda" else 512
    a = torch.rand(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds_of(lambda: torch.mm(a, a))


if __name__ == "__main__":
    main()
