"""Configurations, and what every model promises about its input and output."""

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stvsr.core.config import ValidationError
from stvsr.core.errors import InputError
from stvsr.models import (
    BicubicLinear,
    ModelConfig,
    RsttConfig,
    StdanConfig,
    StinetConfig,
    StvsrModel,
    TmnetConfig,
    ZoomingSlowMoConfig,
    build_model,
    upscale_bicubic_linear,
)
from stvsr.models.base import BaseModelConfig, ModelEntry
from stvsr.models.layers import parts, swin
from stvsr.models.layers.frames import interleave
from stvsr.models.layers.recompute import KEPT_NUMBERS
from stvsr.models.stdan import Stdan, stdfa

TINY_STDAN = StdanConfig(
    channels=8,
    embedding=8,
    deformable_groups=2,
    heads=2,
    extraction_groups=1,
    reconstruction_groups=1,
    blocks_per_group=2,
)
TINY_ZSM = ZoomingSlowMoConfig(channels=8, deformable_groups=2, front_blocks=1, back_blocks=1)
TINY_STINET = StinetConfig(channels=8, deformable_groups=2, projections=2, shared_blocks=1)
TINY_RSTT = RsttConfig(channels=8, heads=1, blocks=2, hr_channels=8)
TINY_TMNET = TmnetConfig(channels=8, deformable_groups=2, front_blocks=1, back_blocks=1)
TINY = {
    "stdan": TINY_STDAN,
    "zooming_slowmo": TINY_ZSM,
    "stinet": TINY_STINET,
    "rstt": TINY_RSTT,
    "tmnet": TINY_TMNET,
}


def network(config: ModelConfig, seed: int = 0) -> StvsrModel:
    """A network in evaluation mode whose offsets and modulation by time are not zero."""
    torch.manual_seed(seed)
    model = build_model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "conv_offset" in name or ".time." in name:
                parameter.normal_(0, 0.1)
    return model


