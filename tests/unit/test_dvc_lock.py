"""What dvc.lock tells about the data's version."""

from pathlib import Path

import pytest

from pipelines.dvc_cli import data_version
from stvsr.core.errors import StvsrError

LOCK = """\
schema: '2.0'
stages:
  index:
    cmd: stvsr index
    outs:
    - path: data/index
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
  train:
    cmd: stvsr train
    outs:
    - {path: model, md5: aaaa.dir}
    - {path: history.csv, md5: bbbb}
"""


def test_data_version_is_the_hash_in_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert data_version("index", tmp_path) == "0123456789abcdef0123456789abcdef.dir"


@pytest.mark.parametrize(
    ("content", "stage", "says"),
    [
        (None, "index", "no such file; run `dvc repro index` first"),
        (LOCK, "shards", "found 0 outputs of stage 'shards', needed: 1; stages there: index, tr"),
        (LOCK, "train", "found 2 outputs of stage 'train'"),
        ("<<<<<<< HEAD", "index", "not a lock file of DVC; restore it from git"),
        ("stages: {index: {outs: [{path: data/index}]}}", "index", "not a lock file of DVC"),
    ],
)
def test_a_lock_file_without_that_version_is_refused(
    tmp_path: Path, content: str | None, stage: str, says: str
) -> None:
    if content is not None:
        (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(StvsrError, match=f"dvc.lock: {says}"):
        data_version(stage, tmp_path)
