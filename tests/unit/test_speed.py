"""Speed: what is measured, at which sizes, and where it is shown."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from stvsr.cli import main
from stvsr.core.errors import ParamsError
from stvsr.evaluation.set_scores import read_set_scores
from stvsr.evaluation.speed import SpeedCase, measure_speed, parse_speed
from stvsr.models import BicubicLinear, StvsrModel, build_model, upscale_bicubic_linear
from stvsr.models.operations import count_operations
from stvsr.ops.windows import cross_window_attention
from tests.support.models import TINY_STDAN, write_tiny_artifact
from tests.support.sets import write_set


def test_sizes_and_precisions_are_read() -> None:
    assert parse_speed("") == ()
    assert parse_speed("112x64, 320x180:bf16") == (
        SpeedCase(112, 64, "float32"),
        SpeedCase(320, 180, "bf16"),
    )


@pytest.mark.parametrize("text", ["112", "112x0", "112x64:int8", "-1x4", "112x64;1x1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match=r"--speed: found .*expected LR sizes such as 112x64"):
        parse_speed(text)


class OneConvolution(StvsrModel):
    """The baseline after a convolution from 3 to 3 channels."""

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        return upscale_bicubic_linear(self.convolution(lr_clip[0])[None])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_network_is_measured_and_not_changed(precision: str) -> None:
    model = OneConvolution().eval()
    (case,) = parse_speed(f"24x16:{precision}")
    speed = measure_speed(model, torch.device("cpu"), case)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert speed.precision == precision
    assert speed.seconds > 0
    assert speed.frames_per_second == pytest.approx(7 / speed.seconds)
    assert speed.operations == count_operations(model, (4, 16, 24))
    assert speed.peak_memory is not None
    assert speed.peak_memory > 50 * 2**20
    assert speed.device.endswith(f"{torch.get_num_threads()} threads")


def test_a_convolution_counts_two_operations_a_weight_and_pixel() -> None:
    model = OneConvolution()
    resizing = count_operations(BicubicLinear(), (4, 16, 24))
    per_pixel = 2 * 3 * 3 * 3 * 3
    assert count_operations(model, (4, 16, 24)) - resizing == 4 * 16 * 24 * per_pixel
    assert count_operations(model, (4, 9, 18)) == count_operations(model, (4, 16, 24))


def test_deformable_convolutions_and_attention_count_too() -> None:
    model = build_model(TINY_STDAN)
    with_all = count_operations(model, (4, 8, 8))
    torch_alone = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch_alone:
        model.super_resolve(torch.rand(1, 4, 3, 8, 8))
    assert with_all > torch_alone.get_total_flops() > 0


class AttentionBetweenWindows(StvsrModel):
    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        q, kv, bias = (lr_clip.new_zeros(size) for size in ((6, 4, 8), (6, 10, 16), (2, 4, 10)))
        return cross_window_attention(q, kv, bias)


def test_attention_between_windows_counts_its_two_products() -> None:
    windows, pixels, others, channels = 6, 4, 10, 8
    products = 2 * windows * pixels * others * channels
    assert count_operations(AttentionBetweenWindows(), (4, 8, 8)) == 2 * products


def test_the_command_measures_and_the_table_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "set", {"one": 7})
    write_tiny_artifact(tmp_path / "model")
    assert main(["score", "model", "--set", "set", "--speed", "8x8:bf16"]) == 0
    assert "8x8 bf16: " in capsys.readouterr().out
    (first,) = read_set_scores(tmp_path / "scores/model_set_stvsr").speed
    assert (first.width, first.height, first.precision) == (8, 8, "bf16")
    assert main(["table"]) == 0
    printed = capsys.readouterr().out
    assert "### Speed" in printed
    (line,) = [line for line in printed.splitlines() if "| 8x8 |" in line]
    assert f"| {first.frames_per_second:.3g} |" in line
    assert "GFLOPs a frame" in (tmp_path / "tables/table.html").read_text()


def test_frames_of_others_have_no_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set", {"one": 7})
    arguments = ["--set", str(root), "--out", str(tmp_path / "out"), "--speed", "16x16"]
    assert main(["score", "--outputs", str(root / "GT"), *arguments]) == 1
    assert "--speed: frames that others made have no speed" in capsys.readouterr().err
