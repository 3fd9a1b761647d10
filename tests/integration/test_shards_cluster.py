"""`stvsr shard` on a Ray cluster of two nodes: the same bytes, whatever dies on the way."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from stvsr.core.errors import ShardError
from stvsr.core.files import sha256_of
from stvsr.data.clips.layout import read_clip_list, split_list
from stvsr.data.index.build import IndexConfig, build_index
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.write import ShardsConfig, plan_shards, write_shards
from stvsr.launch.shards import build_on_node
from tests.support.clips import HOLDING, held_up, write_tiny_source
from tests.support.projects import started, stvsr
from tests.support.ray_nodes import Nodes, two_nodes
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.multinode]

SINGLES = ShardsConfig(clips_per_shard=1, workers=2)
CLIPS = 12


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    build_index(write_tiny_source(folder / "source", CLIPS, 1), folder / "index", IndexConfig())
    return folder / "index"


@pytest.fixture(scope="module")
def written_here(index: Path) -> dict[str, str]:
    """The hashes of the set that two processes of this machine write."""
    out = index.parent / "here"
    write_shards(index, "train", out, SINGLES, DegradationConfig())
    return hashes(out)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("cluster"), PYTHONPATH=HOLDING) as nodes:
        yield nodes


@pytest.fixture
def project(tmp_path: Path, index: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index").symlink_to(index)
    (tmp_path / "params.yaml").write_text("shards: {clips_per_shard: 1}")
    return tmp_path


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def shards_of(project: Path) -> int:
    return len(list((project / "data/shards/train").glob("*.idx")))


def last_held_up(index: Path) -> AbstractContextManager[None]:
    """While the block runs, the last shard is not written."""
    *_, last = read_clip_list(split_list(index.parent / "source", "train"))
    return held_up(index.parent / "source", last)


def busy_workers() -> list[psutil.Process]:
    """Processes of the cluster that build a shard right now."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "ray::build_on_node" in " ".join(process.info["cmdline"] or ())
    ]


def wait_for_all_but_the_last(project: Path) -> None:
    wait_until("all shards but the last", lambda: shards_of(project) == CLIPS - 1)
    wait_until("the last one's task alone", lambda: len(busy_workers()) == 1)


def test_a_task_whose_worker_dies_is_done_again_and_the_bytes_are_those_of_one_machine(
    cluster: Nodes, project: Path, index: Path, written_here: dict[str, str]
) -> None:
    environment = cluster.environment | {"RAY_ADDRESS": cluster.address}
    with started(project, "shard", "train", **environment) as process:
        with last_held_up(index):
            wait_for_all_but_the_last(project)
            (worker,) = busy_workers()
            worker.suspend()  # else it could end between the frame's return and the blow
        worker.kill()
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    assert hashes(project / "data/shards/train") == written_here


def test_ctrl_c_ends_the_tasks_and_the_same_command_goes_on(
    cluster: Nodes, project: Path, index: Path, written_here: dict[str, str]
) -> None:
    environment = cluster.environment | {"RAY_ADDRESS": cluster.address}
    with last_held_up(index), started(project, "shard", "train", **environment) as process:
        wait_for_all_but_the_last(project)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert busy_workers() == []
    assert process.returncode == 130, output
    refusal = "stvsr shard: interrupted; run the same command again to resume"
    assert output.splitlines()[-1] == refusal
    out = project / "data/shards/train"
    assert not (out / "lineage.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.idx")}

    code, output = stvsr(project, "shard", "train", **environment)
    assert code == 0, output
    assert hashes(out) == written_here
    assert len(kept) == CLIPS - 1
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_a_token_that_is_missing_is_one_line(cluster: Nodes, project: Path) -> None:
    missing = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN_PATH": str(project / "nowhere")}
    code, output = stvsr(project, "shard", "train", **cluster.environment | missing)
    assert code == 1
    (line,) = output.splitlines()
    refusal = f"stvsr shard: RAY_ADDRESS={cluster.address}: cannot be reached (RAY_AUTH_TOKEN_PATH "
    assert line.startswith(refusal)


def test_a_node_that_does_not_see_the_folders_says_so(index: Path, tmp_path: Path) -> None:
    (task, *_) = plan_shards(index, "train", tmp_path / "out", SINGLES, DegradationConfig())
    words = r"out: node [\d.]+ of the cluster does not see .* put source and shards on storage"
    with pytest.raises(ShardError, match=words):
        build_on_node(task, tmp_path / "out" / ".beacon")


def test_a_node_with_another_code_says_so(index: Path, tmp_path: Path) -> None:
    (task, *_) = plan_shards(index, "train", tmp_path / "out", SINGLES, DegradationConfig())
    beacon = tmp_path / "out" / ".beacon"
    beacon.parent.mkdir()
    beacon.write_text("layout-0+0123456789abcdef")
    with pytest.raises(ShardError, match=r"writes shards as layout-1.*install the same stvsr on"):
        build_on_node(task, beacon)
