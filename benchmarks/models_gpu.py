"""How fast are training and upscaling on one GPU, and how near its kernels to the machine's limits?

    python -m benchmarks.models_gpu > benchmarks/results/models_gpu.md

A training step of STDAN: ours (float32, bf16; its kernels started one by one, as a CUDA graph, or
by torch.compile) and the straightforward float32 version, which takes one clip at a time. The
kernels that take most of a step. Each kernel's bytes and operations over its time, against a
measured copy and a measured matrix product. Frames that the networks upscale in a second. A row
that fails says so, and the others follow; the compiled ones come last, since a compilation takes
minutes. `--device cpu` runs the same code on a tiny scale, to try it:

    python -m benchmarks.models_gpu --device cpu --clips 1 --size 8 --frames 16x16 --seconds 0.01
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from stvsr import ops
from stvsr.inference.upscale import Upscaling, upscale
from stvsr.losses import charbonnier
from stvsr.models import (
    RsttConfig,
    StdanConfig,
    StinetConfig,
    StvsrModel,
    TmnetConfig,
    ZoomingSlowMoConfig,
    build_model,
)
from stvsr.models.layers.naming import published_name
from stvsr.models.stdan.state_dict import RULES
from stvsr.training.step_graph import StepGraph
from tests.support.straightforward import StraightforwardStdan

Launch = Literal["plain", "recorded", "compiled"]
"""How a step's kernels are started: one by one, as one CUDA graph, or as torch.compile has it."""

KERNELS_SHOWN = 25

PRECISIONS = (torch.float32, torch.bfloat16)

NETWORKS = {
    "stdan small": StdanConfig(preset="small"),
    "stdan published": StdanConfig(),
    "zooming_slowmo published": ZoomingSlowMoConfig(),
    "stinet published": StinetConfig(),
    "rstt published": RsttConfig(),
    "tmnet published": TmnetConfig(),
}


def main() -> None:
    options = parse()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("models_gpu.py: found no CUDA device, so there is no page", file=sys.stderr)
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    command = f"python -m benchmarks.models_gpu {' '.join(sys.argv[1:])}"
    print(f"# STDAN on {name}\n\ntorch {torch.__version__}; `{command}`")
    for part, table in TABLES.items():
        if part in options.parts:
            table(device, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=TABLES, default=[*TABLES])
    parser.add_argument("--presets", nargs="+", default=["small", "published"])
    parser.add_argument("--clips", type=int, nargs="+", default=[4, 24])
    parser.add_argument("--size", type=int, default=32, help="LR crop, pixels")
    parser.add_argument("--frames", nargs="+", default=["180x320", "270x480"], metavar="HxW")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of a measurement")
    return parser.parse_args()


def steps(device: torch.device, options: argparse.Namespace) -> None:
    """A table of training steps, not compiled."""
    print("\n## Training step\n")
    head_of_steps()
    for preset in options.presets:
        for clips in options.clips:
            for precision in PRECISIONS:
                print_step("ours", preset, precision, "plain", clips, device, options)
    if "published" in options.presets:
        clips = min(options.clips)
        print_step("straightforward", "published", torch.float32, "plain", clips, device, options)


def recorded(device: torch.device, options: argparse.Namespace) -> None:
    """A table of the same steps, recorded as a CUDA graph and replayed (`train.cuda_graph`)."""
    print("\n## Training step, replayed\n")
    head_of_steps()
    for preset in options.presets:
        for clips in options.clips:
            for precision in PRECISIONS:
                print_step("ours", preset, precision, "recorded", clips, device, options)


def compiled(device: torch.device, options: argparse.Namespace) -> None:
    """The same, compiled, for the largest batch; the first call's seconds are the compilation's."""
    print("\n## Training step, compiled\n")
    head_of_steps()
    for preset in options.presets:
        for precision in reversed(PRECISIONS):
            print_step("ours", preset, precision, "compiled", max(options.clips), device, options)


