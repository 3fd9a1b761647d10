"""`stvsr export`: the files run without this package, at other sizes, and give the same."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from stvsr.cli import main
from stvsr.core.errors import InputError, StvsrError
from stvsr.inference import plain_operators
from stvsr.inference.export import NOT_EXPORTED, ExportRequest, export
from stvsr.inference.tracing import Padded, all_at_once
from stvsr.models import (
    MODELS,
    BicubicLinear,
    ModelConfig,
    ModelEntry,
    StvsrModel,
    TmnetConfig,
    ZoomingSlowMoConfig,
    build_model,
    upscale_bicubic_linear,
)
from stvsr.models.base import MIDDLE
from stvsr.models.layers.pcd import conv3x3
from stvsr.models.stdan.stdfa import STDFA, DeformedPoints
from stvsr.ops import reference, window_attention
from stvsr.ops.registration import Operator
from tests.support.models import TINY_CARD, TINY_STDAN

FRAMES = 2
"""Of the exported network's clips; each more makes the graph, and the time, longer."""

RUN_ONNX = """
import sys
sys.modules["torch"] = sys.modules["stvsr"] = None  # importing them fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.get_modelmeta().custom_metadata_map["stvsr"])
run = lambda lr_clip: session.run(None, {"lr_clip": lr_clip})[0]
"""

RUN_TORCH = """
import sys
sys.modules["stvsr"] = None
import json, numpy as np, torch
facts = {"stvsr.json": ""}
network = torch.export.load(sys.argv[1], extra_files=facts).module()
print(json.loads(facts["stvsr.json"])["stvsr"])
run = lambda lr_clip: network(torch.from_numpy(lr_clip)).detach().numpy()
"""

RUN_ALL = """
for name in sys.argv[2:]:
    np.save(name + ".out.npy", run(np.load(name)))
"""


class Aggregating(StvsrModel):
    """STDAN's aggregation and little else: what is displaced, chosen and sampled."""

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = conv3x3(3, 8)
        self.aggregation = STDFA(8, 8, DeformedPoints(8, groups=2, k=3), T_top=2)
        self.conv_last = conv3x3(8, 3)

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        frames = self.conv_first(lr_clip.flatten(0, 1)).unflatten(0, lr_clip.shape[:2])
        frames = self.conv_last(self.aggregation(frames).flatten(0, 1))
        return upscale_bicubic_linear(frames.unflatten(0, lr_clip.shape[:2]))


def displaced(network: StvsrModel) -> StvsrModel:
    """A network, ready to run, whose points are displaced by pixels, and whose output shows it."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(scope="module")
def aggregating() -> StvsrModel:
    return displaced(Aggregating())


@pytest.fixture(scope="module")
def onnx_file(aggregating: StvsrModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network's file, which is checked as any other while it is made."""
    file = tmp_path_factory.mktemp("onnx") / "aggregating.onnx"
    said = export(ExportRequest("m", file, "onnx", FRAMES), lambda _: (aggregating, TINY_CARD))
    assert "any batch, height, width; frames = 2 only" in said
    return file


def clip_files(file: Path, clips: list[Tensor]) -> list[Path]:
    return [file.with_name(f"clip{number}.npy") for number in range(len(clips))]


def run_python(code: str, file: Path, clips: list[Tensor]) -> subprocess.CompletedProcess[str]:
    """Run an exported file on clips in a process without this package."""
    names = clip_files(file, clips)
    for name, clip in zip(names, clips, strict=True):
        np.save(name, clip.numpy())
    return subprocess.run(
        [sys.executable, "-c", code + RUN_ALL, file, *names],
        cwd=file.parent,
        capture_output=True,
        text=True,
    )


def run_elsewhere(code: str, file: Path, clips: list[Tensor]) -> tuple[str, list[Tensor]]:
    """What a process without this package prints and makes of clips."""
    done = run_python(code, file, clips)
    assert done.returncode == 0, done.stderr
    names = clip_files(file, clips)
    return done.stdout, [torch.from_numpy(np.load(f"{name}.out.npy")) for name in names]


def test_a_file_runs_elsewhere_at_other_sizes_and_says_where_it_is_from(
    aggregating: StvsrModel, onnx_file: Path
) -> None:
    clips = [torch.rand(1, 2, 3, 29, 41), torch.rand(2, 2, 3, 32, 16), torch.rand(1, 2, 3, 1, 3)]
    said, results = run_elsewhere(RUN_ONNX, onnx_file, clips)
    for clip, result in zip(clips, results, strict=True):
        torch.testing.assert_close(result, aggregating(clip).detach(), rtol=0, atol=1e-4)
    assert TINY_CARD.data_hash[:12] in said
    assert str(Path(__file__).parents[2]).encode() not in onnx_file.read_bytes()  # no machine path


