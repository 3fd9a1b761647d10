from pathlib import Path

import pytest

from stvsr.core.config import ValidationError
from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import read_clip_list, read_record, split_list
from stvsr.data.sources.source import SAMPLE_PATH, SourceConfig, make_source


def test_the_default_is_the_sample_and_its_path_is_its_program():
    config = SourceConfig()
    assert (config.kind, config.path) == ("sample", SAMPLE_PATH)
    assert (Path(__file__).parents[2] / SAMPLE_PATH).is_file()


def test_the_sample_takes_the_number_of_clips_and_the_size_asked_for(tmp_path):
    config = SourceConfig(train_clips=2, test_clips=1, size=(128, 64))
    make_source(config, 0, tmp_path / "source")
    assert len(read_clip_list(split_list(tmp_path / "source", "train"))) == 2
    record = read_record(tmp_path / "source")
    assert (record.kind, record.root, record.test_clips) == ("sample", ".", 1)
    assert record.provenance["size"] == "128x64"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"path": "clips"},
            r"path: found 'clips' with kind 'sample'; allowed with it: 'stvsr/data",
        ),
        (
            {"kind": "videos"},
            r"path: found 'stvsr/data/sources/sample.py', the sample's, with kind 'videos'",
        ),
        (
            {"kind": "video", "path": "clips"},
            r"'sample', 'rendered', 'videos', 'frames' or 'vimeo90k'",
        ),
        ({"size": (446, 256)}, r"size: found \[446, 256\]; allowed: \[width, height\], multiples"),
        ({"size": (896, 512)}, r"size: found \[896, 512\] with kind 'sample'.*\[448, 256\]"),
        ({"train_clips": 0}, "greater than or equal to 1"),
        ({"test_share": 0.9}, "less than or equal to 0.5"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, text):
    with pytest.raises(ValidationError, match=text):
        SourceConfig.model_validate(values)


@pytest.mark.parametrize("kind", ["videos", "vimeo90k"])
def test_a_missing_path_names_the_key_and_what_is_allowed(kind, tmp_path):
    config = SourceConfig(kind=kind, path=str(tmp_path / "nowhere"))
    with pytest.raises(
        SourceError, match=rf"source\.path: .*nowhere does not exist.*kind={kind}: "
    ):
        make_source(config, 0, tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_a_refused_source_leaves_what_was_there_before(tmp_path):
    out = tmp_path / "source"
    make_source(SourceConfig(train_clips=1, test_clips=1, size=(64, 64)), 0, out)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no video"):
        make_source(SourceConfig(kind="videos", path=str(tmp_path / "empty")), 0, out)
    (tmp_path / "empty").rmdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
