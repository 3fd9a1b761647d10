"""How fast is an exported network in ONNX Runtime, against the network in torch?

    OMP_WAIT_POLICY=passive python -m benchmarks.export --threads 1 --runs 3

Both run in one process, in turn, on the same clip. Prints a page for benchmarks/results/. Weights
are random, offsets not zero; times are the best of the runs, and CPU seconds decide.
"""

import argparse
import tempfile
from pathlib import Path

import onnxruntime
import torch

from benchmarks.harness import Times, head, timed
from stvsr.inference.export import ExportRequest, export
from stvsr.models import ModelConfig, StdanConfig, StvsrModel, ZoomingSlowMoConfig, build_model

NETWORKS: dict[str, ModelConfig] = {
    "STDAN, small": StdanConfig(preset="small"),
    "Zooming Slow-Mo, small": ZoomingSlowMoConfig(preset="small"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 112), metavar=("H", "W"))
    parser.add_argument("--only", default="", help="part of a network's name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = {
        name: measure(make_network(config), options)
        for name, config in NETWORKS.items()
        if options.only in name
    }
    print(page(options, rows))


def make_network(config: ModelConfig) -> StvsrModel:
    torch.manual_seed(0)
    network = build_model(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "conv_offset" in name:
                parameter.normal_(0, 0.02)
    return network


def measure(network: StvsrModel, options: argparse.Namespace) -> tuple[Times, Times, float]:
    """Times in torch and in ONNX Runtime, and the largest difference of their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export(ExportRequest("network", file, "onnx", options.frames), lambda _: (network, None))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    lr_clip = torch.rand(1, options.frames, 3, *options.size)
    feed = {"lr_clip": lr_clip.numpy()}
    with torch.inference_mode():
        expected = network(lr_clip)
        found = torch.from_numpy(session.run(None, feed)[0])
        ours = timed(lambda: network(lr_clip), options.runs)
    theirs = timed(lambda: session.run(None, feed), options.runs)
    return ours, theirs, float((found - expected).abs().max())


def page(options: argparse.Namespace, rows: dict[str, tuple[Times, Times, float]]) -> str:
    height, width = options.size
    lines = [
        *head(
            "Exported networks in ONNX Runtime on a CPU",
            "export",
            f"torch {torch.__version__}",
            f"onnxruntime {onnxruntime.__version__}",
            f"{options.threads} threads",
            f"clips of {options.frames}x{height}x{width}",
        ),
        "| network | CPU seconds in ONNX Runtime over torch | largest difference |",
        "|---|---|---|",
    ]
    for name, (ours, theirs, difference) in rows.items():
        lines.append(f"| {name} | {theirs.cpu_seconds / ours.cpu_seconds:.2f} | {difference:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