def test_a_file_refuses_other_numbers_of_frames(onnx_file: Path) -> None:
    done = run_python(RUN_ONNX, onnx_file, [torch.rand(1, 3, 3, 16, 16)])
    assert done.returncode != 0
    assert "Got: 3 Expected: 2" in done.stderr


def test_a_torch_file_takes_any_number_of_frames_and_replaces_its_own(tmp_path: Path) -> None:
    output = tmp_path / "baseline.pt2"
    for _ in range(2):
        assert main(["export", "bicubic_linear", str(output), "--format", "torch-export"]) == 0
    clip = torch.rand(1, 5, 3, 7, 9)
    _, (result,) = run_elsewhere(RUN_TORCH, output, [clip])
    torch.testing.assert_close(result, BicubicLinear()(clip), rtol=0, atol=1e-5)


@dataclass(frozen=True)
class Choice:
    """Which points one frame keeps: in the file and in the network, (pairs, T_top, H, W) each."""

    in_file: Tensor
    in_network: Tensor
    margin: Tensor
    """How much more relevant the last kept point is than the best other, (pairs, H, W)."""

    def differs(self) -> Tensor:
        """Where other points are kept, and are not exactly as relevant: (pairs, H, W)."""
        other = self.in_file.sort(1).values != self.in_network.sort(1).values
        return other.any(1) & (self.margin > 0)


def open_with_choices(file: Path) -> onnxruntime.InferenceSession:
    """An exported file whose relevances and choices are outputs too, aggregation by aggregation."""
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == "TopK":
            for name in (node.input[0], node.output[1]):
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def run_both(
    session: onnxruntime.InferenceSession, network: StvsrModel, clip: Tensor
) -> tuple[float, list[Choice]]:
    """The largest difference of a file and its network, and each frame's choices in both."""
    chosen: list[Tensor] = []
    call = Operator.__call__

    def spy(self: Operator, *inputs: Any) -> Any:
        result = call(self, *inputs)
        if self.name == "stvsr::deformable_attention":
            chosen.append(result[2].flatten(0, 1).long())
        return result

    with patch.object(Operator, "__call__", spy), torch.inference_mode():
        expected = network(clip)
    found, *others = map(torch.from_numpy, session.run(None, {"lr_clip": clip.numpy()}))
    relevances, kept = others[::2], others[1::2]
    choices = []
    for ours, theirs, relevance in zip(chosen, kept, relevances, strict=True):
        ranked = relevance.sort(1, descending=True).values
        choices.append(Choice(theirs, ours, ranked[:, 1] - ranked[:, 2]))
    return float((found - expected).abs().max()), choices


def test_a_file_keeps_the_network_s_points_unless_two_nearly_tie(
    aggregating: StvsrModel, onnx_file: Path
) -> None:
    session = open_with_choices(onnx_file)
    pixels, differing = 0, 0
    for seed in range(8):
        clip = torch.rand(1, 2, 3, 61, 90, generator=torch.Generator().manual_seed(seed))
        difference, choices = run_both(session, aggregating, clip)
        for choice in choices:
            assert not (choice.differs() & (choice.margin > 1e-6)).any()
            pixels += choice.margin.numel()
            differing += int(choice.differs().sum())
        assert difference < 1e-5 or any(choice.differs().any() for choice in choices)
    assert differing < 1e-4 * pixels


WHOLE = (
    TINY_STDAN.model_copy(update={"blocks_per_group": 2}),  # the second attends in shifted windows
    ZoomingSlowMoConfig(preset="small", channels=8, front_blocks=1, back_blocks=1),
    TmnetConfig(preset="small", channels=8, front_blocks=1, back_blocks=1),
)


@pytest.mark.parametrize("config", WHOLE, ids=lambda config: config.name)
def test_a_whole_network_gives_the_same_all_at_once_by_plain_operators(
    config: ModelConfig,
) -> None:
    network = displaced(build_model(config))
    clip = torch.rand(2, 3, 3, 13, 21)
    with all_at_once(plain_operators.FOR_TORCH):
        found = Padded(network)(clip)
    torch.testing.assert_close(found, network(clip), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "entry", [entry for entry in MODELS if entry.name in NOT_EXPORTED], ids=lambda entry: entry.name
)
def test_a_model_without_one_graph_for_all_sizes_is_refused_by_name(
    entry: ModelEntry, tmp_path: Path
) -> None:
    card = TINY_CARD.model_copy(update={"model": entry.published})
    request = ExportRequest("folder", tmp_path / "a.onnx", "onnx")
    with pytest.raises(
        InputError, match=rf"^folder: found a network of {entry.name}, .*; export another"
    ):
        export(request, lambda _: (BicubicLinear(), card))


