"""Presentation times of what is written: exact fractions of a second."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm

from stvsr.core.errors import InputError

_TIME = re.compile(r"(\d+:){0,2}\d+(\.\d+)?")

FINEST = 10_000_000
"""Ticks per second at most; times that need more of them are rounded to a microsecond."""

MICROSECOND = Fraction(1, 1_000_000)


def output_times(times: Sequence[Fraction], scale: int) -> list[Fraction]:
    """The input's times and those between each two of them, evenly spaced.

    Args:
        times: of the input's frames, rising.
        scale: of the rate; 1 adds none.
    """
    spaced = (a + (b - a) * at / scale for a, b in pairwise(times) for at in range(scale))
    return [*spaced, *times[-1:]]


def time_base(times: Sequence[Fraction]) -> Fraction:
    """The longest tick of which all times are multiples, or a microsecond if that is too short."""
    denominator = lcm(*{time.denominator for time in times})
    common = gcd(*(time.numerator * (denominator // time.denominator) for time in times))
    base = Fraction(common, denominator)
    if not base:
        return Fraction(1, 25)
    return base if base.denominator <= FINEST else MICROSECOND


def ticks(times: Iterable[Fraction], base: Fraction) -> list[int]:
    """Times in ticks of `base`, rounded half up where they are no multiples of it."""
    over, under = 2 * base.denominator, base.numerator
    return [(time.numerator * over // (time.denominator * under) + 1) // 2 for time in times]


def parse_time(text: str, option: str) -> Fraction:
    """Seconds of a time such as "75", "75.5", "1:15" or "0:01:15.5".

    Args:
        text: what was given.
        option: its name, for the error.

    Raises:
        InputError: it is of another form.
    """
    if not _TIME.fullmatch(text):
        raise InputError(f"{option}: found {text}; expected seconds, M:SS or H:MM:SS, such as 75.5")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return seconds


def parse_rate(text: str) -> Fraction:
    """Frames per second, such as "25", "29.97" or "30000/1001".

    Raises:
        InputError: it is of another form, or not in 0..1000.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(f"--rate: found {text}; expected frames per second, such as 24000/1001")
    return rate
