"""Upscaling streams of frames: windows, scenes, repeated frames, tiles."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import stvsr
from stvsr.artifact import load_artifact
from stvsr.core.errors import InputError, StvsrError
from stvsr.inference.tiling import spans
from stvsr.inference.upscale import Upscaling, upscale
from stvsr.inference.windows import windows
from stvsr.models import (
    BicubicLinear,
    StvsrModel,
    TmnetConfig,
    build_model,
    upscale_bicubic_linear,
)
from stvsr.models.base import MIDDLE
from tests.support.models import write_tiny_artifact

SMALL = Upscaling(window=4, window_overlap=2, tile=32, tile_overlap=8)


class Recorded(BicubicLinear):
    """The baseline, which keeps the shapes of the clips that it took."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
        self.shapes.append(tuple(lr_clip.shape))
        return super().super_resolve(lr_clip, times)


def scene(seed: int, frames: int, size: tuple[int, int] = (24, 40)) -> list[Tensor]:
    """A pattern of its own brightness that drifts by a pixel a frame."""
    torch.manual_seed(seed)
    coarse = torch.rand(1, 3, size[0] // 4 + 2, (size[1] + frames) // 4 + 2)
    wide = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")[0]
    wide = wide * 0.4 + 0.5 * (seed % 2)
    return [wide[:, : size[0], n : n + size[1]].clone() for n in range(frames)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> StvsrModel:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_artifact(folder / "model")
    return load_artifact(folder / "model")[0]


@pytest.mark.parametrize("time", [2, 3, 5])
@pytest.mark.parametrize("length", [2, 3, 4, 7])
@pytest.mark.parametrize("frames", range(12))
def test_windows_keep_every_output_frame_once_and_in_order(
    frames: int, length: int, time: int
) -> None:
    for overlap in range(1, length):
        kept = [
            time * window.frames[0] + at
            for window in windows(range(frames), length, overlap, time)
            for at in range(window.start, window.stop)
        ]
        assert kept == list(range(time * (frames - 1) + 1))


def test_windows_change_in_the_middle_of_what_they_share() -> None:
    first, second = windows(range(6), 4, 2)
    assert (first.frames, first.stop) == ((0, 1, 2, 3), 5)
    assert (second.frames, second.start) == ((2, 3, 4, 5), 1)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(1, 8, 2), (8, 8, 2), (9, 8, 2), (77, 16, 7)]
)
def test_tiles_of_one_size_keep_every_pixel_once(size: int, tile: int, overlap: int) -> None:
    found = spans(size, tile, overlap)
    kept = [pixel for span in found for pixel in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(size))
    assert {span.stop - span.start for span in found} == {min(tile, size)}
    assert all(a.stop - b.start >= overlap for a, b in pairwise(found))


@pytest.mark.parametrize("space", [4, 2, 1])
@pytest.mark.parametrize("time", [3, 2, 1])
def test_scales_give_the_stated_sizes_and_numbers_of_frames(space: int, time: int) -> None:
    frames = scene(0, 5, (17, 23))
    if space == time == 1:
        with pytest.raises(InputError, match="changes nothing"):
            Upscaling(space=space, time=time)
        return
    output = list(upscale(frames, BicubicLinear(), Upscaling(space=space, time=time)))
    assert len(output) == time * 4 + 1
    assert {tuple(frame.shape) for frame in output} == {(3, 17 * space, 23 * space)}
    if space == 1:
        assert all(a.equal(b) for a, b in zip(output[::time], frames, strict=True))


@pytest.mark.parametrize(("time", "times"), [(2, (0.5,)), (4, (0.25, 0.5, 0.75))])
def test_windows_and_tiles_of_the_baseline_give_what_the_whole_clip_gives(
    time: int, times: tuple[float, ...]
) -> None:
    frames = scene(0, 11, (70, 90))
    whole = upscale_bicubic_linear(torch.stack(frames)[None], times)[0].clamp(0, 1)
    output = torch.stack(list(upscale(frames, BicubicLinear(), replace(SMALL, time=time))))
    assert (output - whole).abs().max() < 1e-5