def profile(device: torch.device, options: argparse.Namespace) -> None:
    """Tables of the kernels that take most of a step's time on the device."""
    clips, cuda = max(options.clips), device.type == "cuda"
    for preset in options.presets:
        print(f"\n## Kernels of a training step, {preset}, {clips} clips, float32\n")
        print("| kernel | calls | ms | share |\n|---|---|---|---|")
        model = build_model(StdanConfig.model_validate({"preset": preset})).to(device)
        spread_offsets(model)
        step = make_step("ours", model, torch.float32, "plain", clips, options.size)
        step()
        with torch.profiler.profile() as trace:
            step()
            if cuda:
                torch.cuda.synchronize()
        rows = [
            (event.self_device_time_total if cuda else event.self_cpu_time_total, event)
            for event in trace.key_averages()
            if not cuda or event.device_type.name == "CUDA"
        ]
        total = sum(time for time, _ in rows)
        for spent, event in sorted(rows, key=lambda row: -row[0])[:KERNELS_SHOWN]:
            name = event.key.replace("|", " ")[:90]
            print(f"| {name} | {event.count} | {spent / 1e3:.2f} | {spent / total:.0%} |")
        print(f"| all | {sum(e.count for _, e in rows)} | {total / 1e3:.2f} | |", flush=True)


