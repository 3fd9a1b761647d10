"""After every step exactly what is due is done, in an order that makes checkpoints complete."""

import pytest

from stvsr.training.due import AfterStep, Due, End, Intervals, Validation, due, validation_due

EVERY = Intervals(log=10, checkpoint=50, validate=100)


def after(step: int, *, broken: bool = False, stop: bool = False) -> AfterStep:
    return AfterStep(step=step, steps=300, is_broken=broken, stop_requested=stop)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (after(99), Validation.NONE),
        (after(100), Validation.INTERRUPTIBLE),
        (after(100, stop=True), Validation.POSTPONED),
        (after(100, broken=True), Validation.COMPLETE),
        (after(100, broken=True, stop=True), Validation.COMPLETE),
        (after(99, stop=True), Validation.NONE),
        (after(300), Validation.COMPLETE),
        (after(300, stop=True), Validation.COMPLETE),
    ],
)
def test_a_validation_waits_for_nobody_and_the_last_one_is_complete(
    now: AfterStep, expected: Validation
) -> None:
    assert validation_due(now, EVERY) is expected


def test_no_step_is_validated_without_an_interval() -> None:
    never = Intervals(log=10, checkpoint=50, validate=0)
    assert validation_due(after(300), never) is Validation.NONE


def decided(now: AfterStep, *, scored: bool = False, postponed: bool = False) -> Due:
    return due(now, EVERY, has_score=scored, is_postponed=postponed)


NOTHING = Due(log=False, save=False, save_must_succeed=False, end=End.NONE)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (decided(after(7)), NOTHING),
        (decided(after(20)), Due(True, False, False, End.NONE)),
        (decided(after(50)), Due(True, True, False, End.NONE)),
        (decided(after(7), scored=True), Due(False, True, False, End.NONE)),
        (decided(after(7, stop=True)), Due(False, True, True, End.STOPPED)),
        (decided(after(20, stop=True)), Due(True, True, True, End.STOPPED)),
        (decided(after(100), postponed=True), Due(False, True, True, End.STOPPED)),
        (decided(after(100, stop=True), postponed=True), Due(False, True, True, End.STOPPED)),
        (decided(after(7, broken=True)), Due(False, True, False, End.BROKEN)),
        (decided(after(7, broken=True, stop=True)), Due(False, True, False, End.BROKEN)),
        (decided(after(300), scored=True), Due(True, True, True, End.NONE)),
        (decided(after(300, stop=True), scored=True), Due(True, True, True, End.NONE)),
        (decided(after(300, broken=True)), Due(True, True, True, End.BROKEN)),
    ],
)
def test_what_is_due_after_a_step(found: Due, expected: Due) -> None:
    assert found == expected


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("step", [1, 10, 50, 100, 300])
def test_a_run_never_leaves_without_a_checkpoint(step: int, stop: bool, broken: bool) -> None:
    now = after(step, stop=stop, broken=broken)
    for postponed in {False, validation_due(now, EVERY) is Validation.POSTPONED}:
        found = decided(now, postponed=postponed)
        assert found.save or found.end is End.NONE
        assert found.save or not now.is_last
