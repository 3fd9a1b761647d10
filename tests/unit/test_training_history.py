import logging

import pytest

from stvsr.core.errors import CheckpointError
from stvsr.training.history import History, Record, curve, read_history, write_csv

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
