"""The door to our HTML pages: whatever is put into one is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from stvsr.core.escape import one_line

GAIN_SHOWN = 0.005
"""Gains smaller than this, in dB, are neither coloured as better nor as worse."""


def page_template(name: str) -> Template:
    """A page of this folder; whatever is put into it is escaped, a misspelt name is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=_in_one_line,
    )
    environment.filters |= {"number": _shown, "direction": _direction}
    return environment.get_template(name)


def _in_one_line(value: object) -> object:
    """A text from outside without control characters; our own markup as it is."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _direction(gain: float | None) -> str:
    """CSS class of a gain in dB."""
    return "" if gain is None or abs(gain) < GAIN_SHOWN else "up" if gain > 0 else "down"


def _shown(value: float | None, spec: str) -> str:
    return "\N{EN DASH}" if value is None else format(value, spec).replace("-", "\N{MINUS SIGN}")
