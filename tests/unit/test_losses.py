import math

import pytest
import torch

from stvsr.core.errors import InputError
from stvsr.losses import charbonnier


def test_charbonnier_is_the_mean_of_the_smoothed_distances():
    sr_clip, hr_clip = torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.2])
    expected = (1e-3 + math.sqrt(0.3**2 + 1e-6)) / 2
    assert charbonnier(sr_clip, hr_clip).item() == pytest.approx(expected)


def test_charbonnier_as_published_adds_up_all_elements():
    sr_clip, hr_clip = torch.rand(2, 7, 3, 8, 8), torch.rand(2, 7, 3, 8, 8)
    total = charbonnier(sr_clip, hr_clip, "sum")
    assert total.item() == pytest.approx(charbonnier(sr_clip, hr_clip).item() * 2 * 7 * 3 * 64)


def test_the_mean_does_not_depend_on_how_the_batch_is_split():
    sr_clip, hr_clip = torch.rand(4, 3, 3, 8, 8), torch.rand(4, 3, 3, 8, 8)
    halves = zip(sr_clip.chunk(2), hr_clip.chunk(2), strict=True)
    means = [charbonnier(sr_half, hr_half) for sr_half, hr_half in halves]
    torch.testing.assert_close(torch.stack(means).mean(), charbonnier(sr_clip, hr_clip))


def test_the_gradient_is_finite_where_both_clips_are_equal():
    sr_clip = torch.full((1, 3, 3, 4, 4), 0.5, requires_grad=True)
    charbonnier(sr_clip, sr_clip.detach()).backward()
    assert sr_clip.grad is not None
    assert torch.equal(sr_clip.grad, torch.zeros_like(sr_clip))


def test_clips_of_other_shapes_are_refused_with_both_shapes():
    with pytest.raises(InputError, match=r"\(1, 3\) and hr_clip is \(2, 3\)"):
        charbonnier(torch.rand(1, 3), torch.rand(2, 3))