def test_scene_cuts_and_repeated_frames_keep_the_rate_at_any_time() -> None:
    frames = [*scene(0, 3), *scene(1, 3)]
    frames.insert(1, frames[0])
    output = list(upscale(frames, BicubicLinear(), Upscaling(time=4)))
    assert len(output) == 4 * 6 + 1
    assert all(frame.equal(output[0]) for frame in output[:5])
    assert all(frame.equal(output[12]) for frame in output[12:16])


def test_tmnet_sees_two_frames_at_a_time_where_it_makes_several_between() -> None:
    torch.manual_seed(0)
    config = TmnetConfig(channels=8, deformable_groups=2, front_blocks=0, back_blocks=0)
    tmnet, frames = build_model(config).eval(), scene(0, 3)
    with pytest.raises(InputError, match="this Tmnet were trained for the frame in the middle"):
        list(upscale(frames, tmnet, Upscaling(time=3)))
    for name, parameter in tmnet.named_parameters():
        if ".time." in name:
            torch.nn.init.normal_(parameter)
    output = torch.stack(list(upscale(frames, tmnet, Upscaling(time=3))))
    with torch.inference_mode():
        pair = tmnet(torch.stack(frames[1:])[None], (1 / 3, 2 / 3))[0].clamp(0, 1)
    assert len(output) == 7
    torch.testing.assert_close(output[3:], pair)


def test_a_rate_that_a_network_cannot_make_is_refused_by_name(network: StvsrModel) -> None:
    text = r"time: found 3; Stdan makes the frame in the middle.*tmnet"
    with pytest.raises(InputError, match=text):
        list(upscale(scene(0, 2), network, Upscaling(time=3)))


def test_tiles_of_a_network_differ_from_the_whole_by_less_than_a_level(
    network: StvsrModel,
) -> None:
    frames = scene(0, 2, (24, 56))
    whole = torch.stack(list(upscale(frames, network)))
    tiled = torch.stack(list(upscale(frames, network, Upscaling(tile=32, tile_overlap=16))))
    assert (tiled - whole).abs().max() < 1 / 255


def test_no_window_crosses_a_cut_and_the_frame_between_repeats_the_one_before() -> None:
    frames = [frame for seed in range(4) for frame in scene(seed, 5)]
    output = list(upscale(frames, BicubicLinear()))
    assert len(output) == 2 * len(frames) - 1
    for number in range(4):
        own = upscale_bicubic_linear(torch.stack(frames[5 * number : 5 * number + 5])[None])[0]
        found = torch.stack(output[10 * number : 10 * number + 9])
        assert (found - own.clamp(0, 1)).abs().max() < 1e-5
    assert all(output[at].equal(output[at - 1]) for at in (9, 19, 29))


def test_a_static_clip_stays_static(network: StvsrModel) -> None:
    output = list(upscale(scene(0, 1) * 9, network))
    assert len(output) == 17
    assert all(frame.equal(output[0]) for frame in output)


def test_a_repeated_frame_stays_repeated(network: StvsrModel) -> None:
    a, b, c = scene(0, 3)
    noisy = b + 0.001 * torch.rand_like(b)
    plain = list(upscale([a, b, c], network))
    output = list(upscale([a, b, noisy, b, c], network))
    expected = [0, 1, 2, 2, 2, 2, 2, 3, 4]
    assert all(frame.equal(plain[at]) for frame, at in zip(output, expected, strict=True))


def test_a_bright_point_that_moves_is_no_repeat() -> None:
    frames = [torch.full((3, 32, 32), 0.2) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame[:, 9, 9 + number] = 0.32  # the mean of its block differs by 0.24 levels
    output = list(upscale(frames, BicubicLinear(), SMALL))
    assert not torch.equal(output[0], output[2])


def test_scale_1_leaves_frames_that_are_nearly_alike_as_they_are() -> None:
    frames = [torch.full((3, 24, 40), 0.5 + 0.0004 * number) for number in range(4)]
    output = list(upscale(frames, BicubicLinear(), replace(SMALL, space=1)))
    assert all(torch.equal(a, b) for a, b in zip(output[::2], frames, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5)])
