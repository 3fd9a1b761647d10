import shutil
from pathlib import Path

import pytest

from stvsr.core.errors import SourceError
from stvsr.data.clips.layout import (
    motion_list,
    read_clip_list,
    read_record,
    split_list,
    write_clip_list,
)
from stvsr.data.index.build import IndexConfig, build_index, read_manifest, read_root
from stvsr.data.sources.source import SourceConfig, make_source
from stvsr.data.sources.vimeo90k import use_vimeo90k
from tests.support.clips import shorten_lists
from tests.support.files import SPECIAL_FILES, replace_by_special


@pytest.fixture
def dataset(tmp_path: Path, tiny_source: Path) -> Path:
    """A folder as Vimeo-90K unpacks to, with 4 training and 2 test clips."""
    folder = tmp_path / "vimeo_septuplet"
    shutil.copytree(tiny_source, folder)
    (folder / "source.json").unlink()
    shorten_lists(folder, 4, 2)
    return folder


def use(dataset: Path, out: Path, **values: object) -> Path:
    config = SourceConfig.model_validate({"kind": "vimeo90k", "path": str(dataset), **values})
    make_source(config, 0, out)
    return out


def test_lists_are_taken_over_and_images_stay_where_they_are(dataset, tmp_path):
    source = use(dataset, tmp_path / "source")
    assert read_clip_list(split_list(source, "train")) == read_clip_list(
        split_list(dataset, "train")
    )
    assert not list(source.rglob("*.png"))
    record = read_record(source)
    assert (record.kind, record.root) == ("vimeo90k", str(dataset))
    assert (record.train_clips, record.test_clips) == (4, 2)


def test_the_line_reads_the_datasets_own_images(dataset, tmp_path):
    build_index(use(dataset, tmp_path / "source"), tmp_path / "index", IndexConfig())
    assert read_root(tmp_path / "index") == dataset
    assert len(read_manifest(tmp_path / "index", "train")) == 4


def test_published_motion_lists_go_before_what_is_measured(dataset, tmp_path):
    clips = read_clip_list(split_list(dataset, "test"))
    write_clip_list(motion_list(dataset, "fast", "test"), [clips[0], "00099/0001"])
    source = use(dataset, tmp_path / "source")
    assert read_clip_list(motion_list(source, "fast", "test")) == [clips[0]]
    summary = build_index(source, tmp_path / "index", IndexConfig())
    motions = {record.clip: record.motion for record in read_manifest(tmp_path / "index", "test")}
    assert motions == {clips[0]: "fast", clips[1]: "slow"}
    assert summary.motion_from_lists == 1


def test_lines_that_hold_nothing_are_not_clips_and_a_last_newline_is_not_needed(dataset, tmp_path):
    path = split_list(dataset, "train")
    path.write_text("\n" + path.read_text().replace("\n", "\r\n\n").rstrip())
    assert read_record(use(dataset, tmp_path / "source")).train_clips == 4


def test_fewer_clips_are_spread_evenly_over_the_list(dataset, tmp_path):
    clips = read_clip_list(split_list(dataset, "train"))
    source = use(dataset, tmp_path / "source", train_clips=2)
    assert read_clip_list(split_list(source, "train")) == [clips[0], clips[2]]


def test_a_clip_that_only_the_list_has_is_reported(dataset, tmp_path):
    with split_list(dataset, "train").open("a") as file:
        file.write("00042/0001\n")
    summary = build_index(use(dataset, tmp_path / "source"), tmp_path / "index", IndexConfig())
    assert [(clip.clip, clip.reason) for clip in summary.rejected] == [
        ("00042/0001", "the list names it, but its frames are missing")
    ]


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "00001", "a/b/c", "00001/.."])
def test_a_line_that_is_no_clips_name_is_refused_with_its_number(dataset, tmp_path, line):
    split_list(dataset, "test").write_text(f"00001/0005\n{line}\n")
    with pytest.raises(SourceError, match=r"sep_testlist\.txt, line 2: found .*such as 00001/0266"):
        use(dataset, tmp_path / "source")


def test_a_folder_that_is_not_the_dataset_is_refused_with_what_is_missing(dataset, tmp_path):
    split_list(dataset, "test").unlink()
    with pytest.raises(SourceError, match=r"source\.path: .* has no sep_testlist\.txt; allowed"):
        use(dataset, tmp_path / "source")
    with pytest.raises(SourceError, match=r"did you mean .*vimeo_septuplet\?"):
        use(dataset.parent, tmp_path / "source")


def test_an_empty_list_is_refused(dataset, tmp_path):
    split_list(dataset, "test").write_text("\n\n")
    with pytest.raises(SourceError, match=r"sep_testlist\.txt: found no clip"):
        use(dataset, tmp_path / "source")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_list_with_a_byte_order_mark_is_read(dataset, tmp_path, encoding):
    path = split_list(dataset, "train")
    clips = read_clip_list(path)
    mark = "\ufeff" if encoding.endswith("be") else ""
    path.write_bytes(f"{mark}{path.read_text()}".encode(encoding))
    assert read_clip_list(path) == clips


@pytest.mark.parametrize("kind", SPECIAL_FILES)
@pytest.mark.parametrize("name", ["sep_trainlist.txt", "slow_testset.txt", "vimeo.zip"])
def test_a_special_file_in_the_place_of_an_input_is_refused_or_missing(
    dataset, tmp_path, name, kind
):
    replace_by_special(dataset / name, kind)
    path = dataset / name if name.endswith(".zip") else dataset
    if name == "slow_testset.txt" and kind == "a link to nothing":
        return
    with pytest.raises(SourceError) as caught:
        use_vimeo90k(path, None, None, tmp_path)
    assert str(caught.value).isprintable()
