import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset  # type: ignore[import-untyped]
from PIL import Image

from stvsr.core.errors import ShardError, SourceError
from stvsr.core.files import sha256_of
from stvsr.data.clips import png
from stvsr.data.clips.layout import frame_path, motion_list, write_clip_list
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.shards.degrade import DegradationConfig, degrade
from stvsr.data.shards.format import LAYOUT
from stvsr.data.shards.write import ShardsConfig, ShardSet, write_shards
from tests.support.clips import write_tiny_source
from tests.support.files import flip_byte

FIVES = ShardsConfig(clips_per_shard=5, workers=1)
BICUBIC = DegradationConfig()


@pytest.fixture
def copied(tiny_shards_folder: Path, tmp_path: Path) -> Path:
    """A set of three shards that a test may damage."""
    return Path(shutil.copytree(tiny_shards_folder, tmp_path / "train"))


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def offset_of(folder: Path, shard: str, member: str) -> int:
    with tarfile.open(folder / shard) as tar:
        return tar.getmember(member).offset_data


# what is written


def test_hr_bytes_pass_through_unchanged(tiny_source: Path, tiny_shards: ShardSet) -> None:
    for clip, name in enumerate(tiny_shards.keys):
        for frame in range(1, 8):
            source = frame_path(tiny_source, name, frame).read_bytes()
            assert bytes(tiny_shards.files(clip, [f"hr{frame}"])[0]) == source


def test_lr_frames_are_the_degraded_odd_frames(tiny_source: Path, tiny_shards: ShardSet) -> None:
    for frame in (1, 3, 5, 7):
        hr_frame = np.asarray(Image.open(frame_path(tiny_source, tiny_shards.keys[4], frame)))
        lr_frame = Image.open(io.BytesIO(tiny_shards.files(4, [f"lr{frame}"])[0]))
        np.testing.assert_array_equal(np.asarray(lr_frame), degrade(hr_frame, BICUBIC))


def test_clips_are_sorted_and_cut_into_runs(tiny_shards: ShardSet) -> None:
    assert list(tiny_shards.keys) == sorted(tiny_shards.keys)
    assert [record.clips for record in tiny_shards.lineage.shards] == [5, 5, 2]
    assert len(tiny_shards) == tiny_shards.lineage.clips == 12


