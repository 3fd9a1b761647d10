import math

import pytest
import torch
from torch import nn

from stvsr.core.clip import ClipBatch
from stvsr.training.validation import mean_scores, score_clips


class Answers(nn.Module):
    """A network that gives a fixed answer."""

    def __init__(self, sr_clip):
        super().__init__()
        self.sr_clip = sr_clip

    def forward(self, lr_clip):
        return self.sr_clip


def clip(value, frames=3):
    return torch.full((1, frames, 3, 16, 16), value)


def test_input_and_interpolated_frames_are_scored_apart():
    sr_clip = clip(100 / 255)
    sr_clip[:, 1] = 110 / 255
    batch = ClipBatch(torch.zeros(1, 2, 3, 4, 4), clip(101 / 255), ("00001/0001",))
    (scores,) = score_clips(Answers(sr_clip), [batch])
    per_level = 20 * math.log10(255 / (219 / 255))
    assert scores["psnr_y_input"] == pytest.approx(per_level)
    assert scores["psnr_y_interpolated"] == pytest.approx(per_level - 20 * math.log10(9))
    assert scores["psnr_y"] == pytest.approx(per_level - 20 * math.log10(9) / 3)
    assert scores.keys() == {
        f"{name}{part}"
        for name in ("psnr_y", "ssim_y", "bicubic_linear_psnr_y")
        for part in ("", "_input", "_interpolated")
    }
    black = 20 * math.log10(255 / (101 * 219 / 255))
    assert scores["bicubic_linear_psnr_y_input"] == pytest.approx(black)


def test_a_score_that_is_infinite_on_every_frame_is_left_out():
    batch = ClipBatch(torch.zeros(1, 2, 3, 4, 4), clip(0.0), ("00001/0001",))
    (scores,) = score_clips(Answers(clip(0.0)), [batch])
    assert scores.keys() == {"ssim_y", "ssim_y_input", "ssim_y_interpolated"}


def test_means_are_over_the_clips_that_have_the_score_in_any_order():
    clips = [{"psnr_y": 30.1, "ssim_y": 0.9}, {"ssim_y": 0.7}, {"psnr_y": 33.3, "ssim_y": 0.8}]
    means = mean_scores(clips)
    assert means == {"psnr_y": pytest.approx(31.7), "ssim_y": pytest.approx(0.8)}
    assert mean_scores(reversed(clips)) == means
    assert mean_scores([]) == {}
