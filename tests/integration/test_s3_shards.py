"""Shards in S3: the bytes of the local ones, through the commands too, and one line on a fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs  # type: ignore[import-untyped]
import torch

from stvsr.cli import main
from stvsr.core.errors import ServiceError, ShardError
from stvsr.core.world import World
from stvsr.data.loading.loader import LoaderConfig, LoaderKind, train_batches
from stvsr.data.shards.verify import verify_set
from stvsr.data.shards.write import ShardSet
from tests.support.models import write_tiny_artifact
from tests.support.s3 import BUCKET, s3_server

pytestmark = pytest.mark.slow

ADDRESS = f"s3://{BUCKET}/shards"


@pytest.fixture(scope="module")
def stored(tiny_sets: Path) -> Iterator[str]:
    with s3_server():
        for split in ("train", "test"):
            s3fs.S3FileSystem().put(
                f"{tiny_sets / split}/", f"{BUCKET}/shards/{split}/", recursive=True
            )
        yield ADDRESS


@pytest.mark.parametrize("kind", ["torch", "dali"])
def test_batches_from_s3_are_those_from_the_disk(
    stored: str, tiny_shards: ShardSet, kind: LoaderKind
) -> None:
    streams = [
        train_batches(
            LoaderConfig(kind=kind),
            shards,
            seed=0,
            start_step=3,
            stop_step=6,
            global_batch=4,
            crop=16,
            world=World(),
            device=torch.device("cpu"),
        )
        for shards in (ShardSet.open(f"{stored}/train"), tiny_shards)
    ]
    for remote, local in zip(*streams, strict=True):
        assert remote.keys == local.keys
        assert torch.equal(remote.hr_clip, local.hr_clip)
        assert torch.equal(remote.lr_clip, local.lr_clip)


def test_evaluate_scores_clips_from_s3_as_from_the_disk(
    stored: str, tiny_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("evaluate: {device: cpu}")
    write_tiny_artifact(tmp_path / "model")
    for place, out in ((stored, "remote"), (str(tiny_sets), "local")):
        assert main(["evaluate", "--shards", place, "--out", out]) == 0
    assert (tmp_path / "remote/frames.csv").read_text() == (
        tmp_path / "local/frames.csv"
    ).read_text()


def test_a_set_in_s3_is_verified(stored: str) -> None:
    assert verify_set(f"{stored}/train", workers=1).faults == ()


def test_a_missing_bucket_is_one_line(stored: str) -> None:
    with pytest.raises(ShardError, match=r"s3://nowhere/train: found no lineage.json.*bucket does"):
        ShardSet.open("s3://nowhere/train")


def test_missing_credentials_are_one_line(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ServiceError, match=r"cannot be read \(Unable to locate credentials\); see"):
        ShardSet.open(f"{stored}/train")


def test_a_store_that_is_down_is_one_line_and_not_damage(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ServiceError, match=r"shards/train: cannot be read \(Could not connect"):
        ShardSet.open(f"{stored}/train", damaged_tars=True)
