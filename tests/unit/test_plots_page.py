"""The page of `dvc plots show` draws what DVC gives it, without the libraries of DVC's own page."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / ".dvc" / "plots" / "page.html"

DRAW = """
globalThis.document = { querySelector: (name) => ({ set innerHTML(html) { console.log(html); } }) };
vegaEmbed("#plot", %s);
"""


def spec(values: list[dict[str, object]], **encoding: object) -> dict[str, object]:
    """What DVC's template `simple` comes to."""
    axes = {"x": {"field": "step", "title": "step"}, "y": {"field": "loss"}}
    colors = {"field": "rev", "scale": {"domain": ["a<b", "main"], "range": ["red", "blue"]}}
    return {
        "title": {"text": "Loss"},
        "data": {"values": values},
        "encoding": {**axes, "color": colors, "strokeDash": {}, **encoding},
    }


def drawn(given: dict[str, object]) -> str:
    script = re.search("<script>(.*)</script>", PAGE.read_text(), re.DOTALL)
    assert script
    program = script[1] + DRAW % json.dumps(given)
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_draws_a_line_for_each_revision() -> None:
    values: list[dict[str, object]] = [
        {"step": str(step), "loss": loss, "rev": rev}
        for rev, losses in (("main", ("4", "3", "2")), ("a<b", ("5", "", "1")))
        for step, loss in enumerate(losses)
    ]
    chart = drawn(spec(values))
    assert re.findall(r'stroke="(\w+)" stroke-dasharray="none" d="M[\d.]+ ', chart) == [
        *("blue", "red"),
        *("blue", "red"),  # the legend
    ]
    assert [line.count("L") for line in re.findall(r' d="(M[^"]*L[^"]*)"', chart)] == [2, 1]
    assert "a&lt;b" in chart
    assert "a<b" not in chart
    assert ">Loss</text>" in chart
    assert ">step</text>" in chart


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_says_what_it_cannot_draw() -> None:
    assert "No values yet" in drawn(spec([{"step": "1", "loss": "", "rev": "main"}]))
    assert "lines alone" in drawn(spec([], y={"aggregate": "count"}))


def test_the_page_has_a_place_for_the_plots_and_loads_nothing() -> None:
    page = PAGE.read_text()
    assert "\n{plot_divs}\n" in page
    assert "{scripts}" not in page
    assert "http" not in page.replace("http-equiv", "")
