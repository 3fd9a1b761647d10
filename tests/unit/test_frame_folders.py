"""Folders of numbered images: which frames become clips, or a sentence that says why not."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import FRAMES, SourceRecord, frame_path, read_record
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.sources.frames import read_image
from stvsr.data.sources.source import SourceConfig, make_source
from tests.support.videos import number_in, numbered

Names = Callable[[int], str]


def write(folder: Path, numbers: range | list[int], name: Names = "{:08d}.png".format) -> Path:
    """Images that have their own number drawn in."""
    for number in numbers:
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered(number)).save(path)
    return folder


def cut(source: Path, out: Path, **values: object) -> SourceRecord:
    config = {"kind": "frames", "path": str(source), "size": (160, 96), **values}
    return make_source(SourceConfig.model_validate(config), 0, out)


def clips(out: Path) -> list[list[int]]:
    """The numbers drawn into the frames of each clip."""
    with (out / "clips.csv").open() as file:
        names = [row["clip"] for row in csv.DictReader(file)]
    return [
        [number_in(np.asarray(Image.open(frame_path(out, clip, n)))) for n in FRAMES]
        for clip in names
    ]


def runs(*firsts: int, step: int = 1) -> list[list[int]]:
    return [[first + step * n for n in range(7)] for first in firsts]


@pytest.mark.parametrize(
    "name",
    [
        "{:08d}.png".format,
        "{}.png".format,
        "Frame {:03d}.PNG".format,
        "take2_{:04d}.jpg".format,
        "im{}_x4.png".format,
    ],
    ids=lambda name: name(7),
)
def test_numbers_are_found_in_names_and_sorted_as_numbers(tmp_path, name):
    write(tmp_path / "in" / "a", range(1, 36), name)
    record = cut(tmp_path / "in", tmp_path / "out")
    assert clips(tmp_path / "out") == runs(1, 8, 15, 29)
    assert (record.kind, record.left_out) == ("frames", ())
    assert record.provenance["a"] == (
        "160x96, 35 frames, scenes: 1; clips for training: 3, for testing: 1"
    )


def test_a_folder_of_folders_gives_an_index(tmp_path):
    for name in ("train/000", "train/001", "val/000"):
        write(tmp_path / "in" / name, range(28))
    record = cut(tmp_path / "in", tmp_path / "out")
    assert (record.train_clips, record.test_clips) == (6, 3)
    assert read_record(tmp_path / "out").kind == "frames"
    build_index(tmp_path / "out", tmp_path / "index", IndexConfig())


def test_a_folder_of_images_alone_is_one_video(tmp_path):
    record = cut(write(tmp_path / "walk", range(28)), tmp_path / "out")
    assert "walk" in record.provenance


def test_a_gap_in_the_numbers_ends_a_segment(tmp_path):
    write(tmp_path / "in" / "a", [*range(10), *range(15, 43)])
    record = cut(tmp_path / "in", tmp_path / "out")
    assert clips(tmp_path / "out") == runs(0, 15, 35)
    assert [item.why for item in record.left_out] == ["a gap, or another step than before"]


def test_every_second_number_is_an_even_step_and_frame_step_counts_images(tmp_path):
    write(tmp_path / "in" / "a", range(0, 120, 2))
    cut(tmp_path / "in", tmp_path / "out", frame_step=2)
    assert clips(tmp_path / "out") == runs(0, 26, 94, step=4)


def test_other_numbers_in_the_names_tell_several_videos_apart(tmp_path):
    write(tmp_path / "in", range(28), "cam1_{:03d}.png".format)
    write(tmp_path / "in", range(100, 128), "cam2_{:03d}.png".format)
    record = cut(tmp_path / "in", tmp_path / "out")
    assert list(record.provenance)[1:] == ["in/cam1_000.png", "in/cam2_100.png"]
    assert clips(tmp_path / "out") == runs(0, 7, 100, 107, 21, 121)


def test_a_change_of_size_and_a_damaged_image_end_a_segment(tmp_path):
    folder = write(tmp_path / "in" / "a", range(42))
    for number in range(14):
        Image.fromarray(numbered(number, 320, 192)).save(folder / f"{number:08d}.png")
    (folder / "00000024.png").write_bytes((folder / "00000024.png").read_bytes()[:-500])
    (folder / "00000033.png").write_bytes(b"no image")
    record = cut(tmp_path / "in", tmp_path / "out", size=(128, 64))
    assert "change of size: 1" in record.provenance["a"]
    assert {item.what: item.why for item in record.left_out} == {
        "a, 1 of 42 frames, the first 00000024.png": ("damaged, or predicted from what is damaged"),
        "a, 1 of 42 frames, the first 00000033.png": "not a PNG or JPEG image",
    }


def test_repeated_images_are_left_out(tmp_path):
    folder = write(tmp_path / "in" / "a", range(35))
    (folder / "00000010.png").write_bytes((folder / "00000009.png").read_bytes())
    record = cut(tmp_path / "in", tmp_path / "out")
    assert clips(tmp_path / "out") == runs(0, 11, 28)
    assert record.left_out[0].why == "repeated"


def test_hidden_side_files_are_passed_over_and_twins_are_refused(tmp_path):
    folder = write(tmp_path / "in" / "a", range(28))
    (folder / "._00000001.png").write_bytes(b"resource fork")
    write(tmp_path / "in" / "b", range(28))
    write(tmp_path / "in" / "b", [3], "{}.png".format)
    write(tmp_path / "in" / "c", range(3))
    (tmp_path / "in" / "c" / "cover.jpg").write_bytes(b"x")
    record = cut(tmp_path / "in", tmp_path / "out")
    assert {item.what: item.why for item in record.left_out} == {
        "b": "number 3 is there twice (00000003.png, 3.png)",
        "c/cover.jpg": "no number in its name",
        "c": "3 frames, no segment of the 7 that a clip spans",
    }


def test_16_bits_grey_palettes_and_opaque_alpha_become_8_bit_rgb(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    rgb = Image.fromarray((deep >> 8).astype(np.uint8))
    rgb.convert("P").save(tmp_path / "palette.png")
    rgb.convert("RGBA").save(tmp_path / "opaque.png")
    expected = {
        "deep": np.asarray(rgb),
        "grey": np.repeat(np.asarray(rgb)[..., :1], 3, axis=2),
        "palette": np.asarray(rgb.convert("P").convert("RGB")),
        "opaque": np.asarray(rgb),
    }
    for name, image in expected.items():
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), image)


def test_transparent_images_are_left_out(tmp_path):
    folder = write(tmp_path / "in" / "a", range(35))
    with Image.open(folder / "00000014.png") as image:
        image.putalpha(128)
        image.save(folder / "00000014.png")
    record = cut(tmp_path / "in", tmp_path / "out")
    assert clips(tmp_path / "out") == runs(0, 7, 28)
    assert record.left_out[0].why == "transparent pixels: flatten it first"


def test_a_photograph_is_turned_as_its_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbered(0)).save(tmp_path / "1.jpg", exif=exif)
    assert read_image(tmp_path / "1.jpg").shape == (160, 96, 3)


def test_a_folder_without_images_says_what_is_allowed(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match=r"in holds no image; allowed.*numbered images"):
        cut(tmp_path / "in", tmp_path / "out")
