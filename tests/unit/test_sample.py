import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import (
    FRAMES,
    MOTIONS,
    frame_path,
    motion_list,
    read_clip_list,
    split_list,
)
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.index.manifest import read_all
from stvsr.data.sources import sample
from stvsr.data.sources.sample import BACKGROUNDS, CUTOUTS, make_sample

SIZE = (224, 128)


def rendered(folder: Path, train: int = 3, test: int = 3, seed: int = 0) -> Path:
    folder.mkdir()
    make_sample(train, test, SIZE, seed, folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("sample") / "source")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_layout_is_vimeo90ks(tiny):
    for split, first in (("train", "00001/0001"), ("test", "00501/0001")):
        clips = read_clip_list(split_list(tiny, split))  # type: ignore[arg-type]
        assert len(clips) == 3
        assert clips[0] == first
        for clip in clips:
            for frame in FRAMES:
                with Image.open(frame_path(tiny, clip, frame)) as image:
                    assert (image.size, image.mode, image.format) == (SIZE, "RGB", "PNG")


def test_each_motion_class_has_a_third_of_the_clips_and_a_list_for_both_splits(tiny):
    for split in ("train", "test"):
        lists = [read_clip_list(motion_list(tiny, motion, split)) for motion in MOTIONS]
        assert [len(clips) for clips in lists] == [1, 1, 1]
        assert sorted(clip for clips in lists for clip in clips) == read_clip_list(
            split_list(tiny, split)
        )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny, tmp_path):
    assert digests(rendered(tmp_path / "again")) == digests(tiny)
    other = digests(rendered(tmp_path / "other", train=1, test=1, seed=1))
    same = digests(tiny)
    frames = [name for name in other if name.endswith(".png")]
    assert all(other[name] != same[name] for name in frames)


def test_more_clips_leave_the_first_ones_as_they_were(tiny, tmp_path):
    fewer = digests(rendered(tmp_path / "fewer", train=1, test=1))
    same = digests(tiny)
    assert all(same[name] == fewer[name] for name in fewer if name.endswith(".png"))


def test_no_photograph_serves_both_splits():
    assert not {*BACKGROUNDS["train"], *CUTOUTS["train"]} & {*BACKGROUNDS["test"], *CUTOUTS["test"]}


def test_every_frame_moves_and_none_is_flat(tiny):
    for split in ("train", "test"):
        for clip in read_clip_list(split_list(tiny, split)):
            frames = [np.asarray(Image.open(frame_path(tiny, clip, n)), float) for n in FRAMES]
            assert all(np.abs(a - b).mean() > 0.2 for a, b in pairwise(frames))
            assert all(frame.std() > 5 for frame in frames)


def test_measured_motion_agrees_with_the_class_a_clip_was_rendered_in(tiny, tmp_path):
    # Speeds are in pixels of a frame 448 wide; here it is half as wide.
    build_index(tiny, tmp_path / "index", IndexConfig(slow_below=0.75, fast_from=2.5))
    by_motion: dict[str, list[float]] = {motion: [] for motion in MOTIONS}
    for record in read_all(tmp_path / "index"):
        by_motion[record.motion].append(record.motion_px)
    assert max(by_motion["slow"]) < 0.75 <= min(by_motion["medium"])
    assert max(by_motion["medium"]) < 2.5 <= min(by_motion["fast"])


def test_a_photograph_that_is_not_installed_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sample.CUTOUTS, "test", ("skimage/data/nowhere.png",))
    with pytest.raises(SourceError, match=r"skimage/data/nowhere\.png .*scikit-image.*pip install"):
        make_sample(1, 1, SIZE, 0, tmp_path)
