from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import FRAMES, MOTIONS, clip_name, frame_path, motion_list
from stvsr.data.clips.layout import read_clip_list as listed
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.index.manifest import read_all
from stvsr.data.sources import sample
from stvsr.data.sources.source import SourceConfig, make_source

SIZE = (96, 96)
CLIPS = 24


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's photographs, as a folder."""
    folder = tmp_path_factory.mktemp("photographs")
    for split, names in sample.CUTOUTS.items():
        (folder / split).mkdir()
        for name in names:
            picture = Image.fromarray(sample._photograph(name))
            picture.save(folder / split / f"{Path(name).stem}.png")
    return folder


def rendered(photographs: Path, out: Path, train: int, seed: int = 0) -> Path:
    config = SourceConfig(
        kind="rendered", path=str(photographs), size=SIZE, train_clips=train, test_clips=1
    )
    make_source(config, seed, out)
    return out


@pytest.fixture(scope="module")
def clips(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(photographs, tmp_path_factory.mktemp("rendered") / "source", CLIPS)


def frames(folder: Path, number: int) -> list[np.ndarray]:
    clip = clip_name(1, number)
    return [np.asarray(Image.open(frame_path(folder, clip, frame))) for frame in FRAMES]


def test_a_clip_depends_on_the_seed_and_its_number_alone(photographs, clips, tmp_path):
    fewer = rendered(photographs, tmp_path / "fewer", 2)
    other = rendered(photographs, tmp_path / "other", 1, seed=1)
    for number in range(2):
        assert all(map(np.array_equal, frames(fewer, number), frames(clips, number)))
    assert not np.array_equal(frames(other, 0)[0], frames(clips, 0)[0])


def test_all_clips_are_valid_and_faster_classes_move_more(clips, tmp_path):
    build_index(clips, tmp_path / "index", IndexConfig())
    motion = {record.clip: record.motion_px for record in read_all(tmp_path / "index")}
    assert len(motion) == CLIPS + 1
    slow, medium, fast = (
        np.median([motion[clip] for clip in listed(motion_list(clips, name, "train"))])
        for name in MOTIONS
    )
    assert slow < medium < fast


def test_movements_are_not_all_steady(clips):
    changes = []
    for number in range(CLIPS):
        grey = [frame.mean(axis=-1) for frame in frames(clips, number)]
        steps = [np.abs(a - b).mean() for a, b in pairwise(grey)]
        changes.append(max(steps) / (min(steps) + 1e-3))
    assert min(changes) < 1.2
    assert max(changes) > 2.0


def test_a_folder_without_photographs_is_refused(photographs, tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match=r"train: found no photographs; expected \.jpg or \.png"):
        rendered(tmp_path, tmp_path / "out", 1)
