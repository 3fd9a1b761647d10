"""Names from outside are shown as they are and mean nothing to what shows them."""

import csv
import io
import json
import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.flows.stages import results_table
from stvsr.cli import main
from stvsr.core.errors import ParamsError, ShardError
from stvsr.core.escape import csv_cell, lines, markdown, one_line
from stvsr.core.log import set_up_logging
from stvsr.core.progress import progress
from stvsr.core.terminal import output
from stvsr.data.clips.layout import LeftOut, read_record, write_record
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.evaluation.scores import FrameScore
from stvsr.evaluation.tables import clips_csv, frames_csv

HOSTILE = "[/bold]\n\x1b[2J\u202e<script>|`_a_`=1 {} %s \udce9"
"""What breaks rich, a line, a terminal, the direction of text, HTML, Markdown, format and UTF-8."""

VISIBLE = r"[/bold]\n\x1b[2J\u202e<script>|`_a_`=1 {} %s \udce9"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("stvsr", "pipelines")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, VISIBLE),
        (VISIBLE, VISIBLE),
        ("00001/0266", "00001/0266"),
        ("Übung 東京 👍.mp4", "Übung 東京 👍.mp4"),
        ("a\r\tb\x85\u2028", r"a\r\tb\x85\u2028"),
    ],
)
def test_control_characters_are_escaped_and_all_others_stay(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("<script>", r"\<script\>"),
        ("`rm`\n# x", r"\`rm\`\\n\# x"),
        ("__a__ b_c _d", r"\_\_a\_\_ b_c \_d"),
        ("1.5 dB (slow)", "1.5 dB (slow)"),
    ],
)
def test_nothing_in_a_cell_is_markdown(text: str, shown: str) -> None:
    assert markdown(text) == shown


@pytest.mark.parametrize("text", ["=cmd()|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", " =1", "\t=1"])
def test_no_text_in_a_csv_file_is_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert isinstance(cell, str)
    assert cell[0] in "'\\"


def test_numbers_in_a_csv_file_stay_numbers() -> None:
    assert [csv_cell(value) for value in (-1.5, 3, None, "00001/0001")] == [
        *(-1.5, 3, None),
        "00001/0001",
    ]


def test_scores_of_a_clip_named_like_a_formula_are_text_in_every_table() -> None:
    frame = FrameScore(
        clip="-1/=2",
        motion="slow",
        frame=1,
        kind="input",
        network={"psnr_y": -1.5, "ssim_y": 0.9},
        bicubic_linear={"psnr_y": 29.0, "ssim_y": 0.8},
    )
    for table in (clips_csv([frame]), frames_csv([frame])):
        (row,) = csv.DictReader(io.StringIO(table))
        assert (row["clip"], row["psnr_y"]) == ("'-1/=2", "-1.5")


def test_a_log_message_is_one_line_in_utf_8(tmp_path: Path) -> None:
    set_up_logging(file=tmp_path / "log")
    logging.getLogger("stvsr.test").warning("%s is left out", HOSTILE)
    (line,) = (tmp_path / "log").read_bytes().split(b"\n")[:-1]
    assert line.decode()[9:] == f"{VISIBLE} is left out"


def test_an_error_is_one_line_for_each_fault() -> None:
    error = ShardError([f"{HOSTILE}: damaged", "b: missing"], remedy="write\nthem again")
    assert str(error).split("\n") == [f"{VISIBLE}: damaged", r"b: missing; write\nthem again"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_verb_names_a_hostile_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["params", "--params", str(tmp_path / "a\n\x1b[2J.yaml")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\n\x1b[2J.yaml: no such file" in line


def test_a_table_of_a_set_with_a_hostile_name_is_printed(
    tiny_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = tmp_path / "[/bold]\n[red]:smile:"
    address.parent.mkdir()
    address.symlink_to(tiny_sets / "train")
    arguments = ["shards", "show", str(address), "--out", str(tmp_path / "sheet.png")]
    assert main(arguments) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert r"[/bold]\n[red]:smile:" in printed


def test_a_console_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output(width=200).print(HOSTILE)
    assert capsys.readouterr().out == f"{VISIBLE}\n"


def test_a_progress_bar_shows_what_it_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert list(progress([1, 2], total=2, what=HOSTILE)) == [1, 2]
    assert VISIBLE in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)


def test_the_summary_of_an_index_has_no_markup_of_others(tiny_source: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in tiny_source.iterdir():
        (source / path.name).symlink_to(path)
    record = read_record(source)
    (source / "source.json").unlink()
    left_out = LeftOut(what="a\n# b.mp4", why="<img src=x>")
    write_record(source, record.model_copy(update={"left_out": (left_out,)}))
    build_index(source, tmp_path / "index", IndexConfig())
    written = (tmp_path / "index" / "summary.md").read_text()
    assert r"- a\\n\# b.mp4: \<img src=x\>" in written.split("\n")


def test_a_flow_s_table_of_results_has_no_markup_of_others(tmp_path: Path) -> None:
    file = tmp_path / "evaluation" / "metrics.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"a|b": {"<b>": "x\ny`|"}, "psnr_y": 30.123456}))
    *_, first, second = results_table(file).split("\n")
    assert first == r"| a\|b \<b\> | x\\ny\`\| |"
    assert second == "| psnr_y | 30.12 |"


def test_a_remedy_of_several_faults_stays_in_lines() -> None:
    assert ParamsError(["a", "b"]).message() == "a\nb"


def test_a_log_from_elsewhere_keeps_its_lines_and_moves_no_cursor():
    assert lines("step 1\tloss 0.5\nstep 2\n") == "step 1\tloss 0.5\nstep 2\n"
    assert lines(f"a\r{HOSTILE}\n") == "a\\r" + VISIBLE.replace("\\n", "\n", 1) + "\n"
