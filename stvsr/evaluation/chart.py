"""Line charts as inline SVG: axes, ticks, labels, a legend; colours come from the page's CSS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 300
"""Size of a chart in SVG units; the page scales it."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 34, 44
_TICKS = 6
_MARKED_POINTS = 24


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: its name in the legend.
        style: CSS class that gives its colour, such as "network".
        points: (x, y), x ascending, finite.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str) -> str:
    """An SVG element with all curves that have points; empty text where none has."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    xs = [x for one in drawn for x, _ in one.points]
    ys = [y for one in drawn for _, y in one.points]
    x_ticks = nice_ticks(min(xs), max(xs))
    y_ticks = nice_ticks(min(ys), max(ys), outward=True)
    x_axis = _Axis(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y_axis = _Axis(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(_y_tick(y_axis, tick, y_ticks) for tick in y_ticks),
        *(_x_tick(x_axis, tick, x_ticks) for tick in x_ticks),
        *(_curve(one, x_axis, y_axis) for one in drawn),
        _legend(drawn),
        f'<text class="axis" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escape(x_label)}</text>',
        f'<text class="axis" transform="translate(13 {(_TOP + HEIGHT - _BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
        "</svg>",
    ]
    return "\n".join(parts)


def nice_ticks(low: float, high: float, *, outward: bool = False) -> list[float]:
    """Three to eight round numbers, in steps of 1, 2 or 5 times a power of ten.

    They are within [low, high], or with `outward` just enclose it; one value alone gets itself as
    its only tick.
    """
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    round_low, round_high = (math.floor, math.ceil) if outward else (math.ceil, math.floor)
    slack = 1e-9 if outward else -1e-9
    first, last = round_low(low / step + slack), round_high(high / step - slack)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks in as few digits as tell them apart; very small ones in powers of ten."""
    largest = max(abs(tick) for tick in ticks)
    if 0 < largest < 1e-2:
        return [f"{tick:.1e}".replace("e-0", "e-") if tick else "0" for tick in ticks]
    digits = 0
    while digits < 4 and any(abs(round(tick, digits) - tick) > 1e-9 for tick in ticks):
        digits += 1
    return [f"{tick:,.{digits}f}" for tick in ticks]


@dataclass(frozen=True)
class _Axis:
    """Values low..high onto SVG units start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def _y_tick(axis: _Axis, tick: float, ticks: Sequence[float]) -> str:
    y, label = axis.at(tick), tick_labels(ticks)[list(ticks).index(tick)]
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text class="tick" x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{label}</text>'
    )


def _x_tick(axis: _Axis, tick: float, ticks: Sequence[float]) -> str:
    x, label = axis.at(tick), tick_labels(ticks)[list(ticks).index(tick)]
    base = HEIGHT - _BOTTOM
    return (
        f'<line class="stroke" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>'
        f'<text class="tick" x="{x}" y="{base + 18}" text-anchor="middle">{label}</text>'
    )


def _curve(series: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in series.points]
    line = " ".join(f"{x},{y}" for x, y in places)
    dots = ""
    if len(places) <= _MARKED_POINTS:
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in places)
    return f'<g class="curve {escape(series.style)}"><polyline points="{line}"/>{dots}</g>'


def _legend(series: Sequence[Series]) -> str:
    entries, x = [], float(_LEFT)
    for one in series:
        entries.append(
            f'<g class="curve {escape(one.style)}">'
            f'<line x1="{x}" x2="{x + 20}" y1="14" y2="14"/></g>'
            f'<text class="tick" x="{x + 26}" y="18">{escape(one.label)}</text>'
        )
        x += 46 + 7.2 * len(one.label)
    return "".join(entries)
