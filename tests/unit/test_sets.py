"""A benchmark set is whole, or what is missing of it is named."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.core.errors import ParamsError, SourceError
from stvsr.evaluation.sets import SETS, VID4_FRAMES, find_set, open_set, refuse_incomplete
from tests.support.clips import write_clip
from tests.support.zips import zip_dataset


def touch_clip(root: Path, name: str, frames: int) -> None:
    (root / name).mkdir(parents=True)
    for number in range(frames):
        (root / name / f"{number:08d}.png").touch()


@pytest.fixture
def vid4(tmp_path: Path) -> Path:
    """Names and numbers of Vid4, without pixels: opening a set reads none."""
    for name, frames in VID4_FRAMES.items():
        touch_clip(tmp_path / "GT", name, frames)
        touch_clip(tmp_path / "BIx4", name, frames)
    return tmp_path


def write_image(path: Path, width: int = 32, height: int = 32, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height)).save(path)


# --- what the sets are


@pytest.mark.parametrize(
    ("name", "clips"),
    [
        ("vid4", 4),
        ("vimeo-fast", 1225),
        ("vimeo-medium", 4977),
        ("vimeo-slow", 1613),
        ("spmc", 11),
        ("adobe240", 4),
        ("gopro", 11),
        ("stvt", 12),
    ],
)
def test_a_set_has_its_published_number_of_clips(name: str, clips: int) -> None:
    known = find_set(name)
    assert known is not None
    assert known.clips == clips


def test_every_set_has_a_name_of_its_own() -> None:
    assert len({known.name for known in SETS}) == len(SETS) == 8


def test_vid4_has_171_frames() -> None:
    assert sum(VID4_FRAMES.values()) == 171


# --- folders of frames


def test_a_whole_vid4_opens(vid4: Path) -> None:
    opened = open_set("vid4", vid4)
    assert opened.missing == ()
    assert {clip.name: len(clip.hr) for clip in opened.clips} == VID4_FRAMES
    assert all(clip.lr is None for clip in opened.clips)
    refuse_incomplete(opened)


def test_lr_frames_are_read_where_the_set_brings_them(vid4: Path) -> None:
    clips = open_set("vid4", vid4, lr_folder="BIx4").clips
    assert all(clip.lr is not None and len(clip.lr) == len(clip.hr) for clip in clips)


@pytest.mark.parametrize(
    ("removed", "fault"),
    [
        (["GT/city"], "city: no such clip"),
        (["GT/walk/00000046.png"], "walk: 47 frames in BIx4 for 46 HR frames"),
        (["GT/walk/00000007.png", "GT/walk/00000009.png"], "walk: frame 7, 9 is missing"),
        (["BIx4/walk/00000007.png"], "walk: 46 frames in BIx4 for 47 HR frames"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_scored(
    vid4: Path, removed: list[str], fault: str
) -> None:
    for name in removed:
        path = vid4 / name
        path.rename(vid4 / "aside") if path.is_dir() else path.unlink()
    opened = open_set("vid4", vid4, lr_folder="BIx4")
    assert fault in opened.missing
    assert len(opened.clips) == 3
    with pytest.raises(SourceError, match=re.escape(fault) + r".*pass --partial"):
        refuse_incomplete(opened)


def test_a_clip_that_ends_early_is_named_with_both_counts(vid4: Path) -> None:
    (vid4 / "GT/walk/00000046.png").unlink()
    assert open_set("vid4", vid4).missing == ("walk: 46 of 47 frames",)


def test_a_clip_that_is_not_of_the_set_is_named_and_not_scored(vid4: Path) -> None:
    touch_clip(vid4 / "GT", "park", 40)
    opened = open_set("vid4", vid4)
    assert opened.missing == ("park: no clip of vid4",)
    assert "park" not in {clip.name for clip in opened.clips}


def test_a_set_of_too_few_clips_says_how_many(tmp_path: Path) -> None:
    for number in range(10):
        touch_clip(tmp_path, f"clip{number}", 31)
    assert open_set("spmc", tmp_path).missing == ("found 10 of 11 clips",)


def test_a_set_that_is_not_there_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere: no such folder.*vid4 \(4 clips\).*get it fro"):
        open_set("vid4", tmp_path / "nowhere")


def test_any_folder_of_clips_is_a_set(tmp_path: Path) -> None:
    touch_clip(tmp_path, "b/one", 9)
    touch_clip(tmp_path, "a", 7)
    opened = open_set(str(tmp_path))
    assert [clip.name for clip in opened.clips] == ["a", "b/one"]
    assert opened.missing == ()


def test_what_is_no_set_and_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"found 'vidd4'.*allowed: vid4, vimeo-fast"):
        open_set("vidd4")
    with pytest.raises(SourceError, match="found no clip; expected one folder for each clip"):
        open_set(str(tmp_path))


def test_lr_frames_that_a_set_does_not_bring_are_refused(vid4: Path) -> None:
    with pytest.raises(ParamsError, match=r"--lr: found no .*BDx4 beside .*GT"):
        open_set("vid4", vid4, lr_folder="BDx4")


# --- frames


@pytest.mark.parametrize(
    ("mode", "reason"), [("L", "colour type 0"), ("RGBA", "colour type 6"), ("P", "colour type 3")]
)
def test_a_frame_that_is_not_8_bit_rgb_is_refused_by_name(
    tmp_path: Path, mode: str, reason: str
) -> None:
    write_image(tmp_path / "clip" / "001.png", mode=mode)
    (clip,) = open_set(str(tmp_path)).clips
    with pytest.raises(SourceError, match=rf"001\.png: .*{reason}.*8-bit RGB"):
        clip.hr.read(0)


def test_a_png_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    write_image(tmp_path / "clip" / "001.png")
    path = tmp_path / "clip" / "001.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    (clip,) = open_set(str(tmp_path)).clips
    with pytest.raises(SourceError, match=r"001\.png: a PNG of 60000x60000 pixels; at most"):
        clip.hr.read(0)


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        write_image(tmp_path / "clip" / f"im{number}.png", width=number)
    (clip,) = open_set(str(tmp_path)).clips
    assert [clip.hr.read(place).shape[1] for place in range(3)] == [9, 10, 11]


# --- Vimeo-90K


def test_a_motion_class_of_vimeo90k_is_read_by_its_list(tmp_path: Path) -> None:
    write_clip(tmp_path, "00001/0001", seed=1)
    (tmp_path / "sequences/00001/0002").mkdir()
    (tmp_path / "fast_testset.txt").write_text("00001/0001\n00001/0002")
    opened = open_set("vimeo-fast", tmp_path)
    (clip,) = opened.clips
    assert (clip.name, clip.motion, len(clip.hr)) == ("00001/0001", "fast", 7)
    assert clip.hr.read(6).shape == (96, 160, 3)
    assert np.any(clip.hr.read(0) != clip.hr.read(1))
    assert opened.missing == (
        "00001/0002: frame 1, 2, 3, 4, 5, 6, 7 is missing",
        "the list names 2 of 1225 clips",
    )


def test_a_motion_class_is_read_from_the_zip_as_it_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "unpacked", "00001/0001", seed=1)
    (tmp_path / "zipped").mkdir()
    zip_dataset(tmp_path / "unpacked", tmp_path / "zipped" / "vimeo_septuplet.zip")
    (tmp_path / "zipped/slow_testset.txt").write_text("00001/0001")
    (zipped,) = open_set("vimeo-slow", tmp_path / "zipped").clips
    (folder,) = open_set(str(tmp_path / "unpacked/sequences")).clips
    assert zipped.name == folder.name == "00001/0001"
    for place in range(7):
        assert np.array_equal(zipped.hr.read(place), folder.hr.read(place))


def test_a_vimeo90k_without_the_list_says_so(tmp_path: Path) -> None:
    write_clip(tmp_path, "00001/0001", seed=1)
    with pytest.raises(SourceError, match=r"slow_testset\.txt: no such list"):
        open_set("vimeo-slow", tmp_path)
