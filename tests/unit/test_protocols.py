"""Each protocol scores the frames that its tables score, in the roles that they had there."""

from fractions import Fraction

import pytest

from stvsr.core.clip import window_starts
from stvsr.core.errors import InputError, ParamsError
from stvsr.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from stvsr.evaluation.sets import VID4_FRAMES

VID4_COUNTS = {
    "stvsr": {"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
    "zsm": {"calendar": 37, "city": 31, "foliage": 49, "walk": 43},
    "rstt": {"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
    "vsr-centre": {"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
    "videoinr-average": {"calendar": 41, "city": 33, "foliage": 49, "walk": 41},
    "videoinr-centre": {"calendar": 11, "city": 9, "foliage": 13, "walk": 11},
}


def inputs_among_scored(protocol: Protocol, frames: int) -> list[int]:
    windows = protocol.windows(frames)
    return sorted(frame for w in windows for frame in w.scored if frame in w.inputs)


@pytest.mark.parametrize("name", VID4_COUNTS)
def test_the_frames_of_vid4_that_a_protocol_scores(name: str) -> None:
    counts = {clip: len(find_protocol(name).scored_frames(n)) for clip, n in VID4_FRAMES.items()}
    assert counts == VID4_COUNTS[name]


def test_all_171_frames_are_scored_by_one_and_160_by_the_other() -> None:
    totals = {name: sum(counts.values()) for name, counts in VID4_COUNTS.items()}
    assert totals["stvsr"] == totals["rstt"] == totals["vsr-centre"] == 171
    assert totals["zsm"] == 160


def test_every_protocol_has_a_row_here() -> None:
    assert {protocol.name for protocol in PROTOCOLS} == set(VID4_COUNTS)


def test_a_septuplet_has_four_inputs_and_three_interpolated_frames() -> None:
    (window,) = find_protocol("stvsr").windows(7)
    assert window.inputs == (0, 2, 4, 6)
    assert window.scored == tuple(range(7))
    assert [window.place(frame) for frame in window.scored] == list(range(7))


def test_the_first_prediction_of_a_frame_counts() -> None:
    first, second = find_protocol("stvsr").windows(13)
    assert first.scored == (0, 1, 2, 3, 4, 5, 6)
    assert second.inputs == (6, 8, 10, 12)
    assert second.scored == (7, 8, 9, 10, 11, 12)


def test_roles_swap_in_the_last_window_of_city() -> None:
    *_, last = find_protocol("stvsr").windows(VID4_FRAMES["city"])
    assert last.inputs == (27, 29, 31, 33)
    assert last.scored == (31, 32, 33)
    inputs = inputs_among_scored(find_protocol("stvsr"), VID4_FRAMES["city"])
    assert inputs == [*range(0, 31, 2), 31, 33]


@pytest.mark.parametrize(
    ("clip", "inputs"), [("calendar", 21), ("city", 18), ("foliage", 25), ("walk", 24)]
)
def test_input_frames_of_vid4(clip: str, inputs: int) -> None:
    assert len(inputs_among_scored(find_protocol("stvsr"), VID4_FRAMES[clip])) == inputs


def test_a_network_that_doubles_the_rate_makes_the_centre_frames_and_no_others() -> None:
    (window,) = find_protocol("videoinr-average").windows(9)
    assert window.inputs == (0, 8)
    whole = [frame for frame in window.scored if window.place(frame).denominator == 1]
    assert whole == [0, 4, 8]
    assert window.place(1) == Fraction(1, 4)
    assert find_protocol("videoinr-centre").windows(9)[0].scored == (0, 4, 8)


def test_in_space_alone_every_frame_goes_in_and_the_middle_one_counts() -> None:
    windows = find_protocol("vsr-centre").windows(10)
    assert [window.scored for window in windows] == [(0, 1, 2, 3), (4,), (5,), (6, 7, 8, 9)]
    assert all(window.inputs == tuple(range(s, s + 7)) for s, window in enumerate(windows))
    assert [windows[1].place(frame) for frame in windows[1].scored] == [6]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("frames", [9, 10, 31, 47, 50])
def test_no_frame_is_scored_twice_or_before_its_window(protocol: Protocol, frames: int) -> None:
    windows = protocol.windows(frames)
    scored = [frame for window in windows for frame in window.scored]
    assert len(scored) == len(set(scored))
    assert all(
        0 <= window.inputs[0] <= frame <= window.inputs[-1] < frames
        for window in windows
        for frame in window.scored
    )


def test_a_clip_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(InputError, match="found 5 frames; protocol stvsr needs at least 7"):
        find_protocol("stvsr").windows(5)


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="found 'zms'; allowed: stvsr, zsm, rstt"):
        find_protocol("zms")


@pytest.mark.parametrize(
    ("frames", "align_last", "starts"),
    [(7, True, (0,)), (13, True, (0, 6)), (14, True, (0, 6, 7)), (14, False, (0, 6))],
)
def test_the_last_window_ends_with_the_clip(
    frames: int, align_last: bool, starts: tuple[int, ...]
) -> None:
    assert window_starts(frames, 7, 6, align_last=align_last) == starts