class OtherThanTraced(BicubicLinear):
    """What a file would give differs from what this does."""

    def forward(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        return super().forward(lr_clip, times) + 0.01


def test_a_file_that_differs_from_its_network_is_not_written(tmp_path: Path) -> None:
    request = ExportRequest("other", tmp_path / "other.pt2", "torch-export")
    with pytest.raises(StvsrError, match=r"differs from the network by 1\.0e-02 .*allowed: 1e-04"):
        export(request, lambda _: (OtherThanTraced(), None))
    assert not request.output.exists()


class OneSizeOnly(BicubicLinear):
    """Looks at a value while it is traced."""

    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        return super().super_resolve(lr_clip, times) if lr_clip.sum() > 0 else lr_clip


def test_a_network_that_cannot_be_traced_is_refused_by_name(tmp_path: Path) -> None:
    request = ExportRequest("a-network", tmp_path / "other.pt2", "torch-export")
    with pytest.raises(StvsrError, match=r"^a-network: torch\.export cannot trace it"):
        export(request, lambda _: (OneSizeOnly(), None))
    assert not request.output.exists()


REFUSED = {
    "an unknown format": (("out.pt2", "--format", "coreml"), "allowed: torch-export, onnx"),
    "another suffix": (("out.pt2", "--format", "onnx"), "expected a name that ends in .onnx"),
    "no folder": (("there/out.onnx", "--format", "onnx"), "no folder there"),
    "somebody's file": (("theirs.onnx", "--format", "onnx"), "did not write"),
    "somebody's zip": (("theirs.pt2", "--format", "torch-export"), "did not write"),
    "a folder": (("folder.onnx", "--format", "onnx"), "did not write"),
    "one frame": (("out.onnx", "--format", "onnx", "--frames", "1"), "at least 2"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused_in_one_line(
    arguments: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.onnx").write_bytes(b"not ours")
    Path("theirs.pt2").write_bytes(b"not ours")
    Path("folder.onnx").mkdir()
    assert main(["export", "bicubic_linear", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stvsr export: ")
    assert reason in line
    assert Path("theirs.onnx").read_bytes() == Path("theirs.pt2").read_bytes() == b"not ours"


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert main(["export", nowhere, str(tmp_path / "a.onnx"), "--format", "onnx"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert nowhere in line
    assert not (tmp_path / "a.onnx").exists()


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stvsr.inference.export.ONNX_PACKAGES", ("onnx", "no_such_package"))
    output = tmp_path / "a.onnx"
    assert main(["export", "bicubic_linear", str(output), "--format", "onnx"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs no_such_package" in line
    assert "stvsr[export]" in line


# --- operators


def points(*shape: int) -> tuple[Tensor, Tensor]:
    """Offsets of up to some pixels, many outside the image, and modulations."""
    *front, H, W = shape
    return 4 * torch.randn(*front, 2, H, W), torch.rand(*front, H, W)


def test_plain_deformable_convolution_is_the_definition() -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(2, 6, 7, 9), *points(2, 3, 9, 7, 9))
    weights = (torch.randn(4, 6, 3, 3), torch.randn(4))
    found = plain_operators.deform_conv2d(*inputs, *weights)
    expected = reference.modulated_deform_conv2d(*inputs, *weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_plain_deformable_attention_is_the_definition() -> None:
    torch.manual_seed(0)
    maps = (torch.randn(2, 6, 7, 9), torch.randn(2, 3, 6, 7, 9), torch.randn(2, 3, 6, 7, 9))
    inputs = (*maps, *points(2, 3, 2, 9, 7, 9), 2)
    mixed, weight, _ = plain_operators.deformable_attention(*inputs)
    expected_mixed, expected_weight = reference.deformable_attention(*inputs)
    torch.testing.assert_close(mixed, expected_mixed, rtol=0, atol=1e-4)
    torch.testing.assert_close(weight, expected_weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("masks", [0, 3])
def test_plain_window_attention_is_the_operator(masks: int) -> None:
    torch.manual_seed(0)
    qkv, bias = torch.randn(6, 16, 3 * 8), torch.randn(2, 16, 16)
    hidden = (torch.rand(masks, 16, 16) < 0.3) & ~torch.eye(16, dtype=torch.bool)
    mask = torch.zeros(masks, 16, 16).masked_fill(hidden, -torch.inf) if masks else None
    found = plain_operators.window_attention(qkv, bias, mask)
    torch.testing.assert_close(found, window_attention(qkv, bias, mask), rtol=0, atol=1e-5)
