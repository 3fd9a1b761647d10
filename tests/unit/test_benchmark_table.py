"""The table has every score in a row of its conditions, beside the published figures."""

import csv
import io
from pathlib import Path

import pytest

from stvsr.cli import main
from stvsr.evaluation.benchmark_table import published_score, table_csv, table_markdown
from stvsr.evaluation.published_scores import PUBLISHED
from stvsr.evaluation.scores import FrameScore, ModelFacts
from stvsr.evaluation.set_scores import SCORES_FILE, SetScores, summarise
from stvsr.evaluation.sets import SETS

MEASURED = {"psnr_y": 27.0, "ssim_y": 0.81, "psnr_rgb": 25.5, "ssim_rgb": 0.8}


def frames(psnr_y: float, clips: int) -> list[FrameScore]:
    return [
        FrameScore(
            clip=f"clip{clip}",
            motion="",
            frame=number,
            kind="input" if number % 2 else "interpolated",
            network={**MEASURED, "psnr_y": psnr_y + clip},
            bicubic_linear={**MEASURED, "psnr_y": 23.0},
        )
        for clip in range(clips)
        for number in range(1, 8)
    ]


def scores(
    method: str = "STINet",
    *,
    psnr_y: float = 26.0,
    model: str = "",
    set_: str = "vid4",
    protocol: str = "stvsr",
    degradation: str = "bicubic",
    missing: tuple[str, ...] = (),
    clips: int = 2,
) -> SetScores:
    facts = ModelFacts(
        name=model, parameters=1, step=0, seed=0, degradation="bicubic", data_hash="", git_commit=""
    )
    return SetScores(
        method=method,
        model=facts if model else None,
        set=set_,
        protocol=protocol,
        degradation=degradation,
        crop=0,
        clips=clips,
        frames=7 * clips,
        frames_left_out=0,
        missing=missing,
        interval="",
        code="",
        groups=summarise(frames(psnr_y, clips), per_folder=False),
    )


def cells(markdown: str, method: str) -> list[str]:
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {method} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_measured_and_published_figures_and_their_difference() -> None:
    row = cells(table_markdown([scores("stinet")]), "stinet")
    assert row[1] == "26.50 [26.00, 27.00]"
    assert row[2] == "0.8100 [0.8100, 0.8100]"
    assert row[3:7] == ["26.50", "26.50", "25.50", "0.8000"]
    assert row[7] == "+3.50 [+3.00, +4.00]"
    assert row[8:] == ["26.79 / 0.8049", "-0.29 / +0.0051"]


def test_the_baseline_is_beside_every_row() -> None:
    row = cells(table_markdown([scores("a"), scores("b")]), "bicubic+linear")
    assert row[1] == "23.00 [23.00, 23.00]"
    assert row[7:] == ["-", "-", "-"]


def test_the_best_is_first_and_conditions_are_not_mixed() -> None:
    markdown = table_markdown(
        [scores("low"), scores("high", psnr_y=30.0), scores("other", protocol="zsm")]
    )
    assert markdown.index("| high") < markdown.index("| low") < markdown.index("| other")
    assert markdown.count("### vid4") == 2
    assert "Protocol zsm; LR bicubic" in markdown


def test_sets_are_in_their_own_order_and_folders_last() -> None:
    names = ["folder mine", "vimeo-slow", "vid4"]
    markdown = table_markdown([scores(set_=name) for name in names])
    places = [markdown.index(f"### {name}") for name in names]
    assert places == sorted(places, reverse=True)