def clip(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


def test_stdan_and_its_ablations_have_the_published_sizes() -> None:
    assert parameters(StdanConfig()) == 8_292_843
    short: dict[str, Any] = {"interpolation": "short"}
    assert parameters(StdanConfig(**short, aggregation="none")) == 5_443_347
    assert parameters(StdanConfig(**short, aggregation="fixed", k=1)) == 5_542_195
    assert parameters(StdanConfig(**short, aggregation="fixed", k=3)) == 5_542_195
    assert parameters(StdanConfig(**short, aggregation="deformable")) == 5_822_491


def test_zooming_slowmo_and_its_ablations_have_the_published_sizes_part_by_part() -> None:
    """The paper prints no sizes for (a) to (d): they are (e) less the parts that are left out."""
    one_way = ZoomingSlowMoConfig(bidirectional=False)
    sizes = {
        "a": parameters(ZoomingSlowMoConfig(interpolation="blending", memory="none")),
        "b": parameters(ZoomingSlowMoConfig(memory="none")),
        "c": parameters(one_way.model_copy(update={"memory": "plain"})),
        "d": parameters(one_way),
        "e": parameters(ZoomingSlowMoConfig()),
    }
    conv3x3, both_directions = 64 * 64 * 9 + 64, 128 * 64 + 64
    lstm = 128 * 256 * 9 + 256
    assert sizes["e"] == 11_102_771
    assert sizes["e"] - sizes["d"] == both_directions
    assert sizes["c"] - sizes["b"] == lstm
    # the pyramids' four convolutions, and the same branches of PCD that each state alignment has
    state_alignment = (sizes["d"] - sizes["c"]) // 2
    pcd_branches = state_alignment - 4 * conv3x3 - both_directions
    assert sizes["b"] - sizes["a"] == 4 * conv3x3 + pcd_branches


def test_stinet_has_the_published_size_and_its_ablations_less() -> None:
    assert parameters(StinetConfig()) == 11_761_602
    channels, conv1x1 = 64, 64 * 64 + 64
    separate = parameters(StinetConfig(local_refinement="separate"))
    assert parameters(StinetConfig()) - separate == 3 * conv1x1 + channels**2
    graph = sum(a * b + b for a, b in ((64, 256), (256, 256), (256, 256), (256, 64)))
    no_graph = parameters(StinetConfig(global_refinement=False))
    assert parameters(StinetConfig()) - no_graph == graph + channels**2 * 8 * 8 + channels


@pytest.mark.parametrize(("preset", "size"), [("S", 4_485_275), ("M", 6_079_895), ("L", 7_674_515)])
def test_rstt_has_the_published_sizes(preset: str, size: int) -> None:
    assert parameters(RsttConfig.model_validate({"preset": preset})) == size


def test_tmnet_is_zooming_slowmo_with_local_comparison_and_modulation() -> None:
    conv3x3, conv1x1, offsets = 64 * 64 * 9 + 64, 64 * 64, 64 * 216 * 9 + 216
    modulation = 6 * (2 * conv3x3 + 64 + 2 * conv1x1)
    one_side = 128 * 64 * 9 + 64 + conv3x3 + offsets + conv3x3
    fusion = 3 * (192 * 192 + 192) + 192 * 64 + 64
    added = parameters(TmnetConfig()) - parameters(ZoomingSlowMoConfig())
    assert added == modulation + 2 * one_side + fusion
    assert parameters(TmnetConfig()) == 12_263_523


@pytest.mark.parametrize(
    "config",
    [StdanConfig, ZoomingSlowMoConfig, StinetConfig, RsttConfig, TmnetConfig],
    ids=lambda config: config.__name__,
)
@pytest.mark.parametrize("preset", ["published", "small"])
def test_a_written_configuration_reads_as_itself(
    config: type[BaseModelConfig], preset: str
) -> None:
    expanded = config.model_validate({"preset": preset})
    assert config.model_validate(expanded.model_dump()) == expanded
    assert config.model_validate_json(expanded.model_dump_json()) == expanded


def test_a_preset_gives_way_to_what_is_said() -> None:
    small = StdanConfig(preset="small")
    assert small.global_skip
    assert small.channels < StdanConfig().channels
    assert StdanConfig(preset="small", channels=32).channels == 32


@pytest.mark.parametrize(("k", "T_top"), [(1, 2), (3, 10), (5, 26)])
def test_more_points_than_there_are_cannot_be_kept(k: int, T_top: int) -> None:
    with pytest.raises(ValidationError, match=rf"(?s)T_top.*(1\.\.|equal to ){k * k}"):
        StdanConfig(k=k, T_top=T_top)  # type: ignore[arg-type]


def test_heads_and_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValidationError, match="embedding: found 70; allowed: a multiple of"):
        StdanConfig(embedding=70)


@pytest.mark.parametrize(("k", "T_top"), [(1, 1), (3, 1), (3, 9), (5, 2), (5, 25)])
def test_every_window_and_number_of_kept_points_trains(k: int, T_top: int) -> None:
    model = network(TINY_STDAN.model_copy(update={"k": k, "T_top": T_top})).train()
    model(clip(1, 3, 3, 8, 8)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (16, 8)])
@pytest.mark.parametrize("frames", [2, 3])
def test_any_size_and_length_gives_2n_minus_1_frames_of_four_times_the_size(
    model: str, size: tuple[int, int], frames: int
) -> None:
    out = network(TINY[model])(clip(1, frames, 3, *size))
    assert out.shape == (1, 2 * frames - 1, 3, 4 * size[0], 4 * size[1])
    assert out.isfinite().all()


@pytest.mark.parametrize("model", TINY)
def test_two_clips_together_give_what_each_gives_alone(model: str) -> None:
    net, clips = network(TINY[model]), clip(2, 3, 3, 9, 12)
    torch.testing.assert_close(net(clips), torch.cat([net(clips[:1]), net(clips[1:])]))


