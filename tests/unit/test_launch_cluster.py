import pytest

from stvsr.core.errors import ServiceError
from stvsr.core.files import sha256_of
from stvsr.launch.cluster import check_reachable, cluster, largest_share, room
from stvsr.launch.probe import unseen
from tests.support.ports import held_port

CPU_HEAD = {"CPU": 2.0}
GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu", "share"),
    [
        ([{"CPU": 2.0}], 2, 0.0, 1),
        ([{"CPU": 8.0}], 3, 0.0, 2),
        ([{"CPU": 3.0}, {"CPU": 1.0}], 2, 0.0, 1),
        ([{"CPU": 0.0}, {"CPU": 4.0}], 1, 0.0, 4),
        ([CPU_HEAD, GPU_NODE], 2, 1.0, 4),
        ([CPU_HEAD, GPU_NODE, GPU_NODE], 3, 1.0, 4),
        ([CPU_HEAD, GPU_NODE], 3, 1.0, 0),
        ([], 1, 0.0, 0),
    ],
)
def test_workers_get_the_most_cores_with_which_all_of_them_fit(nodes, workers, gpu, share):
    assert largest_share(nodes, workers, gpu) == share


def test_a_worker_fits_only_on_one_node():
    assert room([{"CPU": 3.0}, {"CPU": 3.0}], {"CPU": 2.0}) == 2
    assert room([CPU_HEAD, GPU_NODE], {"CPU": 1.0, "GPU": 1.0}) == 2


def test_a_node_that_sees_another_folder_or_other_files_there_is_found_out(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "lineage.json").write_text(folder.name)
    beacon = mine / ".beacon"
    beacon.touch()
    expected = {path.name: sha256_of(path) for path in (beacon, mine / "lineage.json")}

    def seen_from(folder):
        return unseen({str(folder / name): digest for name, digest in expected.items()})

    assert seen_from(mine) == []
    assert seen_from(other) == [str(other / ".beacon"), str(other / "lineage.json")]


@pytest.mark.parametrize(
    "address",
    ["http://", "ray://", "ray://127.0.0.1", "http://127.0.0.1:notaport", "head", ":6379", "head:"],
)
def test_an_address_without_a_host_or_a_port_is_refused_before_ray_tries_it(address):
    with pytest.raises(ValueError, match="names no HOST:PORT"):
        check_reachable(address)


@pytest.mark.parametrize("scheme", ["", "http://", "ray://", "https://me:secret@"])
def test_an_address_that_nobody_listens_at_is_refused(scheme):
    with held_port() as port, pytest.raises(ConnectionRefusedError):
        check_reachable(f"{scheme}127.0.0.1:{port}")


def test_a_cluster_that_cannot_be_joined_is_one_line_that_speaks_of_the_token(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        held_port() as port,
        pytest.raises(ServiceError, match=r"cannot be reached .*RAY_AUTH_TOKEN_PATH") as refusal,
        cluster(f"127.0.0.1:{port}"),
    ):
        pass
    assert "\n" not in str(refusal.value)


def test_a_folder_too_long_for_rays_sockets_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    words = "a local Ray cluster: cannot be reached .*AF_UNIX.*; set RAY_TMPDIR to a folder"
    with pytest.raises(ServiceError, match=words), cluster():
        pass
