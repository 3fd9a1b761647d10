import logging
import math

from stvsr.core import progress as module
from stvsr.core.progress import progress


def test_without_a_terminal_items_pass_through_and_the_end_is_logged(caplog, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY", math.inf)
    with caplog.at_level(logging.INFO):
        assert list(progress(iter("abc"), total=3, what="reading letters")) == ["a", "b", "c"]
    assert caplog.messages == ["reading letters 3/3"]


def test_long_work_is_logged_on_the_way(caplog, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        list(progress(range(2), total=2, what="steps"))
    assert caplog.messages == ["steps 0/2", "steps 1/2", "steps 2/2"]


def test_the_speed_and_the_time_left_are_logged_where_items_have_a_name(caplog, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY", 0.0)
    clock = iter(range(100, 200, 2))
    monkeypatch.setattr("stvsr.core.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        list(progress(range(3), total=63, what="upscaling", done=60, unit="frames"))
    assert caplog.messages[1] == "upscaling 61/63, 0.25 frames/s, 0:00:08 left"


def test_on_a_terminal_there_is_a_bar_and_no_log(caplog, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO):
        assert list(progress([1, 2], total=2, what="rendering")) == [1, 2]
    assert caplog.messages == []
    assert "rendering" in capsys.readouterr().err
