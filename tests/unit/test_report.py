"""The report: one page that needs nothing else, and charts that say what they show."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stvsr.artifact import TrainingFacts
from stvsr.core.errors import SourceError
from stvsr.evaluation.chart import Series, line_chart, nice_ticks, tick_labels
from stvsr.evaluation.report import read_curves, write_report
from stvsr.evaluation.scores import (
    Comparison,
    Crop,
    GroupScores,
    ModelFacts,
    Quality,
    Scores,
    Strip,
)
from stvsr.project_report import report_project
from stvsr.tracking.registration import Compared, Registration, load_addresses
from tests.support.files import SPECIAL_FILES, replace_by_special
from tests.support.models import write_tiny_artifact

HISTORY = """step,learning_rate,loss,val/psnr_y_input,val/psnr_y_interpolated
10,0.0004,0.04,,
20,0.0003,0.03,30.5,28.5
30,0.0001,0.02,31.5,29.25
"""


class References(HTMLParser):
    """What a page points to, and the tags it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [value for key, value in attrs if key in ("src", "href", "xlink:href")]


def compared(network: float | None, baseline: float | None) -> Comparison:
    return Comparison(
        network=Quality(psnr_y=network, ssim_y=0.91),
        bicubic_linear=Quality(psnr_y=baseline, ssim_y=0.9),
    )


def group(clips: int, gain: float) -> GroupScores:
    return GroupScores(
        clips=clips,
        all=compared(30.0 + gain, 30.0),
        input=compared(32.0 + gain, 32.0),
        interpolated=compared(28.0 + gain, 28.0),
    )