def head_of_steps() -> None:
    print(
        "| version | preset | precision | launch | clips | first call, s | ms | clips/s "
        "| peak MiB |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )


def print_step(
    version: str,
    preset: str,
    precision: torch.dtype,
    launch: Launch,
    clips: int,
    device: torch.device,
    options: argparse.Namespace,
) -> None:
    def measure() -> str:
        model = build_model(StdanConfig.model_validate({"preset": preset})).to(device)
        spread_offsets(model)
        step = make_step(version, model, precision, launch, clips, options.size)
        first, seconds, peak = first_and_median(step, device, options.seconds)
        return f"{first:.1f} | {seconds * 1e3:.1f} | {clips / seconds:.1f} | {peak:.0f}"

    print_row(f"{version} | {preset} | {name_of(precision)} | {launch} | {clips}", measure)


def spread_offsets(model: nn.Module) -> None:
    """Give layers that begin at zero offsets of a trained network's kind."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "conv_offset" in name:
                parameter.normal_(0, 0.02)


def upscaling(device: torch.device, options: argparse.Namespace) -> None:
    """A table of the frames that `stvsr upscale` makes per second, without decoding."""
    print(
        "\n## Upscaling, four times the size and twice the rate\n\n"
        "10 frames in windows of 6 that share 2, tiles of 256 pixels, as by default; frames are on "
        "the GPU.\n\n| network | precision | LR frame | ms per output frame | output frames/s "
        "| peak MiB |\n|---|---|---|---|---|---|"
    )
    for name, config in NETWORKS.items():
        model = build_model(config).to(device)
        spread_offsets(model)
        for frame in options.frames:
            height, width = map(int, frame.split("x"))
            for precision in PRECISIONS:
                print_upscaling(name, model, precision, (height, width), device, options)


def print_upscaling(
    name: str,
    model: StvsrModel,
    precision: torch.dtype,
    size: tuple[int, int],
    device: torch.device,
    options: argparse.Namespace,
) -> None:
    def measure() -> str:
        count = 10 if device.type == "cuda" else 2
        frames = [torch.rand(3, *size, device=device) for _ in range(count)]

        def run() -> None:
            with autocast(device, precision):
                for _ in upscale(frames, model, Upscaling()):
                    pass

        _, seconds, peak = first_and_median(run, device, options.seconds)
        made = 2 * count - 1
        return f"{seconds / made * 1e3:.2f} | {made / seconds:.1f} | {peak:.0f}"

    print_row(f"{name} | {name_of(precision)} | {size[1]}x{size[0]}", measure)


def print_row(start: str, measure: Callable[[], str]) -> None:
    """A row of a table; one that fails names its error, since the next may succeed."""
    try:
        print(f"| {start} | {measure()} |", flush=True)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        print(f"| {start} | {type(error).__name__}: {reason} |", flush=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def name_of(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision != torch.float32)


def first_and_median(
    function: Callable[[], object], device: torch.device, least: float
) -> tuple[float, float, float]:
    """Seconds of the first call, median seconds of later ones, and peak MiB (on a GPU)."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    function()
    if cuda:
        torch.cuda.synchronize()
    first = time.perf_counter() - start
    seconds = seconds_of(function, least, is_warm=True)
    return first, seconds, torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0


def make_step(
    version: str, model: nn.Module, precision: torch.dtype, launch: Launch, clips: int, size: int
) -> Callable[[], None]:
    device = next(model.parameters()).device
    lr_clip = torch.rand(clips, 4, 3, size, size, device=device)
    hr_clip = torch.rand(clips, 7, 3, 4 * size, 4 * size, device=device)
    forward: Callable[[Tensor], Tensor] = torch.compile(model) if launch == "compiled" else model
    together = clips
    if version == "straightforward":
        weights = {published_name(name, RULES): p for name, p in model.named_parameters()}
        forward, together = StraightforwardStdan(weights), 1
    optimizer = torch.optim.Adam(model.parameters(), 1e-6, fused=device.type == "cuda")

    def gradients(lr_clip: Tensor, hr_clip: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = torch.zeros((), device=device)
        for lr, hr in zip(lr_clip.split(together), hr_clip.split(together), strict=True):
            with autocast(device, precision):
                sr = forward(lr)
            part = charbonnier(sr.float(), hr) * len(lr) / clips
            part.backward()
            loss += part.detach()
        return loss

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    compute = gradients
    if launch == "recorded":
        compute = StepGraph(gradients, lr_clip, hr_clip).replay

    def step() -> None:
        compute(lr_clip, hr_clip)
        optimizer.step()

    return step


def seconds_of(
    function: Callable[[], object], least: float = 0.5, *, is_warm: bool = False
) -> float:
    """Median seconds of a call, its device's work included, over `least` seconds of calls."""
    if not is_warm:
        function()
    timer = Timer("function()", globals={"function": function})
    return float(timer.blocked_autorange(min_run_time=least).median)


def kernels(device: torch.device, options: argparse.Namespace) -> None:
    """A table of each operator's time, least traffic and operations, as shares of the limits."""
    clips, size = max(options.clips), options.size
    bandwidth, rate = copy_bandwidth(device), matmul_rate(device)
    print(
        f"\n## Kernels\n\nMeasured: copy {bandwidth / 1e9:.0f} GB/s, "
        f"bf16 matrix product {rate / 1e12:.1f} TFLOP/s.\n\n"
        "| kernel | precision | ms | MiB in and out | of the bandwidth | of the matrix rate |\n"
        "|---|---|---|---|---|---|"
    )
    for precision in PRECISIONS:
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

    def forward() -> None:
        with torch.no_grad():
            call(*inputs)

    def backward() -> None:
        torch.autograd.grad(out, inputs, incoming, retain_graph=True)

    for way, function, traffic, work in (
        ("forward", forward, moved, operations),
        ("backward", backward, 2 * moved, 2 * operations),
    ):

        def measure(
            function: Callable[[], None] = function, traffic: int = traffic, work: float = work
        ) -> str:
            seconds = seconds_of(function, 0.3)
            return (
                f"{seconds * 1e3:.2f} | {traffic / 2**20:.0f} | "
                f"{traffic / seconds / bandwidth:.0%} | {work / seconds / rate:.0%}"
            )

        print_row(f"{name}, {way} | {name_of(precision)}", measure)


def copy_bandwidth(device: torch.device) -> float:
    source = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source))


def matmul_rate(device: torch.device) -> float:
    side = 8192 if device.type == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds_of(lambda: torch.mm(a, a))


TABLES = {
    "steps": steps,
    "recorded": recorded,
    "profile": profile,
    "kernels": kernels,
    "upscaling": upscaling,
    "compiled": compiled,
}


if __name__ == "__main__":
    main()
