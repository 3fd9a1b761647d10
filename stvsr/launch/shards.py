"""`stvsr shard` on a Ray cluster: one task per shard, on whatever node has a core to spare."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stvsr.core.errors import ServiceError, ShardError
from stvsr.core.progress import progress
from stvsr.data.clips.layout import Split
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.format import Lineage
from stvsr.data.shards.write import (
    ShardsConfig,
    ShardTask,
    WrittenShard,
    build_shard,
    write_shards,
    writer_code,
)
from stvsr.launch.cluster import cluster
from stvsr.launch.probe import EXISTS, beacon, probe_nodes, refuse_unseen, unseen

MAX_RETRIES = 3
"""Retries of a shard whose worker or node died."""

TASKS_PER_CORE = 2
"""Tasks that are handed to the cluster at a time, so that none of its cores waits for the next."""

REMEDY = (
    "put source and shards on storage that all nodes share, under the same absolute path, or unset "
    "RAY_ADDRESS"
)
"""Remedy where a node does not see them."""

CANCEL_SECONDS = 10.0
"""How long an interrupted command waits for its tasks to be gone."""


def write_shards_on_cluster(
    index: Path, split: Split, out: Path, config: ShardsConfig, degradation: DegradationConfig
) -> Lineage:
    """`write_shards` on the cluster that RAY_ADDRESS names; the bytes are the same.

    The source and `out` are on storage that all nodes share, under the same absolute paths;
    `config.workers` plays no part.

    Raises:
        ServiceError: the cluster does not answer, or a task was killed again and again.
        ShardError: a node does not see the source or `out`.
        StvsrError: as `write_shards`.
    """
    with cluster():
        return write_shards(
            index.resolve(), split, out.resolve(), config, degradation, run=on_cluster
        )


def on_cluster(tasks: Sequence[ShardTask], workers: int, what: str) -> Iterator[WrittenShard]:
    """Run the tasks on the cluster that is connected; a `RunTasks`."""
    with beacon(tasks[0].path.parent, writer_code()) as path:
        probe_nodes(_expected(tasks[0], path), ShardError, REMEDY)
        written = dict(progress(_completed(tasks, path), len(tasks), what))
    yield from (written[number] for number in range(len(tasks)))


def build_on_node(task: ShardTask, mark: Path) -> WrittenShard:
    """`build_shard` on a node that sees the folders of the machine that sent the task.

    Args:
        task: the shard.
        mark: the command's beacon beside the shards; it names their writer.

    Raises:
        ShardError: this node's storage is another one, or its code would write other shards.
        StvsrError, OSError: as `build_shard`.
    """
    node = ray.util.get_node_ip_address()
    refuse_unseen(node, unseen(_expected(task, mark)), ShardError, REMEDY)
    if (wanted := mark.read_text()) != (found := writer_code()):
        raise ShardError(
            f"{mark.parent}: node {node} of the cluster writes shards as {found}, the machine of "
            f"this command as {wanted}; install the same stvsr on both, or unset RAY_ADDRESS"
        )
    return build_shard(task)


def _expected(task: ShardTask, mark: Path) -> dict[str, str]:
    return {str(task.root): EXISTS, str(mark): EXISTS}


def _completed(tasks: Sequence[ShardTask], mark: Path) -> Iterator[tuple[int, WrittenShard]]:
    """Yield (number, result) as tasks end; left early, it cancels those that have not."""
    remote = ray.remote(max_retries=MAX_RETRIES)(build_on_node)
    most = max(1, TASKS_PER_CORE * int(ray.cluster_resources().get("CPU", 1)))
    waiting = iter(enumerate(tasks))
    pending: dict[Any, int] = {}
    try:
        while True:
            for number, task in islice(waiting, most - len(pending)):
                pending[remote.remote(task, mark)] = number
            if not pending:
                return
            (ended,), _ = ray.wait(list(pending), num_returns=1)
            number = pending.pop(ended)
            yield number, _result(ended, tasks[number])
    finally:
        _cancel(list(pending))


def _result(reference: Any, task: ShardTask) -> WrittenShard:
    try:
        written: WrittenShard = ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServiceError(
            f"{task.path}: its task was killed {MAX_RETRIES + 1} times ({reason}); see that the "
            "nodes have memory to spare, and run the same command again"
        ) from error
    return written


def _cancel(pending: list[Any]) -> None:
    """Kill tasks that nobody waits for any more, so that none writes after this command's end."""
    for reference in pending:
        ray.cancel(reference, force=True)
    if pending:
        ray.wait(pending, num_returns=len(pending), timeout=CANCEL_SECONDS)
