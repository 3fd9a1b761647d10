"""How fast is an exported network in ONNX Runtime, against the network in torch?

    OMP_WAIT_POLICY=passive python -m benchmarks.export --threads 1 --runs 3

Both run in one process, in turn, on the same clip. Prints a page for benchmarks/results/. The clip
is random, or frames of HR images, degraded; times are the best of the runs, and CPU seconds decide.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import Times, head, timed
from stvsr.data.shards.degrade import DegradationConfig, degrade
from stvsr.inference.export import ExportRequest, export
from stvsr.models import StvsrModel
from stvsr.open_model import open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="stvsr/small")
    parser.add_argument("--file", type=Path, help="the exported model; default: export it now")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 112), metavar=("H", "W"))
    parser.add_argument("--images", type=Path, help="folder of HR images; default: a random clip")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = open_model(options.model)[0].eval()
    session = open_session(options)
    lr_clip = real_clip(options) if options.images else random_clip(options)
    print(page(options, *measure(network, session, lr_clip, options.runs)))


def open_session(options: argparse.Namespace) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    providers = ["CPUExecutionProvider"]
    if options.file:
        return onnxruntime.InferenceSession(options.file, settings, providers=providers)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export(ExportRequest(options.model, file, "onnx", options.frames), open_model)
        return onnxruntime.InferenceSession(file, settings, providers=providers)


def random_clip(options: argparse.Namespace) -> Tensor:
    """A clip (1, T, 3, H, W)."""
    torch.manual_seed(0)
    return torch.rand(1, options.frames, 3, *options.size)


def real_clip(options: argparse.Namespace) -> Tensor:
    """The first, third, ... image, degraded, and of it the middle (1, T, 3, H, W)."""
    files = sorted(options.images.glob("*.png"))[: 2 * options.frames : 2]
    frames = []
    for file in files:
        image = np.asarray(Image.open(file).convert("RGB"))
        rows, columns = (length // 4 * 4 for length in image.shape[:2])
        lr_frame = degrade(image[:rows, :columns], DegradationConfig())
        top, left = ((a - b) // 2 for a, b in zip(lr_frame.shape, options.size, strict=False))
        frames.append(lr_frame[top : top + options.size[0], left : left + options.size[1]])
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255


def measure(
    network: StvsrModel, session: onnxruntime.InferenceSession, lr_clip: Tensor, runs: int
) -> tuple[Times, Times, float]:
    """Times in torch and in ONNX Runtime, and the largest difference of their outputs."""
    feed = {"lr_clip": lr_clip.numpy()}
    with torch.inference_mode():
        expected = network(lr_clip)
        found = torch.from_numpy(session.run(None, feed)[0])
        ours = timed(lambda: network(lr_clip), runs)
    theirs = timed(lambda: session.run(None, feed), runs)
    return ours, theirs, float((found - expected).abs().max())


def page(options: argparse.Namespace, ours: Times, theirs: Times, difference: float) -> str:
    height, width = options.size
    lines = [
        *head(
            "An exported network in ONNX Runtime on a CPU",
            "export",
            f"torch {torch.__version__}",
            f"onnxruntime {onnxruntime.__version__}",
            f"{options.threads} threads",
        ),
        "| network | clip | CPU s in torch | in ONNX Runtime | ratio | largest difference |",
        "|---|---|---|---|---|---|",
        f"| {options.model} | {options.frames}x{height}x{width} | {ours.cpu_seconds:.2f} | "
        f"{theirs.cpu_seconds:.2f} | {theirs.cpu_seconds / ours.cpu_seconds:.2f} | "
        f"{difference:.1e} |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
