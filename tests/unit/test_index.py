import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.core.config import ValidationError
from stvsr.core.errors import SourceError
from stvsr.data.clips.frames import FolderFrames
from stvsr.data.clips.layout import (
    FRAMES,
    LeftOut,
    frame_path,
    read_clip_list,
    read_record,
    split_list,
    write_clip_list,
    write_record,
)
from stvsr.data.index.build import IndexConfig, build_index, read_manifest, read_root
from stvsr.data.index.inspection import Limits, inspect_clip
from stvsr.data.index.manifest import MANIFEST_NAME, read_all
from tests.support.clips import shorten_lists

CLIP = "00001/0002"
LIMITS = Limits(smallest_side=64, largest_side=4096, black_level=2)


@pytest.fixture
def source(tmp_path: Path, tiny_source: Path) -> Path:
    """A source of 4 training and 2 test clips that a test may damage."""
    folder = tmp_path / "source"
    shutil.copytree(tiny_source, folder)
    shorten_lists(folder, 4, 2)
    return folder


def paint(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def claim_to_be_huge(path: Path) -> None:
    """A PNG bomb: the header says 60000x60000."""
    content = path.read_bytes()
    header = struct.pack(">II", 60000, 60000) + content[24:29]
    check = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(content[:16] + header + check + content[33:])


def black_out(folder: Path) -> None:
    for number in FRAMES:
        paint(folder / f"im{number}.png", np.full((96, 160, 3), 2, np.uint8))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "six frames": (lambda f: (f / "im4.png").unlink(), r"6 of 7 frames: im4\.png missing"),
    "no folder": (shutil.rmtree, "the list names it, but its frames are missing"),
    "truncated": (lambda f: cut_in_half(f / "im3.png"), r"im3\.png: .*truncated"),
    "empty file": (lambda f: (f / "im1.png").write_bytes(b""), r"im1\.png: not a PNG file"),
    "text": (lambda f: (f / "im2.png").write_text("hello"), r"im2\.png: not a PNG file"),
    "bomb": (lambda f: claim_to_be_huge(f / "im1.png"), r"60000x60000 pixels; allowed: 64 to 4096"),
    "bomb inside": (lambda f: claim_to_be_huge(f / "im5.png"), r"im5\.png: a PNG of 60000x60000"),
    "another size": (
        lambda f: paint(f / "im7.png", np.zeros((96, 164, 3), np.uint8)),
        r"im7\.png: a PNG of 164x96 .* where 160x96",
    ),
    "too small": (
        lambda f: paint(f / "im1.png", np.zeros((60, 100, 3), np.uint8)),
        "100x60 pixels; allowed: 64 to 4096 on each side",
    ),
    "odd size": (
        lambda f: paint(f / "im1.png", np.zeros((97, 162, 3), np.uint8)),
        "162x97 pixels; both sides must be multiples of 4",
    ),
    "grey": (
        lambda f: paint(f / "im1.png", np.zeros((96, 160), np.uint8)),
        r"im1\.png: a PNG of 160x96 pixels, bit depth 8, colour type 0",
    ),
    "black": (black_out, r"all black \(no value above 2\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unsound_clip_is_counted_with_its_reason_and_the_stage_goes_on(
    source, tmp_path, fault, caplog
):
    damage, reason = FAULTS[fault]
    damage(source / "sequences" / CLIP)
    summary = build_index(source, tmp_path / "index", IndexConfig())
    assert (summary.splits["train"].listed, summary.splits["train"].accepted) == (4, 3)
    (rejected,) = summary.rejected
    assert (rejected.clip, rejected.split) == (CLIP, "train")
    assert CLIP not in [record.clip for record in read_manifest(tmp_path / "index", "train")]
    assert f"- train {CLIP}: {rejected.reason}" in (tmp_path / "index/summary.md").read_text()
    assert f"train {CLIP} is left out: {rejected.reason}" in caplog.text
    assert re.search(reason, rejected.reason)


def test_any_byte_that_is_damaged_is_a_verdict_and_never_an_exception(source):
    path = frame_path(source, CLIP, 1)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    reasons = set()
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(rng.integers(8, min(len(content), 200)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        reasons.add(inspect_clip(FolderFrames(source), CLIP, LIMITS).reason != "")
    assert True in reasons


def test_a_sound_source_is_accepted_whole_with_sizes_motion_and_brightness(source, tmp_path):
    summary = build_index(source, tmp_path / "index", IndexConfig())
    assert summary.rejected == ()
    records = read_all(tmp_path / "index")
    listed = [
        clip for split in ("train", "test") for clip in read_clip_list(split_list(source, split))
    ]
    assert [record.clip for record in records] == listed
    assert all((record.width, record.height) == (160, 96) for record in records)
    assert all(0.5 < record.motion_px < 1.5 for record in records)  # it drifts by 1 pixel a frame
    assert all(100 < record.brightness < 155 for record in records)
    assert all(record.motion == "slow" for record in records)


def test_thresholds_decide_the_measured_class(source, tmp_path):
    config = IndexConfig(slow_below=0.1, fast_from=0.2)
    summary = build_index(source, tmp_path / "index", config)
    assert summary.splits["train"].motion == {"slow": 0, "medium": 0, "fast": 4}
    assert (summary.slow_below, summary.fast_from) == (0.1, 0.2)


def test_a_training_clip_that_is_a_test_clip_too_is_left_out_of_training(source, tmp_path):
    train, test = (read_clip_list(split_list(source, split)) for split in ("train", "test"))
    copied = source / "sequences" / train[1]
    shutil.rmtree(copied)
    shutil.copytree(source / "sequences" / test[1], copied)
    write_clip_list(split_list(source, "train"), [*train, test[0], train[3]])
    summary = build_index(source, tmp_path / "index", IndexConfig())
    assert {(clip.clip, clip.split, clip.reason) for clip in summary.rejected} == {
        (train[1], "train", f"its frames are those of test clip {test[1]}, byte for byte"),
        (test[0], "train", "the test list has it too"),
        (train[3], "train", "its list names it twice"),
    }
    assert summary.splits["train"].accepted == 3
    assert summary.splits["test"].accepted == 2


def test_a_split_without_a_sound_clip_is_one_error_that_says_why(source, tmp_path):
    for clip in read_clip_list(split_list(source, "test")):
        frame_path(source, clip, 2).unlink()
    with pytest.raises(
        SourceError, match=r"none of its 2 clips is valid.*6 of 7 frames: im2\.png missing"
    ):
        build_index(source, tmp_path / "index", IndexConfig())
    assert not (tmp_path / "index").exists()


def test_the_index_of_a_made_source_does_not_depend_on_where_the_project_lies(source, tmp_path):
    build_index(source, tmp_path / "index", IndexConfig())
    shutil.copytree(source, tmp_path / "clone" / "source")
    build_index(tmp_path / "clone" / "source", tmp_path / "clone" / "index", IndexConfig())
    for name in ("manifest.parquet", "summary.json", "summary.md"):
        here, there = tmp_path / "index" / name, tmp_path / "clone" / "index" / name
        assert here.read_bytes() == there.read_bytes()
    assert read_root(tmp_path / "clone" / "index") == tmp_path / "clone" / "source"


def test_the_summary_shows_what_the_source_left_out(source, tmp_path):
    left_out = (LeftOut(what="tiny.mp4", why="100x60 pixels"),)
    write_record(source, read_record(source).model_copy(update={"left_out": left_out}))
    build_index(source, tmp_path / "index", IndexConfig())
    assert "- tiny.mp4: 100x60 pixels" in (tmp_path / "index/summary.md").read_text()
    summary = json.loads((tmp_path / "index/summary.json").read_text())
    assert summary["source"]["left_out"][0]["what"] == "tiny.mp4"


def test_histograms_count_every_sound_clip(tiny_index):
    summary = json.loads((tiny_index / "summary.json").read_text())
    for name in ("motion_histogram", "brightness_histogram"):
        assert sum(summary[name]["counts"]) == 15
        assert len(summary[name]["counts"]) == len(summary[name]["edges"])


def test_a_folder_that_is_no_source_says_what_to_run(tmp_path):
    with pytest.raises(SourceError, match=r"no source\.json here; run `stvsr source` first"):
        build_index(tmp_path, tmp_path / "index", IndexConfig())


def test_a_damaged_manifest_is_refused_whatever_byte_it_is(tiny_index, tmp_path):
    content = (tiny_index / MANIFEST_NAME).read_bytes()
    whole = read_all(tiny_index)
    refusals = []
    for at in range(0, len(content), 5):
        damaged = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        (tmp_path / MANIFEST_NAME).write_bytes(damaged)
        try:
            assert read_all(tmp_path) == whole
            read_root(tmp_path)
        except SourceError as refusal:
            refusals.append(str(refusal))
    assert refusals
    assert all("run `stvsr index` again" in refusal for refusal in refusals)


def test_a_folder_that_is_no_index_says_what_to_run(tmp_path):
    with pytest.raises(SourceError, match=r"no manifest\.parquet here; run `stvsr index` first"):
        read_manifest(tmp_path, "train")
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SourceError, match=r"manifest\.parquet: damaged .*run `stvsr index` again"):
        read_root(tmp_path)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"slow_below": 5, "fast_from": 5},
            "slow_below: found 5; allowed: less than fast_from 5",
        ),
        (
            {"smallest_side": 500, "largest_side": 400},
            "smallest_side: found 500; allowed: no more than largest_side 400",
        ),
    ],
)
def test_limits_that_do_not_fit_are_refused(values, text):
    with pytest.raises(ValidationError, match=text):
        IndexConfig.model_validate(values)


def test_a_motion_list_that_leads_nowhere_is_refused(tiny_source, tmp_path):
    source = shutil.copytree(tiny_source, tmp_path / "source")
    (source / "fast_testset.txt").symlink_to("nowhere")
    with pytest.raises(SourceError, match=r"fast_testset\.txt: no such list"):
        build_index(source, tmp_path / "index", IndexConfig())


def test_a_name_that_no_file_can_have_is_no_clip(tiny_source, tmp_path):
    source = shutil.copytree(tiny_source, tmp_path / "source")
    (source / "sep_testlist.txt").write_text(f"{'9' * 3_000_000}/0001\n")
    with pytest.raises(SourceError, match=r"sep_testlist\.txt, line 1: found '9+'; allowed"):
        build_index(source, tmp_path / "index", IndexConfig())
