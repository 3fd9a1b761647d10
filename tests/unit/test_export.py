"""`stvsr export`: the files run without this package, at other sizes, and give the same."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stvsr.artifact import Card, load_artifact, save_artifact
from stvsr.cli import main
from stvsr.core.errors import StvsrError
from stvsr.inference import plain_operators
from stvsr.inference.export import ExportRequest, export
from stvsr.models import BicubicLinear, ModelConfig, ZoomingSlowMoConfig, build_model
from stvsr.ops import reference, window_attention
from tests.support.models import TINY_STDAN

TINY_SHIFTED_STDAN = TINY_STDAN.model_copy(
    update={"blocks_per_group": 2, "interpolation": "short", "T_top": TINY_STDAN.k**2}
)
"""Every second block of a group attends in shifted windows. Aggregation keeps all points: of fewer,
rounding may choose others where two weigh nearly the same."""

TINY_ZSM = ZoomingSlowMoConfig(
    preset="small",
    channels=8,
    front_blocks=1,
    back_blocks=1,
    interpolation="blending",
    memory="plain",
)
"""Without deformable parts, with which torch needs minutes to load a file."""

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


def write_network(folder: Path, config: ModelConfig) -> None:
    """A model folder whose points are displaced by pixels, and whose output shows it."""
    torch.manual_seed(0)
    network = build_model(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    card = Card(
        model=config,
        step=3,
        steps_total=3,
        seed=0,
        degradation={"name": "bicubic"},
        data_hash="ab" * 32,
        run="run-of-the-test",
        stvsr_version="0.1.0",
    )
    save_artifact(folder, network, card)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "file", "code"),
    [(TINY_SHIFTED_STDAN, "stdan.onnx", RUN_ONNX), (TINY_ZSM, "zsm.pt2", RUN_TORCH)],
)
def test_a_file_runs_elsewhere_at_other_sizes_and_says_where_it_is_from(
    config: ModelConfig,
    file: str,
    code: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_network(tmp_path / "model", config)
    output = tmp_path / file
    form = "onnx" if output.suffix == ".onnx" else "torch-export"
    arguments = ["export", tmp_path / "model", output, "--format", form, "--frames", "2"]
    assert main([str(argument) for argument in arguments]) == 0
    line = capsys.readouterr().out
    assert "any batch, height, width; frames = 2 only" in line

    network, card = load_artifact(tmp_path / "model")
    clips = [torch.rand(1, 2, 3, 29, 41), torch.rand(2, 2, 3, 32, 16), torch.rand(1, 2, 3, 1, 3)]
    said, results = run_elsewhere(code, output, clips)
    for clip, result in zip(clips, results, strict=True):
        torch.testing.assert_close(result, network(clip).detach(), rtol=0, atol=1e-4)
    assert "run run-of-the-test" in said
    assert card.weights_sha256[:12] in said
    assert str(Path(__file__).parents[2]).encode() not in output.read_bytes()  # no machine's path

    done = run_python(code, output, [torch.rand(1, 3, 3, 16, 16)])
    assert done.returncode != 0
    assert re.search(r"Got: 3 Expected: 2|lr_clip\.size\(\)\[1\] == 2", done.stderr)


def test_the_baseline_takes_any_number_of_frames_and_replaces_its_own_file(tmp_path: Path) -> None:
    output = tmp_path / "baseline.onnx"
    for _ in range(2):
        assert main(["export", "bicubic_linear", str(output), "--format", "onnx"]) == 0
    clip = torch.rand(1, 5, 3, 7, 9)
    _, (result,) = run_elsewhere(RUN_ONNX, output, [clip])
    torch.testing.assert_close(result, BicubicLinear()(clip), rtol=0, atol=1e-5)


class OtherThanTraced(BicubicLinear):
    """What a file would give differs from what this does."""

    def forward(self, lr_clip: Tensor) -> Tensor:
        return super().forward(lr_clip) + 0.01


def test_a_file_that_differs_from_its_network_is_not_written(tmp_path: Path) -> None:
    request = ExportRequest("other", tmp_path / "other.pt2", "torch-export")
    with pytest.raises(StvsrError, match=r"differs from the network by 1\.0e-02 .*allowed: 1e-04"):
        export(request, lambda _: (OtherThanTraced(), None))
    assert not request.output.exists()


class OneSizeOnly(BicubicLinear):
    """Looks at a value while it is traced."""

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        return super().super_resolve(lr_clip) if lr_clip.sum() > 0 else lr_clip


def test_a_network_that_cannot_be_traced_is_refused_by_name(tmp_path: Path) -> None:
    request = ExportRequest("a-network", tmp_path / "other.pt2", "torch-export")
    with pytest.raises(StvsrError, match=r"^a-network: torch\.export cannot trace it"):
        export(request, lambda _: (OneSizeOnly(), None))
    assert not request.output.exists()


REFUSED = {
    "an unknown format": (("out.pt2", "--format", "coreml"), "allowed: torch-export, onnx"),
    "another suffix": (("out.pt2", "--format", "onnx"), "called *.onnx"),
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