def some_scores(**changes) -> Scores:
    model = ModelFacts(
        name="stdan-<small>",
        parameters=932427,
        step=400,
        seed=0,
        degradation="bicubic",
        data_hash="ab" * 32,
        git_commit="c0ffee",
    )
    crop = Crop(top=4, left=8, size=32)
    strip = Strip(
        clip="00001/0004", gain_psnr_y=1.25, crop=crop, input_frame=3, interpolated_frame=4
    )
    facts = {
        "model": model,
        "degradation": "bicubic",
        "data_hash": "cd" * 32,
        "frames_left_out": 0,
        "groups": {"all": group(5, 1.25), "slow": group(3, 2.0), "fast": group(2, -0.5)},
        "strips": {"slow": strip, "fast": strip},
    }
    return Scores(**{**facts, **changes})


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A folder with an evaluation and a model, as far as the report reads them."""
    strips = tmp_path / "evaluation" / "strips"
    strips.mkdir(parents=True)
    for motion in ("slow", "fast"):
        for kind in ("input", "interpolated"):
            (strips / f"{motion}_{kind}.png").write_bytes(b"\x89PNG " + motion.encode())
    (tmp_path / "evaluation" / "positions.csv").write_text(
        "frame,kind,psnr_y,bicubic_linear_psnr_y\n1,input,31,30\n2,interpolated,29,28\n"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "history.csv").write_text(HISTORY)
    return tmp_path


def report_of(line: Path, **changes) -> str:
    scores = some_scores(**changes)
    (line / "evaluation" / "scores.json").write_text(scores.model_dump_json())
    out = line / "report" / "index.html"
    write_report(line / "evaluation", line / "model", out)
    return out.read_text()


def test_a_start_stands_beside_network_and_baseline(line: Path) -> None:
    start = Quality(psnr_y=30.75, ssim_y=0.905)

    def with_start(group: GroupScores) -> GroupScores:
        kinds = {"all": group.all, "input": group.input, "interpolated": group.interpolated}
        started = {kind: c.model_copy(update={"start": start}) for kind, c in kinds.items()}
        return group.model_copy(update=started)

    scores = some_scores()
    groups = {name: with_start(group) for name, group in scores.groups.items()}
    page = report_of(line, start=scores.model, groups=groups)
    assert '<th colspan="2">Start</th>' in page
    assert "<td>30.75</td><td>0.9050</td>" in page
    assert '<td class="gain up">+1.25</td><td class="gain up">+0.50</td>' in page
    assert "Start</th>" not in report_of(line)
    with pytest.raises(ValueError, match="a start that is not scored"):
        some_scores(start=scores.model)


def test_the_page_needs_nothing_from_outside(line: Path) -> None:
    page = report_of(line)
    references = References()
    references.feed(page)
    assert len(references.found) == 4
    assert all(found.startswith("data:image/png;base64,") for found in references.found)
    assert not references.tags & {"script", "link", "iframe"}
    assert "url(" not in page
    assert "@import" not in page


def test_the_table_has_every_group_and_kind_of_frame(line: Path) -> None:
    page = report_of(line)
    table = page[page.index("<table>") : page.index("</table>")]
    assert re.findall(r"rowgroup\">(\w+)", table) == ["All", "Slow", "Fast"]
    assert table.count("<tr class=") == 9
    assert '<td class="gain up">+2.00</td>' in table
    assert '<td class="gain down">\N{MINUS SIGN}0.50</td>' in table


def test_a_missing_score_is_a_dash(line: Path) -> None:
    empty = compared(None, None)
    nothing = GroupScores(clips=1, all=empty, input=empty, interpolated=empty)
    assert '<td class="gain ">\N{EN DASH}</td>' in report_of(line, groups={"all": nothing})


def test_what_a_run_is_called_cannot_break_the_page(line: Path) -> None:
    page = report_of(line)
    assert "stdan-<small>" not in page
    assert "stdan-&lt;small&gt;" in page
    hostile = some_scores().model.model_copy(
        update={"name": "</title><script>alert(1)</script>\u202e{{ 7 * 7 }}", "git_commit": "\x1b'"}
    )
    page = report_of(line, model=hostile, degradation='"><img src=x onerror=alert(1)>')
    references = References()
    references.feed(page)
    assert "script" not in references.tags
    assert len(references.found) == 4
    assert "<title>stvsr report: &lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert r"\u202e{{ 7 * 7 }}" in page
    assert r"\x1b&#39;" in page


def test_gains_are_the_first_columns_of_the_table(line: Path) -> None:
    """A narrow screen shows them without scrolling."""
    page = report_of(line)
    row = page[page.index('<tr class="input">') :].partition("</tr>")[0]
    assert re.findall(r'<t[hd](?: class="(\w+))?', row)[:4] == ["", "", "gain", "gain"]
    assert page.index(">Gain</th>") < page.index(">Network</th>")


def test_each_kind_of_frame_has_a_curve_beside_the_baseline(line: Path) -> None:
    names = [
        f"val/{method}psnr_y_{kind}"
        for method in ("", "bicubic_linear_")
        for kind in ("input", "interpolated")
    ]
    text = f"step,{','.join(names)}\n10,30,28,29,27\n20,31,29,29,27\n"
    (line / "model" / "history.csv").write_text(text)
    page = report_of(line)
    for kind in ("input", "interpolated"):
        chart = page[page.index(f'aria-label="Validation PSNR-Y, {kind} frames"') :]
        chart = chart.partition("</svg>")[0]
        assert chart.count("<polyline") == 2
        assert "bicubic+linear" in chart


def test_date_run_machine_duration_throughput_and_recipe_are_facts(line: Path) -> None:
    card = write_tiny_artifact(line / "model")
    (line / "model" / "history.csv").write_text(
        "step,clips_per_second,step_seconds\n10,2.0,30\n20,3.0,6\n30,4.0,\n"
    )
    facts = TrainingFacts(
        began="2026-11-26 15:40 UTC",
        recipe={"steps": 400, "min_workers": None, "learning_rate": 0.0004},
        machine={"cores": 2, "gpus": 0},
        libraries={"torch": "2.13.0"},
    )
    (line / "model" / "training.json").write_text(facts.model_dump_json())
    model = some_scores().model.model_copy(update={"weights_sha256": card.weights_sha256})
    page = report_of(line, model=model)
    for fact in (
        "<dt>Begun</dt><dd>2026-11-26 15:40 UTC</dd>",
        "<dt>Duration</dt><dd>6 minutes of steps, without validation and saving</dd>",
        "<dt>Throughput</dt><dd>3 clips per second, the median</dd>",
        "<dt>Machine</dt><dd>cores 2, gpus 0, torch 2.13.0</dd>",
        "<dt>Recipe</dt><dd>steps 400, learning_rate 0.0004</dd>",
    ):
        assert fact in page
    (line / "model" / "training.json").write_text("{}")
    with pytest.raises(SourceError, match=r"training\.json: damaged \(recipe: is missing\)"):
        report_of(line, model=model)


def registration(**changes: object) -> Registration:
    values: dict[str, object] = {
        "name": "stdan",
        "version": "4",
        "alias": "champion",
        "tracking_uri": "http://tracking:5000",
        "run_id": "a",
        "weights_sha256": "",
        "decision": "better than version 3",
        "rival": "version 3",
        "sets": (
            Compared(
                set="vid4", clips=4, network=26.5, rival=26.0, difference=0.5, low=0.25, high=0.75
            ),
        ),
        **changes,
    }
    addresses = load_addresses("stdan", str(values["alias"]), values["tracking_uri"])  # type: ignore[arg-type]
    return Registration.model_validate({**values, **addresses})


def test_the_version_and_the_champion_before_are_on_the_page(line: Path) -> None:
    report_of(line)
    out = line / "page.html"

    def page_with(**changes: object) -> str:
        folder = line / "registration"
        folder.mkdir(exist_ok=True)
        (folder / "version.json").write_text(registration(**changes).model_dump_json())
        report_project(line / "evaluation", line / "model", folder, out)
        return out.read_text()

    page = page_with()
    assert "<p>stdan version 4 is champion: better than version 3.</p>" in page
    assert "<th>version 3</th>" in page
    assert '<tr><th>vid4</th><td class="gain up">+0.50</td>\n<td>+0.25 to +0.75</td>' in page
    assert 'href="http://tracking:5000/#/models/stdan/versions/4"' in page
    assert "href" not in page_with(tracking_uri=None)
    assert "href" not in page_with(tracking_uri="javascript:alert(1)")
    assert "Champion" not in page_with(weights_sha256="ab" * 32)
    report_project(line / "evaluation", line / "model", line / "nowhere", out)
    assert "Champion" not in out.read_text()


def test_another_degradation_is_said_on_the_page(line: Path) -> None:
    assert '<p class="warning">' not in report_of(line)
    page = report_of(line, degradation="pillow")
    assert "trained on <b>bicubic</b> and is scored on <b>pillow</b>" in page


def test_left_out_frames_are_said_on_the_page(line: Path) -> None:
    assert "7 frames are reproduced exactly" in report_of(line, frames_left_out=7)


def test_a_run_without_validation_has_the_other_curves(line: Path) -> None:
    (line / "model" / "history.csv").write_text("step,loss\n10,0.5\n20,0.25\n")
    page = report_of(line)
    assert 'aria-label="Training loss"' in page
    assert "Validation PSNR-Y" not in page
    assert 'aria-label="PSNR-Y by place in the clip"' in page


def test_a_model_without_history_still_has_a_report(line: Path) -> None:
    (line / "model" / "history.csv").unlink()
    assert "Training loss" not in report_of(line)


def test_a_missing_strip_is_refused_and_leaves_no_page(line: Path) -> None:
    (line / "evaluation" / "strips" / "fast_input.png").unlink()
    with pytest.raises(SourceError, match=r"fast_input\.png: no such file; run `stvsr evaluate`"):
        report_of(line)
    assert not (line / "report").exists()


def test_scores_of_other_weights_than_the_model_s_are_refused(line: Path) -> None:
    write_tiny_artifact(line / "model")
    with pytest.raises(SourceError, match=r"model: has the weights .*run `stvsr evaluate` again"):
        report_of(line)
    assert not (line / "report").exists()


def test_the_same_evaluation_gives_the_same_page(line: Path) -> None:
    assert report_of(line) == report_of(line)


def test_empty_cells_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("step,loss,val/psnr_y\n10,,30.5\n20,1e-05,\n")
    assert read_curves(path, "step")["loss"] == [(20.0, 1e-05)]


MALFORMED = {
    "no number": (b"step,loss\n10,0.5\n20,high\n", "line 3: found 'high'"),
    "a NaN": (b"step,loss\n10,nan\n", "line 2: found 'nan'"),
    "an infinity": (b"step,loss\n10,1e999\n", "line 2: found '1e999'"),
    "digits with signs between": (b"step,loss\n1_0,0.5\n", "line 2: found '1_0'"),
    "a missing cell": (b"step,loss\n10\n", "line 2: 1 cells in 2 columns"),
    "a surplus cell": (b"step,loss\n10,1,2\n", "line 2: 3 cells in 2 columns"),
    "no step": (b"step,loss\n,0.5\n", "line 2: no step"),
    "a column twice": (b"step,loss,loss\n10,1,2\n", "line 1: found"),
    "another table": (b"clip,loss\n10,1\n", "line 1: found"),
    "nothing": (b"", "no table"),
    "an open quote": (b'step,loss\n10,"0.5\n', "no table"),
    "a huge cell": (b"step,loss\n10," + b"1" * 200_000 + b"\n", "no table"),
    "a byte-order mark": ("step,loss\n10,1\n".encode("utf-8-sig"), "line 1: found"),
    "UTF-16": ("step,loss\n10,1\n".encode("utf-16"), "no table in UTF-8"),
}


@pytest.mark.parametrize(("content", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_table_is_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(SourceError, match=re.escape(reason)) as caught:
        read_curves(tmp_path / "history.csv", "step")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL_FILES if kind != "a link to nothing"])
@pytest.mark.parametrize(
    "name",
    [
        *("model/history.csv", "evaluation/positions.csv", "evaluation/scores.json"),
        "evaluation/strips/slow_input.png",
    ],
)
def test_a_special_file_in_the_place_of_an_input_is_refused(
    line: Path, name: str, kind: str
) -> None:
    report_of(line)
    replace_by_special(line / name, kind)
    with pytest.raises(SourceError, match=rf"{name}: cannot be read \("):
        write_report(line / "evaluation", line / "model", line / "report" / "index.html")


def test_scores_without_all_clips_are_refused(line: Path) -> None:
    report_of(line)
    path = line / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    faults: dict[str, dict[str, object]] = {
        "all clips are missing": {},
        "groups.odd.clips: is missing": {"odd": {}},
    }
    for reason, groups in faults.items():
        path.write_text(json.dumps(scores | {"groups": groups}))
        with pytest.raises(SourceError, match=rf"scores.json: damaged \(.*{reason}"):
            write_report(line / "evaluation", line / "model", line / "report" / "index.html")


# --- charts


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (1, 400, [100, 200, 300, 400]),
        (29.3, 30.1, [29.4, 29.6, 29.8, 30.0]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, ticks) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_outward_ticks_enclose_the_range() -> None:
    ticks = nice_ticks(29.35, 30.1, outward=True)
    assert ticks[0] <= 29.35
    assert ticks[-1] >= 30.1
    assert nice_ticks(0, 10, outward=True) == nice_ticks(0, 10)


def test_tick_labels_have_the_digits_that_tell_them_apart() -> None:
    assert tick_labels([29.5, 30.0]) == ["29.5", "30.0"]
    assert tick_labels([1000, 2000]) == ["1,000", "2,000"]
    assert tick_labels([0, 0.0001, 0.0002]) == ["0", "1.0e-4", "2.0e-4"]


def test_a_chart_is_well_formed_and_names_its_axes_and_curves() -> None:
    series = [
        Series("a & b", "network", [(0, 1.0), (10, 2.0)]),
        Series("never measured", "bicubic-linear", []),
    ]
    chart = ElementTree.fromstring(line_chart("Title", series, "step", "PSNR-Y in dB"))
    texts = [element.text for element in chart.iter("text")]
    assert {"step", "PSNR-Y in dB", "a & b"} <= set(texts)
    assert "never measured" not in texts
    (curve,) = chart.iter("polyline")
    (x0, y0), (x1, y1) = (point.split(",") for point in curve.get("points").split())  # type: ignore[union-attr]
    assert float(x0) < float(x1)
    assert float(y0) > float(y1)  # SVG counts downwards


def test_a_chart_of_one_point_is_drawn() -> None:
    assert "<circle" in line_chart("One", [Series("one", "network", [(5, 3.0)])], "x", "y")


def test_a_chart_without_points_is_empty() -> None:
    assert line_chart("None", [Series("none", "network", [])], "x", "y") == ""
