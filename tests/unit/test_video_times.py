"""Presentation times: exact middles, ticks that hold them, no drift."""

from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest

from stvsr.core.errors import InputError
from stvsr.video.mux import decoding_times
from stvsr.video.times import output_times, parse_rate, parse_time, ticks, time_base


def test_output_frames_stand_at_the_inputs_times_and_in_the_middle_between_them() -> None:
    times = [Fraction(n, 90000) for n in (0, 3003, 6006, 15015)]
    doubled = output_times(times, 2)
    assert doubled[::2] == times
    assert doubled[1::2] == [(a + b) / 2 for a, b in pairwise(times)]
    assert output_times(times, 1) == times
    assert output_times(times[:1], 2) == times[:1]
    assert output_times([], 2) == []
    tripled = output_times(times[1:], 3)
    assert tripled == [n * times[1] / 3 for n in (3, 4, 5, 6, 9, 12, 15)]


@pytest.mark.parametrize(
    "step", [Fraction(1, 25), Fraction(1001, 24000), Fraction(1001, 30000), Fraction(1, 60)]
)
def test_an_hour_of_frames_does_not_drift(step: Fraction) -> None:
    times = [n * step for n in range(int(3600 / step))]
    doubled = output_times(times, 2)
    base = time_base([*doubled, times[-1] + step])
    stamps = ticks(doubled, base)
    assert base == step / 2
    assert stamps == list(range(len(doubled)))


def test_many_minutes_of_uneven_frames_does_not_drift() -> None:
    steps = np.random.default_rng(0).integers(20, 60, 20_000)
    times = [Fraction(int(n), 1000) for n in accumulate(steps)]
    doubled = output_times(times, 2)
    base = time_base(doubled)
    assert all(
        stamp * base == time for stamp, time in zip(ticks(doubled, base), doubled, strict=True)
    )
    assert base.denominator <= 2000


def test_ticks_that_are_too_short_for_a_container_are_microseconds() -> None:
    times = [Fraction(0), Fraction(1, 999_999_937)]
    assert time_base(times) == Fraction(1, 1_000_000)


def test_decoding_times_rise_and_are_never_after_presentation() -> None:
    shown = np.cumsum(np.random.default_rng(1).integers(1, 9, 40)).astype(np.int64)
    stored = np.concatenate([part[[0, 4, 2, 1, 3]] for part in np.split(shown, 8)])
    decoded = decoding_times(stored, shown)
    assert (np.diff(decoded) > 0).all()
    assert (decoded <= stored).all()
    assert (decoding_times(shown, shown) == shown).all()


@pytest.mark.parametrize(
    ("text", "seconds"), [("75", 75), ("75.5", Fraction(151, 2)), ("1:15", 75), ("1:00:01", 3601)]
)
def test_times_are_seconds_or_hours_minutes_and_seconds(text: str, seconds: Fraction) -> None:
    assert parse_time(text, "--start") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1m", "1:2:3:4", "nan", "1e9"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--end: found"):
        parse_time(text, "--end")


@pytest.mark.parametrize("text", ["0", "-5", "x", "1/0", "5000"])
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--rate: found"):
        parse_rate(text)