def test_webdataset_itself_reads_the_shards(tiny_shards_folder: Path) -> None:
    tars = [str(path) for path in sorted(tiny_shards_folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples][:2] == ["00001_0001", "00001_0002"]
    assert len(samples) == 12
    assert json.loads(samples[0]["json"])["clip"] == "00001/0001"
    assert Image.open(io.BytesIO(samples[0]["lr7.png"])).size == (40, 24)


def test_tar_headers_hold_no_time_and_no_user(tiny_shards_folder: Path) -> None:
    with tarfile.open(tiny_shards_folder / "000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {
            (0, 0, 0, "stvsr", "stvsr", 0o444)
        }


def test_one_and_two_workers_write_the_same_bytes(
    tiny_index: Path, tiny_shards_folder: Path, tmp_path: Path
) -> None:
    two = ShardsConfig(clips_per_shard=5, workers=2)
    write_shards(tiny_index, "train", tmp_path / "out", two, BICUBIC)
    assert hashes(tmp_path / "out") == hashes(tiny_shards_folder)


def test_the_bytes_are_the_ones_written_down(tmp_path: Path) -> None:
    """Where another version of a library, or an edit, changes them, `LAYOUT` has to be raised."""
    source = write_tiny_source(tmp_path / "source", 1, 1)
    ramps = np.add.outer(np.arange(64) * 3, np.arange(96) * 2)[..., None] + np.array([0, 50, 100])
    for clip in ("00001/0001", "00001/0002"):
        for frame in range(1, 8):
            levels = np.asarray((ramps * frame + int(clip[-1])) % 256, np.uint8)
            frame_path(source, clip, frame).write_bytes(png.encode_stored(levels))
    write_clip_list(motion_list(source, "slow", "train"), ["00001/0001"])
    build_index(source, tmp_path / "index", IndexConfig())
    write_shards(tmp_path / "index", "train", tmp_path / "out", FIVES, BICUBIC)
    assert LAYOUT == 1
    assert sha256_of(tmp_path / "out" / "000000.tar") == (
        "e226b4c624d1645887197a04ddb6a9b985dfd22c225ffe147fd3944bb2a6397c"
    )


def test_the_lineage_says_where_the_set_comes_from(tiny_shards: ShardSet) -> None:
    lineage = tiny_shards.lineage
    assert (lineage.split, lineage.scale, lineage.degradation.name) == ("train", 4, "bicubic")
    tar = Path(tiny_shards.address) / lineage.shards[1].shard
    assert lineage.shards[1].sha256 == sha256_of(tar)
    assert lineage.shards[1].index_sha256 == sha256_of(tar.with_suffix(".idx"))


def test_the_source_hash_does_not_depend_on_how_clips_are_packed(
    tiny_index: Path, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    packed = ShardsConfig(clips_per_shard=12, workers=1)
    lineage = write_shards(tiny_index, "train", tmp_path / "out", packed, BICUBIC)
    assert lineage.source == tiny_shards.lineage.source
    assert lineage.data_hash != tiny_shards.lineage.data_hash


def test_meta_tells_the_clip_and_its_motion(tiny_shards: ShardSet) -> None:
    meta = tiny_shards.meta(3)
    assert (meta.clip, meta.split, meta.height, meta.width) == ("00001/0004", "train", 96, 160)
    assert meta.motion in {"slow", "medium", "fast"}


# written again


def write_fives(index: Path, out: Path, degradation: DegradationConfig = BICUBIC) -> None:
    write_shards(index, "train", out, FIVES, degradation)


def test_whole_shards_of_the_same_inputs_are_kept(tiny_index: Path, copied: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copied.glob("0*")}
    write_fives(tiny_index, copied)
    assert {path.name: path.stat().st_mtime_ns for path in copied.glob("0*")} == before


def test_a_damaged_shard_is_written_anew_and_only_that_one(
    tiny_index: Path, tiny_shards_folder: Path, copied: Path
) -> None:
    flip_byte(copied / "000001.tar", 5000)
    kept = (copied / "000000.tar").stat().st_mtime_ns
    write_fives(tiny_index, copied)
    assert hashes(copied) == hashes(tiny_shards_folder)
    assert (copied / "000000.tar").stat().st_mtime_ns == kept


def test_another_degradation_replaces_every_shard(tiny_index: Path, copied: Path) -> None:
    before = hashes(copied)
    write_fives(tiny_index, copied, DegradationConfig(name="pillow"))
    after = hashes(copied)
    assert all(before[name] != after[name] for name in before)


def test_shards_of_a_larger_set_and_half_written_files_are_removed(
    tiny_index: Path, tiny_shards_folder: Path, copied: Path
) -> None:
    shutil.copy(copied / "000002.tar", copied / "000003.tar")
    shutil.copy(copied / "000002.idx", copied / "000003.idx")
    (copied / ".000001.tar.1.partial").write_bytes(b"half")
    write_fives(tiny_index, copied)
    assert hashes(copied) == hashes(tiny_shards_folder)


def test_a_frame_that_changed_since_the_index_is_refused(tiny_source: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_source, tmp_path / "source"))
    index = tmp_path / "index"
    build_index(source, index, IndexConfig())
    Image.new("L", (160, 96)).save(frame_path(source, "00001/0002", 4))
    with pytest.raises(SourceError, match=r"0002/im4\.png: a PNG of 160x96 pixels, bit depth 8, c"):
        write_fives(index, tmp_path / "out")
    assert not (tmp_path / "out" / "lineage.json").exists()


# opened


def test_a_pickled_set_reads_the_same_bytes(tiny_shards: ShardSet) -> None:
    again = pickle.loads(pickle.dumps(tiny_shards))
    assert again.files(7, ["hr2", "lr1"]) == tiny_shards.files(7, ["hr2", "lr1"])


def assert_refused(folder: Path, words: str) -> None:
    with pytest.raises(ShardError, match=words):
        ShardSet.open(folder)


def test_a_folder_without_lineage_is_no_set(copied: Path) -> None:
    (copied / "lineage.json").unlink()
    assert_refused(copied, "found no lineage.json, so the shards are missing or not all written")


def test_a_missing_folder_is_no_set(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "nowhere: found no lineage.json")


def test_a_damaged_lineage_is_refused(copied: Path) -> None:
    (copied / "lineage.json").write_text('{"layout": 1}')
    assert_refused(copied, "lineage.json: not a lineage of layout 1")


def test_an_index_of_another_shard_is_refused(copied: Path) -> None:
    shutil.copy(copied / "000001.idx", copied / "000000.idx")
    assert_refused(copied, r"000000\.idx: the index of another shard, 000001\.tar")


def test_a_damaged_index_is_refused(copied: Path) -> None:
    (copied / "000001.idx").write_bytes((copied / "000001.idx").read_bytes()[:-9])
    assert_refused(copied, r"000001\.idx: damaged")


def test_an_edited_index_is_refused(copied: Path) -> None:
    index = json.loads((copied / "000001.idx").read_text())
    index["clips"][0]["offsets"][0] += 1
    (copied / "000001.idx").write_text(json.dumps(index))
    assert_refused(copied, r"000001\.idx: not the index that lineage\.json names")


def test_a_truncated_tar_is_refused(copied: Path) -> None:
    tar = copied / "000002.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert_refused(copied, r"000002\.tar: found \d+ bytes, lineage\.json says \d+")


def test_a_missing_tar_is_refused(copied: Path) -> None:
    (copied / "000002.tar").unlink()
    assert_refused(copied, r"000002\.tar: missing")


def test_mixed_degradations_are_refused(tiny_index: Path, copied: Path, tmp_path: Path) -> None:
    write_fives(tiny_index, tmp_path / "other", DegradationConfig(name="pillow"))
    for name in ("000001.tar", "000001.idx"):
        shutil.copy(tmp_path / "other" / name, copied / name)
    assert_refused(copied, "mixed degradations: this shard's is pillow, the set's is bicubic")


def test_a_damaged_member_is_named_with_shard_member_and_byte(copied: Path) -> None:
    offset = offset_of(copied, "000001.tar", "00002_0002.hr5.png")
    flip_byte(copied / "000001.tar", offset + 100)
    shards = ShardSet.open(copied)
    words = rf"000001\.tar: member 00002_0002\.hr5\.png at byte {offset}: .*`stvsr shard train`"
    with pytest.raises(ShardError, match=words):
        shards.files(shards.keys.index("00002/0002"), ["hr5"])
    shards.files(shards.keys.index("00002/0002"), ["hr4"])
