"""The scores are the literature's: reference values, and what they must do by construction."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stvsr.core.errors import InputError
from stvsr.metrics import finite_mean, psnr_rgb, psnr_y, ssim_rgb, ssim_y, to_uint8

DATA = Path(__file__).parents[1] / "data" / "metrics"

REFERENCE = {  # PSNR RGB, PSNR-Y, SSIM-Y, SSIM RGB
    "metrics_21": (42.00728880570544, 46.78716671580541, 0.9973197413163686, 0.9971671775012076),
    "metrics_22": (29.961137419639392, 34.80127715013098, 0.9577841391438008, 0.948479815681455),
    "metrics_23": (20.168972725414754, 24.973240421918614, 0.780895212388881, 0.6623986477057284),
}


def some_frames(*leading: int, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (*leading, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", REFERENCE)
def test_scores_equal_the_reference_values(name: str) -> None:
    file = DATA / f"{name}.npz"
    with np.load(file) as pair:
        gt, im = (torch.from_numpy(pair[key]).permute(2, 0, 1) for key in ("gt", "im"))
    found = [score(im, gt).item() for score in (psnr_rgb, psnr_y, ssim_y, ssim_rgb)]
    assert found == pytest.approx(REFERENCE[name], rel=1e-10)


@pytest.mark.parametrize("score", [psnr_y, psnr_rgb, ssim_y, ssim_rgb])
def test_a_batch_of_clips_is_scored_as_its_frames_one_by_one(score) -> None:
    sr, hr = some_frames(2, 3, seed=1), some_frames(2, 3, seed=2)
    together = score(sr, hr)
    assert together.shape == (2, 3)
    assert together.dtype == torch.float64
    one_by_one = [[score(sr[b, t], hr[b, t]).item() for t in range(3)] for b in range(2)]
    assert together.tolist() == pytest.approx(np.array(one_by_one), rel=1e-12)


def test_psnr_rgb_of_a_known_error_is_what_the_formula_gives() -> None:
    hr = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    assert psnr_rgb(hr + 5, hr).item() == pytest.approx(20 * math.log10(255 / 5))


def test_luma_is_not_rounded() -> None:
    hr = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    sr = hr.clone()
    sr[2] += 1  # one level of blue is 0.098 of Y: rounding would make it an error of 0
    assert psnr_y(sr, hr).item() == pytest.approx(20 * math.log10(255 / (24.966 / 255)))


@pytest.mark.parametrize("psnr", [psnr_y, psnr_rgb])
def test_equal_frames_have_infinite_psnr(psnr) -> None:
    assert psnr(some_frames(), some_frames()).item() == math.inf


@pytest.mark.parametrize("ssim", [ssim_y, ssim_rgb])
def test_equal_frames_have_ssim_one(ssim) -> None:
    assert ssim(some_frames(), some_frames()).item() == pytest.approx(1, abs=1e-12)


def test_to_uint8_clamps_and_rounds() -> None:
    values = torch.tensor([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]


def test_finite_mean_leaves_out_infinite_values() -> None:
    assert finite_mean([30.0, math.inf, 40.0]) == 35.0
    assert finite_mean([math.inf]) is None
    assert finite_mean([]) is None


def test_frames_that_are_not_8_bit_are_refused() -> None:
    with pytest.raises(InputError, match=r"sr is torch\.float32.*pass it through to_uint8"):
        psnr_y(torch.rand(3, 16, 16), some_frames(height=16, width=16))


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"sr is \(3, 24, 32\) and hr is \(3, 24, 33\)"):
        psnr_y(some_frames(), some_frames(width=33))


def test_frames_without_three_channels_are_refused() -> None:
    grey = some_frames()[:1]
    with pytest.raises(InputError, match=r"\(1, 24, 32\); they must be"):
        ssim_y(grey, grey)


def test_frames_smaller_than_the_window_have_no_ssim() -> None:
    with pytest.raises(InputError, match="at least 11x11 pixels, found 32x10"):
        ssim_y(some_frames(height=10), some_frames(height=10))
