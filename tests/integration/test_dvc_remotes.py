"""Shards under DVC: kept on a rerun, and only what changed goes to a folder and to S3."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

from stvsr.data.clips.layout import split_list
from stvsr.data.index.build import IndexConfig, build_index
from tests.support.clips import write_clip, write_tiny_source
from tests.support.dvc import dvc, make_project
from tests.support.s3 import BUCKET, s3_server

pytestmark = pytest.mark.slow

STAGES = """\
stages:
  shard:
    cmd: stvsr shard train
    deps: [data/index]
    params: [degradation, shards.clips_per_shard]
    outs:
      - data/shards/train:
          persist: true
"""
PARAMS = """\
degradation: {name: bicubic}
shards: {clips_per_shard: 2, workers: 1}
"""
REMOTES = ("folder", "s3")
SHARDS = Path("data/shards/train")


@dataclass(frozen=True)
class Pushed:
    """What two runs of the stage, each pushed to both remotes, left behind.

    Attributes:
        project: the project after the second run.
        before: the shards' files after the first, by name: (modification time, MD5).
        after: the same after the second, which had one clip more.
        news: by remote, the objects that the second push brought.
    """

    project: Path
    before: dict[str, tuple[int, str]]
    after: dict[str, tuple[int, str]]
    news: dict[str, set[str]]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("remotes")
    project = make_project(folder / "project", stages=STAGES)
    (project / "params.yaml").write_text(PARAMS)
    write_tiny_source(project / "data" / "source", 5, 1)
    with s3_server() as endpoint:
        run(project, "remote", "add", "--default", "folder", str(folder / "store"))
        run(project, "remote", "add", "s3", f"s3://{BUCKET}/dvc")
        run(project, "remote", "modify", "s3", "endpointurl", endpoint)
        places = {"folder": str(folder / "store"), "s3": f"s3://{BUCKET}/dvc"}

        make_shards(project)
        before = shards_of(project)
        push(project)
        objects = {remote: objects_in(place) for remote, place in places.items()}
        one_clip_more(project / "data" / "source")
        make_shards(project)
        push(project)
        news = {remote: objects_in(place) - objects[remote] for remote, place in places.items()}
        yield Pushed(project, before, shards_of(project), news)


def run(project: Path, *arguments: str) -> str:
    done = dvc(project, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_shards(project: Path) -> None:
    build_index(project / "data" / "source", project / "data" / "index", IndexConfig())
    run(project, "add", "--quiet", "data/index")
    run(project, "repro")
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "shards"], cwd=project, check=True)


def push(project: Path) -> None:
    for remote in REMOTES:
        run(project, "push", "--remote", remote)


def one_clip_more(source: Path) -> None:
    write_clip(source, "00009/0001", seed=99)
    with split_list(source, "train").open("a") as listed:
        listed.write("00009/0001\n")


def shards_of(project: Path) -> dict[str, tuple[int, str]]:
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).hexdigest())
        for path in (project / SHARDS).iterdir()
    }


def objects_in(place: str) -> set[str]:
    """The MD5 digests under which DVC keeps files there; a folder's list has `.dir` behind it."""
    filesystem, path = fsspec.core.url_to_fs(place)
    filesystem.invalidate_cache()
    return {"".join(name.rsplit("/", 2)[-2:]) for name in filesystem.find(path)}


def test_a_rerun_keeps_the_shards_whose_clips_are_the_same(pushed: Pushed) -> None:
    kept = {"000000.tar", "000000.idx", "000001.tar", "000001.idx"}
    changed = {name for name in pushed.after if pushed.after[name] != pushed.before[name]}
    assert set(pushed.after) == set(pushed.before)
    assert changed == set(pushed.after) - kept == {"000002.tar", "000002.idx", "lineage.json"}


@pytest.mark.parametrize("remote", REMOTES)
def test_only_the_shards_that_changed_are_pushed(pushed: Pushed, remote: str) -> None:
    before, after = ({digest for _, digest in s.values()} for s in (pushed.before, pushed.after))
    news = {name for name in pushed.news[remote] if not name.endswith(".dir")}
    assert after - before <= news
    assert not news & before
    assert len(news & after) == 3


@pytest.mark.parametrize("remote", REMOTES)
def test_a_fresh_clone_pulls_the_same_bytes_and_is_up_to_date(
    pushed: Pushed, tmp_path: Path, remote: str
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", pushed.project, clone], check=True)
    run(clone, "pull", "--remote", remote)
    digests = {name: digest for name, (_, digest) in shards_of(clone).items()}
    assert digests == {name: digest for name, (_, digest) in pushed.after.items()}
    assert "up to date" in run(clone, "status")
