"""The page of the table: pictures of the same places, side by side, in one file."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stvsr.cli import main
from stvsr.core.errors import SourceError
from stvsr.evaluation.benchmark_table import write_table
from stvsr.evaluation.clip_pictures import (
    PICTURED,
    pictured_frame,
    read_picture,
    read_pictured,
)
from stvsr.evaluation.protocols import find_protocol
from stvsr.evaluation.table_page import DIFFERENCE_GAIN, difference_map, most_different_crop
from tests.support.sets import save, write_set
from tests.unit.test_score import write_outputs

CLIPS = {"one": 9, "three": 7, "two": 7, "zero": 7}
IMAGE = re.compile(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"')


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of two methods; the second one's first clip has a white spot in every frame."""
    root = tmp_path_factory.mktemp("project")
    write_set(root / "set", CLIPS, size=(192, 160))
    write_outputs(root / "a", root / "set", CLIPS)
    write_outputs(root / "b", root / "set", CLIPS, shift=8)
    for path in (root / "b/one").iterdir():
        image = np.asarray(Image.open(path)).copy()
        image[140:150, 170:180] = 255
        save(path, image)
    for name in "ab":
        arguments = ["--set", str(root / "set"), "--out", str(root / "scores" / name)]
        assert main(["score", "--outputs", str(root / name), *arguments]) == 0
    return root


def page(project: Path, out: Path, *names: str) -> str:
    write_table([project / "scores" / name for name in names], out)
    return (out / "table.html").read_text()


def images(html: str) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for label, content in IMAGE.findall(html):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        found.setdefault(label, []).append(image)
    return found


def test_a_score_has_pictures_of_a_few_clips(project: Path) -> None:
    pictured = read_pictured(project / "scores/a")
    assert [shown.clip for shown in pictured.values()] == ["one", "three", "two"]
    assert len(pictured) == PICTURED
    stem, shown = next(iter(pictured.items()))
    truth = np.asarray(Image.open(project / f"set/GT/one/{shown.frame - 1:04d}.png"))
    assert np.array_equal(read_picture(stem, "truth").permute(1, 2, 0).numpy(), truth)
    method = np.asarray(Image.open(project / f"a/one/{shown.frame - 1:04d}.png"))
    assert np.array_equal(read_picture(stem, "method").permute(1, 2, 0).numpy(), method)


def test_a_temporal_profile_is_one_row_of_every_scored_frame(project: Path) -> None:
    stem, shown = next(iter(read_pictured(project / "scores/a").items()))
    profile = read_picture(stem, "profile_truth").permute(1, 2, 0).numpy()
    for frame in range(9):
        truth = np.asarray(Image.open(project / f"set/GT/one/{frame:04d}.png"))
        assert np.array_equal(profile[frame], truth[shown.row, shown.left : shown.left + 192])
    assert len(profile) == 9


@pytest.mark.parametrize(
    ("protocol", "frames", "shown"), [("stvsr", 7, 3), ("stvsr", 34, 17), ("vsr-centre", 9, 4)]
)
def test_the_pictured_frame_is_an_interpolated_one_where_there_is_one(
    protocol: str, frames: int, shown: int
) -> None:
    assert pictured_frame(find_protocol(protocol), frames) == shown


def test_the_page_has_all_methods_side_by_side(project: Path, tmp_path: Path) -> None:
    found = images(page(project, tmp_path / "t", "a", "b"))
    for method in ("a", "b", "bicubic+linear"):
        for kind in ("crop", "difference map", "temporal profile"):
            assert len(found[f"{kind}, {method}"]) == PICTURED
    assert len(found["crop, ground truth"]) == PICTURED
    assert "difference map, ground truth" not in found
    assert {image.shape for image in found["crop, a"]} == {(128, 128, 3)}
    brighter = round(4 * 219 / 255 * DIFFERENCE_GAIN)  # a is brighter by 4 of 255 in R, G and B
    assert {int(image.max()) for image in found["difference map, a"]} == {brighter}


def test_crops_are_where_a_method_differs_most(project: Path, tmp_path: Path) -> None:
    first = images(page(project, tmp_path / "t", "b"))["crop, b"][0]
    assert (first == 255).all(axis=2).sum() == 100


def test_two_scores_of_one_name_are_both_shown(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "scores/a", tmp_path / "a")
    write_table([project / "scores/a", tmp_path / "a"], tmp_path / "t")
    found = images((tmp_path / "t/table.html").read_text())
    assert len(found["crop, a"]) == len(found["crop, a (2)"]) == PICTURED


def test_the_page_loads_nothing_and_escapes_names(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    arguments = ["--set", str(project / "set"), "--out", str(folder), "--name", "<b>&"]
    assert main(["score", "--outputs", str(project / "a"), *arguments]) == 0
    write_table([folder], tmp_path / "t")
    html = (tmp_path / "t/table.html").read_text()
    assert "&lt;b&gt;&amp;" in html
    assert "<b>&" not in html
    assert not re.search(r"https?:|<script|<link|url\(|@import", html)
    assert set(re.findall(r'src="([^:]*):', html)) == {"data"}


def test_a_score_without_pictures_has_a_table_alone(project: Path, tmp_path: Path) -> None:
    content = (project / "scores/a/scores.json").read_bytes()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/scores.json").write_bytes(content)
    write_table([tmp_path / "old"], tmp_path / "t")
    html = (tmp_path / "t/table.html").read_text()
    assert '<th scope="row">a</th>' in html
    assert "<img" not in html


@pytest.mark.parametrize("name", ["01.json", "01_truth.png", "02_profile_method.png"])
def test_a_damaged_picture_is_named(project: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(project / "scores/a", tmp_path / "a")
    (tmp_path / "a/pictures" / name).write_bytes(b"damaged")
    with pytest.raises(SourceError, match=rf"{name}: .*run `stvsr score` again"):
        write_table([tmp_path / "a"], tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_difference_map_is_black_where_frames_are_equal() -> None:
    truth = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    assert not difference_map(truth, truth).any()
    assert most_different_crop([truth], truth, 128).size == 8
