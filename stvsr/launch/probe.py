"""Whether the nodes of a cluster see the storage that a run lies on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stvsr.core.errors import TrainingError
from stvsr.core.files import sha256_of
from stvsr.data.shards.storage import is_remote
from stvsr.launch.job import TrainJob

PROBE_SECONDS = 60.0
"""How long a node may take to look; one that does not answer is left to its workers."""


def refuse_unshared_storage(job: TrainJob) -> None:
    """Have each other node of the connected cluster look for what this one sees.

    Raises:
        TrainingError: a node does not see the folder of runs or the shards, or sees others.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    beacon = Path(job.run).parent / f".{job.attempt}.beacon"
    beacon.parent.mkdir(parents=True, exist_ok=True)
    beacon.touch()
    try:
        expected = {str(beacon): sha256_of(beacon)} | {
            path: sha256_of(Path(path)) for path in _lineages(job.shards)
        }
        asked = {_look_on(node["NodeID"], expected): node for node in others}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        for answer in answered:
            name = f"{asked[answer]['NodeName']} ({asked[answer]['NodeID'][:8]})"
            _refuse(name, _missing(answer))
    finally:
        beacon.unlink(missing_ok=True)


def unseen(expected: Mapping[str, str]) -> list[str]:
    """Those of the files, given with their SHA-256, that this process does not see as they are."""
    return [
        path
        for path, digest in expected.items()
        if not os.access(path, os.R_OK) or sha256_of(Path(path)) != digest
    ]


def _lineages(shards: str) -> list[str]:
    if is_remote(shards):
        return []
    return [str(Path(shards, split, "lineage.json")) for split in ("train", "test")]


def _look_on(node: str, expected: Mapping[str, str]) -> "ray.ObjectRef[list[str]]":
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(unseen).options(num_cpus=0, scheduling_strategy=place)
    answer: ray.ObjectRef[list[str]] = look.remote(dict(expected))
    return answer


def _missing(answer: "ray.ObjectRef[list[str]]") -> Sequence[str]:
    try:
        missing: list[str] = ray.get(answer)
    except RayError:  # the node died meanwhile, and with it the question
        return []
    return missing


def _refuse(node: str, missing: Sequence[str]) -> None:
    if missing:
        raise TrainingError(
            f"{Path(missing[0]).parent}: node {node} does not see there what this machine sees; "
            "put data and runs on storage that all nodes share, under the same absolute path, and "
            "name it with --shards and --runs"
        )