@pytest.mark.parametrize("count", [1, 2])
def test_one_frame_two_frames_and_frames_of_any_size(
    network: StvsrModel, size: tuple[int, int], count: int
) -> None:
    output = list(upscale(scene(0, 2, size)[:count], network))
    assert [tuple(frame.shape) for frame in output] == [(3, 4 * size[0], 4 * size[1])] * (
        2 * count - 1
    )


def test_a_change_of_size_begins_a_scene() -> None:
    output = list(upscale(scene(0, 3) + scene(0, 3, (16, 16)), BicubicLinear()))
    assert [frame.shape[-1] for frame in output] == [160] * 6 + [64] * 5


def test_no_frames_give_none() -> None:
    assert list(upscale([], BicubicLinear())) == []


def test_frames_are_read_as_they_are_needed() -> None:
    read = 0

    def endless() -> Iterator[Tensor]:
        nonlocal read
        frames = scene(0, 40)
        while True:
            yield frames[read % 40]
            read += 1

    output = upscale(endless(), BicubicLinear(), SMALL)
    for _ in range(100):
        next(output)
    assert read < 50 + 2 * SMALL.window


def test_no_tile_is_larger_than_asked() -> None:
    model = Recorded()
    list(upscale(scene(0, 9, (70, 90)), model, SMALL))
    assert {shape[-2:] for shape in model.shapes} == {(32, 32)}
    assert max(shape[1] for shape in model.shapes) == 4


def test_too_little_memory_is_an_error_with_a_remedy() -> None:
    class Full(BicubicLinear):
        def super_resolve(self, lr_clip: Tensor, times: Sequence[float] = MIDDLE) -> Tensor:
            raise torch.OutOfMemoryError("4 GiB")

    with pytest.raises(StvsrError, match="too little memory for tiles of 32 pixels; give --memory"):
        list(upscale(scene(0, 2), Full(), SMALL))


@pytest.mark.parametrize("skip", [1, 5, 9, 10, 11, 18])
def test_skipped_frames_are_not_computed_and_the_others_are_the_same(skip: int) -> None:
    frames = scene(0, 5) + scene(1, 5)
    whole, model = list(upscale(frames, BicubicLinear(), SMALL)), Recorded()
    rest = list(upscale(frames, model, SMALL, skip=skip))
    assert len(rest) == len(whole)
    assert all(a.equal(b) for a, b in zip(rest[skip:], whole[skip:], strict=True))
    if skip > 9:
        assert len(model.shapes) < 2 * 4 * 2


@pytest.mark.parametrize("time", [3, 4, 7])
def test_any_number_of_frames_may_be_skipped_at_any_rate(time: int) -> None:
    frames, how = scene(0, 3) + scene(1, 3), replace(SMALL, time=time)
    whole = list(upscale(frames, BicubicLinear(), how))
    for skip in range(len(whole)):
        rest = list(upscale(frames, BicubicLinear(), how, skip=skip))
        assert len(rest) == len(whole)
        assert all(a.equal(b) for a, b in zip(rest[skip:], whole[skip:], strict=True)), skip


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (torch.zeros(3, 4), "found (3, 4)"),
        (torch.zeros(1, 4, 4), "found (1, 4, 4)"),
        (torch.zeros(3, 0, 4), "found (3, 0, 4)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "frame.float() / 255"),
        ("frame.png", "found str"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Tensor, text: str) -> None:
    with pytest.raises(InputError) as refusal:
        list(upscale([frame], BicubicLinear()))
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [{"space": 3}, {"time": 0}, {"time": 17}, {"tile": 63}, {"window_overlap": 6}, {"window": 1}],
)
def test_scales_windows_and_tiles_that_cannot_be_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Upscaling(**fields)


def test_the_package_has_upscale_and_imports_no_torch_for_it() -> None:
    assert stvsr.upscale is upscale
    code = "import sys, stvsr; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
