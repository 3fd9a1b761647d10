"""Downloads from a real server that breaks off, forgets, changes and refuses."""

import hashlib
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stvsr.cli import main
from stvsr.core.errors import ServiceError, SourceError
from stvsr.data.clips.layout import read_clip_list, split_list
from stvsr.data.sources import download as download_module
from stvsr.data.sources.download import download
from stvsr.data.sources.fetch import VIMEO90K, MotionList, Published, fetch
from tests.support.mirror import Mirror, served
from tests.support.zips import zip_dataset

CONTENT = np.random.default_rng(0).bytes(300_000)
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with served(Mirror({"file": CONTENT})) as mirror:
        yield mirror


def get(mirror: Mirror, folder: Path) -> bytes:
    download(f"{mirror.url}/file", folder / "file", lambda _: None, AT_ONCE)
    assert [path.name for path in folder.iterdir()] == ["file"]
    return (folder / "file").read_bytes()


def ranges(mirror: Mirror) -> list[str]:
    return [wanted for _, wanted in mirror.asked]


def give_up(mirror: Mirror, folder: Path, after: int = 100_000) -> None:
    """A first run that gets some bytes and then nothing any more."""
    mirror.break_after = [after, 0, 0]
    with pytest.raises(ServiceError, match=r"failed 3 times in a row .*run the same command again"):
        download(f"{mirror.url}/file", folder / "file", lambda _: None, AT_ONCE)
    assert (folder / "file.part").read_bytes() == CONTENT[:after]
    mirror.asked.clear()


def test_a_connection_that_breaks_is_gone_on_with(mirror, tmp_path):
    mirror.break_after = [100_000, 70_000, 0, 1]
    assert get(mirror, tmp_path) == CONTENT
    assert ranges(mirror) == ["", *(f"bytes={at}-" for at in (100000, 170000, 170000, 170001))]


def test_the_next_run_goes_on_where_the_last_gave_up(mirror, tmp_path, caplog):
    give_up(mirror, tmp_path)
    caplog.set_level(logging.INFO)
    assert get(mirror, tmp_path) == CONTENT
    assert ranges(mirror) == ["bytes=100000-"]
    assert "file.part: resumes at byte 100000 of 300000" in caplog.text
    assert "fetching file, KiB 292/292" in caplog.text


def test_a_complete_part_is_not_asked_for_again(mirror, tmp_path):
    give_up(mirror, tmp_path)
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert get(mirror, tmp_path) == CONTENT
    assert mirror.asked == []


@pytest.mark.parametrize("length", [True, False])
def test_a_server_without_ranges_sends_it_again_and_that_is_said(mirror, tmp_path, caplog, length):
    give_up(mirror, tmp_path)
    mirror.ranges, mirror.length = False, length
    assert get(mirror, tmp_path) == CONTENT
    assert "file.part: begun again: the server sends no ranges, or the file changed" in caplog.text


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old(mirror, tmp_path, if_range):
    give_up(mirror, tmp_path)
    mirror.files["file"] = other = CONTENT[::-1]
    mirror.etag, mirror.if_range = '"2"', if_range
    assert get(mirror, tmp_path) == other


def test_a_file_that_became_shorter_is_fetched_anew(mirror, tmp_path):
    give_up(mirror, tmp_path)
    mirror.files["file"] = short = CONTENT[:1000]
    mirror.etag, mirror.if_range = '"2"', False
    assert get(mirror, tmp_path) == short


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_validator_nothing_is_gone_on_with(mirror, tmp_path, etag):
    mirror.etag, mirror.break_after = etag, [100_000]
    assert get(mirror, tmp_path) == CONTENT
    assert ranges(mirror) == ["", ""]


def test_a_part_of_unknown_origin_is_not_gone_on_with(mirror, tmp_path):
    (tmp_path / "file.part").write_bytes(b"something else")
    assert get(mirror, tmp_path) == CONTENT


def test_a_busy_server_is_asked_again(mirror, tmp_path, caplog):
    mirror.statuses = [503, 429]
    assert get(mirror, tmp_path) == CONTENT
    assert "the server answers 503 Service Unavailable; trying again in 0 s" in caplog.text


def refused(url: str, folder: Path) -> str:
    with pytest.raises((ServiceError, SourceError)) as refusal:
        download(url, folder / "file", lambda _: None, AT_ONCE)
    assert "\n" not in str(refusal.value)
    assert not (folder / "file").exists()
    return str(refusal.value)