@pytest.mark.parametrize("model", TINY)
def test_strides_do_not_matter(model: str) -> None:
    net, frames = network(TINY[model]), clip(1, 3, 8, 12, 3)
    strided = frames.permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(net(strided), net(strided.contiguous()))


@pytest.mark.parametrize("model", TINY)
def test_bf16_weights_and_autocast_stay_near_float32(model: str) -> None:
    net, frames = network(TINY[model]), clip(1, 2, 3, 8, 8)
    exact = net(frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(frames)
    halved = copy.deepcopy(net).bfloat16()(frames)
    for rounded in (mixed, halved):
        # what RSTT adds to is interpolated, which autocast leaves in float32
        in_bf16 = rounded is halved or model != "rstt"
        assert rounded.dtype == (torch.bfloat16 if in_bf16 else torch.float32)
        torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("model", TINY)
def test_a_network_with_the_global_skip_starts_as_the_baseline(model: str) -> None:
    net = network(TINY[model].model_copy(update={"global_skip": True}))
    frames = clip(1, 3, 3, 10, 9)
    torch.testing.assert_close(net(frames), bicubic_linear_padded(frames, net.size_multiple))


@pytest.mark.parametrize("model", ["stinet", "tmnet"])
def test_a_network_that_knows_the_time_makes_several_of_each_gap(model: str) -> None:
    times, frames = (0.25, 0.75), clip(1, 3, 3, 8, 12)
    still = frames[:, :1].expand(1, 3, 3, 8, 12)
    assert network(TINY[model])(still, times).shape == (1, 7, 3, 32, 48)
    with pytest.raises(InputError, match=r"times: found \[0.5, 0.5\]; expected rising"):
        network(TINY[model])(still, (0.5, 0.5))
    skip = network(TINY[model].model_copy(update={"global_skip": True}))
    first, quarter = skip(frames, times)[0, :2]
    torch.testing.assert_close(quarter, 0.75 * first + 0.25 * upscale_bicubic_linear(frames)[0, 2])


def test_tmnet_s_modulation_grows_with_the_distance_from_the_middle() -> None:
    features = clip(2, 2, 8, 8, 12)
    interpolation = network(TINY_TMNET).interpolation

    def at(*times: float) -> Tensor:
        gaps: Tensor = interpolation(features, times)  # type: ignore[operator]
        return gaps

    torch.testing.assert_close(at(0.2, 0.5, 0.7)[:, 1:2], at(0.5))
    distances = [(at(time) - at(0.5)).abs().max() for time in (0.51, 0.6, 0.9)]
    assert 0 < distances[0] < distances[1] < distances[2]


def bicubic_linear_padded(frames: Tensor, multiple: int) -> Tensor:
    H, W = frames.shape[-2:]
    padded = torch.nn.functional.pad(
        frames.flatten(0, 1), (0, -W % multiple, 0, -H % multiple), mode="replicate"
    ).unflatten(0, frames.shape[:2])
    return upscale_bicubic_linear(padded)[..., : 4 * H, : 4 * W]


@pytest.mark.parametrize(("frames", "first"), [(5, 7), (7, 7), (9, 13)])
def test_rstt_makes_each_frame_in_the_first_window_of_four_that_has_it(
    frames: int, first: int
) -> None:
    net, lr_clip = network(TINY_RSTT), clip(1, frames, 3, 8, 8)
    out = net(lr_clip)
    torch.testing.assert_close(out[:, :7], net(lr_clip[:, :4]))
    last = net(lr_clip[:, -4:])[:, first - 2 * (frames - 4) :]
    torch.testing.assert_close(out[:, first:], last)


def test_the_baseline_keeps_constants_and_means_neighbours() -> None:
    still = torch.full((1, 3, 3, 5, 6), 0.25)
    torch.testing.assert_close(BicubicLinear()(still), torch.full((1, 5, 3, 20, 24), 0.25))
    out = BicubicLinear()(clip(2, 3, 3, 5, 6))
    torch.testing.assert_close(out[:, 1], (out[:, 0] + out[:, 2]) / 2)


@pytest.mark.parametrize("dimension", [-1, -2, 1], ids=["mirrored", "upside down", "reversed"])
def test_the_baseline_turned_in_is_turned_out(dimension: int) -> None:
    frames = clip(1, 4, 3, 6, 9)
    turned = BicubicLinear()(frames.flip(dimension)).flip(dimension)
    torch.testing.assert_close(turned, BicubicLinear()(frames))


def test_aggregation_reversed_in_is_reversed_out() -> None:
    """Each frame attends to all others alike: their order does not matter to STDFA."""
    aggregation, features = network(TINY_STDAN).aggregation, clip(2, 5, 8, 8, 8)
    torch.testing.assert_close(aggregation(features.flip(1)).flip(1), aggregation(features))  # type: ignore[operator]


@pytest.mark.parametrize("model", TINY)
def test_a_network_that_treats_both_directions_alike_reverses_with_its_input(model: str) -> None:
    """With equal branches and symmetric fusions, no layer can tell forward from backward."""
    config = TINY[model]
    if isinstance(config, StinetConfig):  # its graph has edges from earlier frames to later alone
        config = config.model_copy(update={"global_refinement": False})
    net, frames = network(config), clip(1, 4, 3, 8, 8)
    make_directions_alike(net)
    torch.testing.assert_close(net(frames.flip(1)).flip(1), net(frames))


SIDES = {
    "interpolation.from_flows.conv.weight": (1, 0, 1, 2),
    "interpolation.low_up.deconv.weight": (0, 0, 1, 8),
    "interpolation.high_first.conv.weight": (1, 0, 1, 8),
    "local_refinement.fusion.0.weight": (1, 0, 2, 8),
    "comparison.fusion.0.weight": (1, 0, 2, 8),
}
"""Dimension, and which of its parts of that many channels are for before and after."""


def make_directions_alike(net: StvsrModel) -> None:
    state = net.state_dict()
    for name, tensor in state.items():
        if "interpolation.alignment.branches.1" in name:
            state[name] = state[name.replace("branches.1", "branches.0")]
        alike = ("interpolation.fusion", "interpolation.alignment.fusion", "aggregation.fusion")
        if name.endswith("fusion.weight") and name.startswith(alike):
            first, second = tensor.chunk(2, dim=1)
            state[name] = torch.cat([first + second, first + second], dim=1) / 2
        if name.startswith(("local_refinement", "comparison")) and "_after" in name:
            state[name] = state[name.replace("_after", "_before")]
        if name.startswith(("encoder", "decoder")) and name.endswith("bias_table"):
            by_time = tensor.unflatten(0, (-1, 49))  # RSTT's, of windows of 4x4 pixels
            state[name] = (by_time + by_time.flip(0)).flatten(0, 1) / 2
    for name, (dim, first, second, size) in SIDES.items():
        if name in state:
            parts = list(state[name].split(size, dim))
            parts[first] = parts[second] = (parts[first] + parts[second]) / 2
            state[name] = torch.cat(parts, dim)
    net.load_state_dict(state)


def test_a_swin_stage_with_mirrored_weights_mirrors_its_image() -> None:
    stage, image = network(TINY_STDAN).extraction, clip(1, 8, 16, 16)
    expected = stage(image)  # type: ignore[operator]
    for name, parameter in stage.named_parameters():  # type: ignore[union-attr]
        if parameter.ndim == 4:
            parameter.data = parameter.data.flip(-1)
        if name.endswith("bias_table"):
            parameter.data = parameter.data.unflatten(0, (15, 15)).flip(1).flatten(0, 1)
    torch.testing.assert_close(stage(image.flip(-1)).flip(-1), expected)  # type: ignore[operator]


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("pixels", [1, 150, 500])
def test_without_gradients_parts_of_a_clip_give_what_the_whole_does(
    model: str, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, lr_clip = network(TINY[model]), clip(2, 3, 3, 16, 24)
    whole = net(lr_clip).detach()
    monkeypatch.setitem(parts.PART_PIXELS, "cpu", pixels)
    with torch.inference_mode():
        torch.testing.assert_close(net(lr_clip), whole)


def test_a_network_that_only_runs_does_not_import_torch_s_compiler() -> None:
    program = """
import sys, torch
from stvsr.models import MODELS, build_model
with torch.inference_mode():
    for entry in MODELS:
        config = entry.config.model_validate({"preset": "small"})
        build_model(config)(torch.rand(1, 2, 3, 8, 8))
print("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("model", TINY)
def test_a_network_compiles_without_a_graph_break(model: str, training: bool) -> None:
    torch.compiler.reset()
    net, lr_clip = network(TINY[model]).train(training), clip(1, 2, 3, 8, 7)
    compiled, results = torch.compile(net, fullgraph=True, backend="eager"), []
    with torch.set_grad_enabled(training):
        for function in (compiled, net):
            torch.manual_seed(0)
            results.append(function(lr_clip))
    torch.testing.assert_close(*results)


def test_frames_and_gaps_alternate() -> None:
    frames, gaps = torch.arange(0, 6, 2), torch.arange(1, 5, 2)
    sequence = interleave(frames[None, :, None, None, None], gaps[None, :, None, None, None])
    assert sequence.flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("pixels", [64, 200])
def test_what_is_kept_or_computed_again_changes_nothing(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients() -> list[Tensor]:
        model = network(TINY_STDAN)
        model(clip(1, 3, 3, 8, 16)).square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]  # type: ignore[misc]

    assert KEPT_NUMBERS > 0
    expected = gradients()
    monkeypatch.setattr(stdfa, "KEPT_NUMBERS", 0)
    monkeypatch.setattr(swin, "KEPT_NUMBERS", 0)
    monkeypatch.setattr(stdfa, "CHUNK_PIXELS", pixels)
    torch.testing.assert_close(gradients(), expected)


@pytest.mark.parametrize(
    ("lr_clip", "message"),
    [
        (torch.rand(1, 2, 4, 8, 8), "4 channels"),
        (torch.rand(1, 1, 3, 8, 8), r"1 frame\(s\); at least 2"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), r"torch.uint8.*float\(\) / 255"),
        (torch.rand(2, 3, 8, 8), r"shape \(2, 3, 8, 8\); expected \(clips, frames, 3"),
        (torch.rand(1, 2, 3, 0, 8), "which is empty"),
        (torch.full((1, 2, 3, 8, 8), torch.nan), "NaN or infinity"),
    ],
    ids=["channels", "one frame", "uint8", "dimensions", "empty", "NaN"],
)
@pytest.mark.parametrize("model", ["bicubic_linear", *TINY])
def test_a_clip_that_is_none_is_refused(model: str, lr_clip: Tensor, message: str) -> None:
    net = BicubicLinear() if model == "bicubic_linear" else network(TINY[model])
    with pytest.raises(InputError, match=message):
        net(lr_clip)


@pytest.mark.parametrize(
    ("clip", "found"),
    [
        (np.zeros((1, 2, 3, 8, 8), np.float32), r"ndarray of shape \(1, 2, 3, 8, 8\)"),
        ([1.0], "list"),
        (None, "NoneType"),
    ],
    ids=["numpy", "list", "nothing"],
)
def test_what_is_no_tensor_is_refused(clip: Any, found: str) -> None:
    with pytest.raises(InputError, match=rf"lr_clip: found a {found}; expected a torch tensor"):
        network(TINY_STDAN)(clip)


def test_a_model_without_a_recipe_is_refused_by_name():
    with pytest.raises(ValueError, match="stdan: registered without a recipe"):
        ModelEntry(config=StdanConfig, build=Stdan, recipe={})
