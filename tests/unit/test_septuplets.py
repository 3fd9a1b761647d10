from itertools import pairwise

import pytest

from stvsr.data.sources.septuplets import plan_clips, span


@pytest.mark.parametrize("frame_step", [1, 2, 3])
@pytest.mark.parametrize("cuts", [[], [50], [30, 160, 170], list(range(5, 200, 5))])
def test_clips_share_no_frame_and_cross_no_cut_and_test_comes_after_training(cuts, frame_step):
    plan = plan_clips(200, cuts, frame_step, 0.2)
    length = span(frame_step)
    clips = sorted([*plan.train, *plan.test])
    assert all(a + length <= b for a, b in pairwise(clips))
    assert all(first >= 0 and first + length <= 200 for first in clips)
    assert not any(first < cut < first + length for first in clips for cut in cuts)
    assert max(plan.train, default=-1) < min(plan.test, default=200)


def test_without_a_cut_a_clips_length_is_left_out_before_the_test_stretch():
    plan = plan_clips(100, [], 1, 0.2)
    assert plan.test == (80, 87)
    assert max(plan.train) + 7 <= 73


def test_the_split_falls_on_a_scene_change_where_one_is_near():
    plan = plan_clips(250, [30, 76, 137, 187, 242], 1, 0.2)
    assert plan.test[0] == 187
    assert max(plan.train) + 7 <= 187


def test_a_test_stretch_holds_at_least_one_clip():
    assert plan_clips(21, [], 1, 0.01).test == (14,)


def test_a_short_video_is_for_training_alone():
    plan = plan_clips(20, [], 1, 0.2)
    assert (plan.train, plan.test) == ((0, 7), ())


def test_without_a_test_share_all_is_for_training():
    assert plan_clips(70, [], 1, 0.0).test == ()


def test_too_few_frames_give_nothing():
    assert plan_clips(6, [], 1, 0.2) == plan_clips(0, [], 1, 0.2)
    assert plan_clips(12, [], 2, 0.2).train == ()
    assert plan_clips(13, [], 2, 0.0).train == (0,)
