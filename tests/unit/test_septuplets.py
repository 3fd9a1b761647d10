from dataclasses import dataclass
from itertools import pairwise

import pytest

from stvsr.core.clip import SEPTUPLET
from stvsr.data.sources.septuplets import plan_clips, span
from stvsr.video.segments import SCENE_CUT, START, UNEVEN, Segment


@dataclass
class Firsts:
    """The first frame of each clip."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def plan(frames: int, cuts: list[int], frame_step: int, test_share: float) -> Firsts:
    """Plan a video whose segments are its scenes."""
    ends = [(a, b) for a, b in pairwise((0, *cuts, frames)) if b > a]
    segments = [Segment(SCENE_CUT if a else START, tuple(range(a, b))) for a, b in ends]
    found = plan_clips(segments, frame_step, test_share)
    for clip in (*found.train, *found.test):
        assert clip == tuple(range(clip[0], clip[0] + span(frame_step), frame_step))
        assert len(clip) == SEPTUPLET
    return Firsts(tuple(c[0] for c in found.train), tuple(c[0] for c in found.test))


@pytest.mark.parametrize("frame_step", [1, 2, 3])
@pytest.mark.parametrize("cuts", [[], [50], [30, 160, 170], list(range(5, 200, 5))])
def test_clips_share_no_frame_and_cross_no_cut_and_test_comes_after_training(cuts, frame_step):
    found = plan(200, cuts, frame_step, 0.2)
    length = span(frame_step)
    clips = sorted([*found.train, *found.test])
    assert all(a + length <= b for a, b in pairwise(clips))
    assert all(first >= 0 and first + length <= 200 for first in clips)
    assert not any(first < cut < first + length for first in clips for cut in cuts)
    assert max(found.train, default=-1) < min(found.test, default=200)


def test_without_a_cut_a_clips_length_is_left_out_before_the_test_part():
    found = plan(100, [], 1, 0.2)
    assert found.test == (80, 87)
    assert max(found.train) + 7 <= 73


def test_the_split_falls_on_a_scene_change_where_one_is_near():
    found = plan(250, [30, 76, 137, 187, 242], 1, 0.2)
    assert found.test[0] == 187
    assert max(found.train) + 7 <= 187


def test_a_test_part_holds_at_least_one_clip():
    assert plan(21, [], 1, 0.01).test == (14,)


def test_a_short_video_is_for_training_alone():
    found = plan(20, [], 1, 0.2)
    assert (found.train, found.test) == ((0, 7), ())


def test_without_a_test_share_all_is_for_training():
    assert plan(70, [], 1, 0.0).test == ()


def test_too_few_frames_give_nothing():
    assert plan(6, [], 1, 0.2) == plan(0, [], 1, 0.2)
    assert plan(12, [], 2, 0.2).train == ()
    assert plan(13, [], 2, 0.0).train == (0,)


def test_frames_of_a_segment_that_are_not_neighbours_keep_their_numbers():
    found = plan_clips([Segment(START, tuple(range(0, 28, 2)))], 1, 0.0)
    assert found.train == (tuple(range(0, 14, 2)), tuple(range(14, 28, 2)))


def test_a_gap_is_no_place_to_split_without_a_distance():
    """Frames on both sides of a gap may show the same scene."""
    segments = [Segment(START, tuple(range(80))), Segment(UNEVEN, tuple(range(81, 101)))]
    found = plan_clips(segments, 1, 0.2)
    assert found.train[-1][-1] < 73
    assert found.test[0][0] == 81
