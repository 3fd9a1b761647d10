import logging

import pytest

from stvsr.core.errors import CheckpointError
from stvsr.training.history import (
    History,
    Record,
    curve,
    newest_step,
    read_history,
    write_csv,
)
from tests.support.files import SPECIAL_FILES, replace_by_special

RECORDS = [
    Record(10, {"loss": 0.5, "learning_rate": 1e-3}),
    Record(20, {"loss": 0.25, "val/psnr_y": 30.125}),
    Record(30, {"val/psnr_y": 31.0}),
]


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path / "history.jsonl")
    history.cut_back(0)
    for record in RECORDS:
        history.append(record)
    return history


def test_records_are_read_as_they_were_written(history):
    assert read_history(history.path) == RECORDS


def test_a_run_without_a_history_has_no_records(tmp_path):
    assert read_history(tmp_path / "history.jsonl") == []


def test_cutting_back_and_writing_again_gives_the_same_bytes(history):
    before = history.path.read_bytes()
    again = History(history.path)
    again.cut_back(10)
    assert read_history(history.path) == RECORDS[:1]
    again.append(RECORDS[1])
    again.append(RECORDS[2])
    assert history.path.read_bytes() == before


def test_a_last_line_without_its_end_is_passed_over_and_overwritten(history):
    with history.path.open("ab") as file:
        file.write(b'{"step": 40, "lo')
    assert read_history(history.path) == RECORDS
    resumed = History(history.path)
    resumed.cut_back(30)
    resumed.append(Record(40, {"loss": 0.1}))
    assert [record.step for record in read_history(history.path)] == [10, 20, 30, 40]


def test_a_line_that_is_no_record_is_refused_with_its_number(history):
    with history.path.open("ab") as file:
        file.write(b"[]\n")
    with pytest.raises(CheckpointError, match=r"history\.jsonl, line 4: found b'\[\]'"):
        read_history(history.path)


def lines_of(history):
    return history.path.read_bytes().splitlines(keepends=True)


CHANGES = {
    "a flipped digit": (lambda a, b, c: [a, b.replace(b"30.125", b"30.126"), c], 2),
    "a lost first line": (lambda a, b, c: [b, c], 1),
    "a lost line": (lambda a, b, c: [a, c], 2),
    "a doubled line": (lambda a, b, c: [a, b, b, c], 3),
    "a line without a checksum": (lambda a, b, c: [a, b'{"step": 20, "loss": 1.0}\n', c], 2),
    "a cut line": (lambda a, b, c: [a, b[:-9] + b"\n", c], 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_or_lost_line_is_found(history, change):
    changed, line = CHANGES[change]
    history.path.write_bytes(b"".join(changed(*lines_of(history))))
    with pytest.raises(CheckpointError, match=f"line {line}: found .*; put the file back"):
        read_history(history.path)


MALFORMED = (
    *('{"step": 1, "loss": NaN}', '{"step": 1, "loss": "1"}', '{"step": 1, "loss": null}'),
    *('{"step": 1, "loss": true}', '{"step": -1}', '{"step": 1e9}', '{"loss": 1.0}', "{}", "1"),
    *("[" * 99_999, '{"step": 1, "loss": [1]}', '{"step": 1, "loss": 1e999}', "\ufeff{}"),
)


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_line_is_refused_in_one_line(tmp_path, line):
    (tmp_path / "history.jsonl").write_text(f"{line}\n")
    with pytest.raises(CheckpointError, match=r"history.jsonl, line 1: found") as caught:
        read_history(tmp_path / "history.jsonl")
    assert str(caught.value).isprintable()
    assert newest_step(tmp_path / "history.jsonl") in (0, 1)


def test_lines_of_earlier_versions_are_read_and_then_have_checksums(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 10, "loss": 0.5}\n{"step": 20, "loss": 0.25}\n')
    history = History(path)
    history.cut_back(20)
    assert read_history(path) == [Record(10, {"loss": 0.5}), Record(20, {"loss": 0.25})]
    assert path.read_bytes().count(b'"checksum"') == 2


def test_lines_lost_at_the_end_are_found_by_the_checkpoint(history):
    history.path.write_bytes(b"".join(lines_of(history)[:1]))
    resumed = History(history.path)
    with pytest.raises(CheckpointError, match=r"found 1 records up to step 30, .* after 3; put"):
        resumed.cut_back(30, records=3)


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL_FILES if kind != "a link to nothing"])
def test_a_special_file_in_its_place_is_refused(tmp_path, kind):
    replace_by_special(tmp_path / "history.jsonl", kind)
    with pytest.raises(CheckpointError, match=r"history.jsonl: cannot be read"):
        read_history(tmp_path / "history.jsonl")


def test_what_a_full_disk_does_not_take_is_written_when_it_can_be(history, monkeypatch, caplog):
    def full(*_args, **_named):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("pathlib.Path.open", full)
        history.append(Record(40, {"loss": 0.1}))
        with pytest.raises(OSError, match="No space left"):
            history.commit()
    assert "1 lines wait in memory" in caplog.records[0].getMessage()
    assert caplog.records[0].levelno == logging.WARNING
    history.append(Record(50, {"loss": 0.05}))
    assert [record.step for record in read_history(history.path)] == [10, 20, 30, 40, 50]


def test_a_curve_has_the_steps_at_which_the_metric_was_measured():
    assert curve(RECORDS, "val/psnr_y") == [(20, 30.125), (30, 31.0)]


def test_the_table_has_a_column_per_metric_and_gaps_where_nothing_was_measured(tmp_path):
    write_csv(RECORDS, tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "step,learning_rate,loss,val/psnr_y",
        "10,0.001,0.5,",
        "20,,0.25,30.125",
        "30,,,31.0",
    ]