def test_several_sets_have_an_overview_as_papers_print_it() -> None:
    markdown = table_markdown([scores("TMNet", set_="vimeo-fast"), scores("TMNet"), scores("b")])
    lines = markdown.splitlines()
    assert lines[0] == "### PSNR-Y / SSIM-Y, protocol stvsr, LR bicubic"
    assert lines[2] == "| Method | vid4 | vimeo-fast |"
    assert sorted(lines[4:8]) == [
        "| TMNet | 26.50 / 0.8100 | 26.50 / 0.8100 |",
        "| TMNet, published | 26.43 / 0.8016 | 37.04 / 0.9435 |",
        "| b | 26.50 / 0.8100 | - |",
        "| bicubic+linear | 23.00 / 0.8100 | 23.00 / 0.8100 |",
    ]
    assert "### PSNR-Y" not in table_markdown([scores("TMNet")])


def test_a_partial_set_is_marked_and_not_compared_with_published_figures() -> None:
    markdown = table_markdown([scores(missing=("city: no such clip",))])
    assert "### vid4, partial" in markdown
    assert cells(markdown, "STINet")[8:] == ["-", "-"]


@pytest.mark.parametrize(
    ("score", "psnr_y"),
    [
        (scores("anything", model="stdan-published"), 26.28),
        (scores("anything", model="zooming_slowmo-published"), 26.31),
        (scores("anything", model="rstt-L"), 26.43),
        (scores("anything", model="tmnet-published"), 26.43),
        (scores("anything", model="rstt-S"), None),
        (scores("STDAN", model="stdan-small"), None),
        (scores("tmnet"), 26.43),
        (scores("RSTT-L", set_="vimeo-fast"), 36.80),
        (scores("STDAN", set_="folder vid4"), None),
        (scores("STDAN", protocol="zsm"), 26.28),
        (scores("STDAN", protocol="vsr-centre"), None),
        (scores("STDAN", degradation="gaussian-bd (sigma 1.6)"), None),
        (scores("STDAN", degradation="read from BIx4"), 26.28),
        (scores("duf"), None),
    ],
)
def test_published_figures_are_only_those_of_the_same_method_and_set(
    score: SetScores, psnr_y: float | None
) -> None:
    published = published_score(score)
    assert (published.psnr_y if published else None) == psnr_y


def test_published_figures_are_of_known_sets() -> None:
    known = {known.name for known in SETS}
    assert {name for figures in PUBLISHED.values() for name in figures} <= known


def test_one_clip_has_no_interval_in_the_table() -> None:
    assert cells(table_markdown([scores(clips=1)]), "STINet")[1] == "26.00"


def test_a_method_name_cannot_break_the_table() -> None:
    markdown = table_markdown([scores("a | b\nc")])
    assert "| a \\| b c |" in markdown


def test_the_csv_has_every_measure_and_kind_of_frame() -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv([scores()]))))
    assert {(row["kind"], row["measure"]) for row in rows} == {
        (kind, measure) for kind in ("all", "input", "interpolated") for measure in MEASURED
    }
    (row,) = [row for row in rows if (row["kind"], row["measure"]) == ("all", "psnr_y")]
    assert float(row["mean"]) == 26.5
    assert float(row["bicubic_linear"]) == 23.0
    assert float(row["published"]) == 26.79
    assert float(row["difference"]) == pytest.approx(-0.29)
    assert {row["published"] for row in rows if row["kind"] == "input"} == {""}


def test_the_command_finds_all_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        path = tmp_path / "scores" / name / SCORES_FILE
        path.parent.mkdir(parents=True)
        path.write_text(scores(name).model_dump_json())
    assert main(["table"]) == 0
    assert capsys.readouterr().out == (tmp_path / "tables/table.md").read_text()
    assert "| two |" in (tmp_path / "tables/table.md").read_text()
    assert len((tmp_path / "tables/table.csv").read_text().splitlines()) == 1 + 2 * 12
    assert main(["table", "scores/one"]) == 0
    assert "| two |" not in (tmp_path / "tables/table.md").read_text()


def test_a_table_without_scores_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["table"]) == 1
    assert capsys.readouterr().err == (
        "stvsr table: scores: found no score; run `stvsr score` first, or name its folder\n"
    )
    assert not (tmp_path / "tables").exists()
