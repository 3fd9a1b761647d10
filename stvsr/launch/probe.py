"""The storage probe of `train`, `tune` and `shard`: every node must see what the command sees.

A command leaves a beacon, a hidden file, where its result is wanted, and every other node looks for
it and for the input before work starts; a task of `shard` looks again, since its node may have
joined later.
"""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stvsr.core.errors import StvsrError, TrainingError
from stvsr.core.files import sha256_of
from stvsr.data.shards.storage import is_remote
from stvsr.launch.job import TrainJob

PROBE_SECONDS = 60.0
"""How long a node may take to look; one that does not answer is left to its workers."""

EXISTS = ""
"""Stands for the SHA-256 of something that is too large to be hashed, or a folder."""


@contextmanager
def beacon(folder: Path, text: str = "") -> Iterator[Path]:
    """Leave a hidden file with `text` in `folder`, which is made, for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid.uuid4().hex}.partial"
    path.write_text(text)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def refuse_unshared_storage(job: TrainJob) -> None:
    """Have each other node of the connected cluster look for a run's folder and its shards.

    Raises:
        TrainingError: a node does not see them, or sees others.
    """
    with beacon(Path(job.run).parent) as path:
        expected = {str(path): sha256_of(path)} | {
            name: sha256_of(Path(name)) for name in _lineages(job.shards)
        }
        remedy = (
            "put data and runs on storage that all nodes share, under the same absolute path, and "
            "name it with --shards and --runs"
        )
        probe_nodes(expected, TrainingError, remedy)


def probe_nodes(expected: Mapping[str, str], kind: type[StvsrError], remedy: str) -> None:
    """Have each other node of the connected cluster look for what this one sees.

    Args:
        expected: SHA-256 by path, or `EXISTS`.
        kind: the error that a missing path raises.
        remedy: what to do about it.

    Raises:
        StvsrError: of that kind; a node does not see a path, or sees another there.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    asked = {_look_on(node["NodeID"], expected): node for node in others}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    for answer in answered:
        name = f"{asked[answer]['NodeName']} ({asked[answer]['NodeID'][:8]})"
        refuse_unseen(name, _missing(answer), kind, remedy)


def refuse_unseen(node: str, missing: Sequence[str], kind: type[StvsrError], remedy: str) -> None:
    """Raise an error of `kind` that names the node and the first path it does not see, if any."""
    if missing:
        path = Path(missing[0])
        folder = path.parent if path.name.startswith(".") or path.suffix == ".json" else path
        raise kind(
            f"{folder}: node {node} of the cluster does not see there what this command's machine "
            "sees",
            remedy=remedy,
        )


def unseen(expected: Mapping[str, str]) -> list[str]:
    """Those of the paths, given with their SHA-256, that this process does not see as they are."""
    return [
        path
        for path, digest in expected.items()
        if not os.access(path, os.R_OK) or (digest != EXISTS and sha256_of(Path(path)) != digest)
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