def test_a_missing_file_a_page_and_a_server_that_is_down_are_one_line_each(mirror, tmp_path):
    missing = refused(f"{mirror.url}/other", tmp_path)
    assert "/other: the server answers 404 Not Found; name a mirror" in missing
    mirror.content_type = "text/html; charset=utf-8"
    assert "sends a page (text/html) and not the file" in refused(f"{mirror.url}/file", tmp_path)
    assert "failed 3 times in a row" in refused("http://127.0.0.1:9/file", tmp_path)
    assert "allowed are http:// and https://" in refused("ftp://127.0.0.1/file", tmp_path)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "other://127.0.0.1:9", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_one_line(mirror, tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    assert "proxy that cannot be used" in refused(f"{mirror.url}/file", tmp_path)


def test_too_little_room_is_said_before_anything_is_written(mirror, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage)  # type: ignore[attr-defined]
    assert "0.0 GB are free on its disk; free some" in refused(f"{mirror.url}/file", tmp_path)
    assert list(tmp_path.iterdir()) == []


# the dataset


@pytest.fixture
def dataset(tiny_source: Path, tmp_path: Path) -> Iterator[tuple[Published, Mirror, Path]]:
    """A tiny dataset, the server that has it, and the folder it is fetched to."""
    clips = {
        split: len(read_clip_list(split_list(tiny_source, split))) for split in ("train", "test")
    }
    fast = b"00003/0003"
    whole = zip_dataset(tiny_source, tmp_path / "whole.zip").read_bytes()
    motion_list = MotionList("fast_testset.txt", 1, hashlib.sha256(fast).hexdigest())
    with served(Mirror({"fast_testset.txt": fast, "vimeo.zip": whole})) as mirror:
        published = Published("vimeo.zip", mirror.url, clips, mirror.url, (motion_list,))  # type: ignore[arg-type]
        yield published, mirror, tmp_path / "out"


def test_the_dataset_comes_whole_and_a_second_run_asks_for_nothing(dataset, caplog):
    published, mirror, out = dataset
    mirror.break_after = [10**6, 20_000, 50_000]
    caplog.set_level(logging.INFO)
    fetch(published, out, waits=AT_ONCE)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == mirror.files
    assert "fast_testset.txt: 1 clips, as published" in caplog.text
    assert "vimeo.zip: 15 clips; its directory is whole" in caplog.text
    mirror.asked.clear()
    fetch(published, out, waits=AT_ONCE)
    assert mirror.asked == []


def test_another_list_or_zip_than_the_published_is_refused_and_not_kept(dataset):
    published, mirror, out = dataset
    fast, mirror.files["fast_testset.txt"] = mirror.files["fast_testset.txt"], b"00001/0001\n"
    with pytest.raises(SourceError, match=r"not the published list of 1 clips \(SHA-256 "):
        fetch(published, out, waits=AT_ONCE)
    mirror.files["fast_testset.txt"] = fast
    mirror.files["vimeo.zip"] = mirror.files["vimeo.zip"][:-50]
    with pytest.raises(SourceError, match="a truncated zip"):
        fetch(published, out, waits=AT_ONCE)
    assert [path.name for path in out.iterdir()] == ["fast_testset.txt"]


@pytest.mark.parametrize(
    ("name", "fault"), [("fast_testset.txt", "not the published list"), ("vimeo.zip", "truncated")]
)
def test_a_wrong_file_that_was_there_before_stays_until_it_is_removed(dataset, name, fault):
    published, mirror, out = dataset
    fetch(published, out, waits=AT_ONCE)
    (out / name).write_bytes(mirror.files[name][:-5])
    with pytest.raises(SourceError, match=rf"{name}: .*{fault}.*; it was there .* remove it first"):
        fetch(published, out, waits=AT_ONCE)
    (out / name).unlink()
    fetch(published, out, waits=AT_ONCE)
    assert (out / name).read_bytes() == mirror.files[name]


def test_a_zip_whose_lists_are_shorter_is_refused(dataset):
    published, mirror, out = dataset
    published.splits["train"] = 64612
    with pytest.raises(SourceError, match="its train list names 12 clips, the published one 64612"):
        fetch(published, out, waits=AT_ONCE)


def test_ctrl_c_keeps_what_came_and_the_same_command_goes_on(dataset):
    """The verb itself, whose list is refused at the end because the tiny one is not published."""
    published, mirror, out = dataset
    mirror.files["fast_testset.txt"] = CONTENT
    mirror.pause_after = [200_000]
    command = [sys.executable, "-m", "stvsr.cli", "fetch", "vimeo90k"]
    command += ["--out", str(out), "--from", mirror.url]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    part = out / "fast_testset.txt.part"
    while run.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert "interrupted; run the same command again to resume" in run.communicate()[1]
    kept = part.stat().st_size
    assert kept > 0
    assert main(command[3:]) == 1
    assert mirror.asked[-1] == (part.stem, f"bytes={kept}-")


def test_the_verb_refuses_in_one_line(tmp_path, capsys):
    with served(Mirror({})) as mirror:
        assert main(["fetch", "vimeo90k", "--out", str(tmp_path), "--from", mirror.url]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stvsr fetch: http://127.0.0.1")
    assert "fast_testset.txt: the server answers 404 Not Found" in line


def test_the_published_lists_are_those_of_the_literature():
    assert {entry.name: entry.clips for entry in VIMEO90K.lists} == {
        "fast_testset.txt": 1225,
        "medium_testset.txt": 4977,
        "slow_testset.txt": 1613,
    }
    assert all(len(entry.sha256) == 64 for entry in VIMEO90K.lists)
