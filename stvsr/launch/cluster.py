"""A Ray cluster to run on: the one at an address, or a local one for the time of the block."""

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import ray
import torch
from ray.exceptions import RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)

from stvsr.core.errors import LeaveAtOnceError, ServiceError, TrainingError
from stvsr.launch.local import private_folder, private_settings
from stvsr.launch.own_address import set_own_address

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 256 * 1024**2
"""Object store of a local cluster: only configurations and metrics travel through it."""

POLL_SECONDS = "0.2"
"""How often Ray Train's controller looks at its workers; a `report` waits for one look."""

CONNECT_SECONDS = 5
"""How long a port may take to answer before the cluster counts as dead."""

TOKEN = "with token auth, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
"""Remedy where a cluster asks for a token."""

_ADDRESS = re.compile(
    r"(?:(?P<scheme>\w+)://)?(?:[^\s/@]+@)?"
    r"(?P<host>\[[\da-fA-F:.]+\]|[^\s/@:\[\]]+)(?::(?P<port>\d+))?(?:/\S*)?"
)

_PORTS = {"http": 80, "https": 443}
"""The port that an address without one means, by its scheme."""

DRIVER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": POLL_SECONDS,
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
"""Environment of a process that starts training workers, unless it is set already."""

LOCAL_ENVIRONMENT = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""The same for a local cluster: nobody takes its only node away, and the watcher is one more
process that takes seconds to start."""

Resources = Mapping[str, float]
"""Resources of a node or needs of a worker, such as {"CPU": 4.0, "GPU": 1.0}."""


@contextmanager
def cluster(address: str | None = None, *, dashboard: bool = False) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine's cores.

    Args:
        address: HOST:PORT of the cluster's control service, or "auto"; None: what RAY_ADDRESS
            says, and if it says nothing, a local cluster.
        dashboard: whether a local cluster has one, at 127.0.0.1, and all processes know where it
            is. A search needs that: Ray asks it which trials' runs are dead, and keeps a dead
            run's cores where it gets no answer.

    Raises:
        ServiceError: nothing answers at the address, or it refuses.
    """
    named = name_address(address)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    is_local = address == "local"
    for name, value in (DRIVER_ENVIRONMENT | (LOCAL_ENVIRONMENT if is_local else {})).items():
        os.environ.setdefault(name, value)
    told = {"worker_process_setup_hook": set_own_address} if dashboard else None
    with ExitStack() as local:
        try:
            if is_local:
                _start(local, dashboard, told)
            else:
                _join(address, told)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise _refusal(error, named) from None
        try:
            yield
        except LeaveAtOnceError:
            raise  # a thread still waits for Ray, which would end this process before it said why
        except BaseException:
            ray.shutdown()
            raise
        ray.shutdown()


def _join(address: str, told: Mapping[str, object] | None) -> None:
    if address.startswith(("http://", "https://")):
        raise ValueError("that is a dashboard, to which `train` and `tune` submit jobs")
    if address != "auto":
        check_reachable(address)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=told)


def _start(local: ExitStack, dashboard: bool, told: Mapping[str, object] | None) -> None:
    """Start a cluster of this machine; `local` undoes what that needs."""
    folder = local.enter_context(private_folder())
    local.enter_context(private_settings(folder))
    try:
        ray.init(
            address="local",
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            runtime_env=told,
            _temp_dir=str(folder / "ray"),  # within the folder: Ray opens it itself to everybody
        )
    except Exception as error:
        if type(error) is not Exception:  # which Ray raises after 30 s without its own processes
            raise
        raise ServiceError(
            "a local Ray cluster: it did not start in time, as on a machine that is very busy",
            resumable=True,
        ) from None


def _refusal(error: Exception, named: str) -> ServiceError:
    reason = (str(error).splitlines() or ["no reason given"])[0]
    if "AF_UNIX" in reason:
        remedy = "set RAY_TMPDIR to a folder with a short name, such as /tmp"
    elif named:
        remedy = f"start that cluster, or name another; {TOKEN}"
    else:
        remedy = "see `stvsr doctor`"
    return ServiceError(f"{named or 'a local Ray cluster'}: cannot be reached ({reason}); {remedy}")


def free_cores() -> None:
    """Remove the placement groups that were made in this driver's name.

    Ray keeps the one of an actor that died while it asked for it, beyond the driver's own end.
    """
    mine = ray.get_runtime_context().get_job_id()
    for name, group in placement_group_table().items():
        if name.endswith(mine) and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


def name_address(address: str | None) -> str:
    """How a message names a cluster's address: by where the user said it; "" where nobody did."""
    told = os.environ.get("RAY_ADDRESS")
    return f"--address {address}" if address else f"RAY_ADDRESS={told}" if told else ""


def check_reachable(address: str) -> None:
    """Refuse what is no [SCHEME://]HOST:PORT and where nobody listens; Ray would try for minutes.

    Raises:
        ValueError: the address has no host or no port.
        OSError: nothing listens there.
    """
    named = _ADDRESS.fullmatch(address)
    port = named and (named["port"] or _PORTS.get(named["scheme"]))
    if not named or not port:
        raise ValueError("that names no HOST:PORT")
    place = (named["host"].strip("[]"), int(port))
    socket.create_connection(place, CONNECT_SECONDS).close()


def worker_resources(workers: int, fewest: int | None = None) -> dict[str, float]:
    """Resources of each training worker: an equal share of the cores, and a GPU if there are any.

    Args:
        workers: how many shall train together.
        fewest: with how many training may start where the cluster has no room for all of them;
            None: all.

    Raises:
        TrainingError: the cluster has no room for `fewest` workers.
    """
    nodes = alive_nodes()
    gpu = 1.0 if uses_gpu() else 0.0
    for count in range(workers, (fewest or workers) - 1, -1):
        share = largest_share(nodes, count, gpu)
        if share:
            return {"CPU": float(share)} | ({"GPU": gpu} if gpu else {})
    most = room(nodes, {"CPU": 1.0, "GPU": gpu})
    cores, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    raise TrainingError(
        f"train.workers: found {workers}; allowed: at most {most}, since the cluster has {cores} "
        f"cores and {gpus} GPUs on {len(nodes)} nodes; lower train.workers or add nodes"
    )


def largest_share(nodes: Sequence[Resources], workers: int, gpu: float = 0.0) -> int:
    """The most cores that each of `workers` can have with all of them running; 0: no room."""
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    shares = range(most, 0, -1)
    return next((c for c in shares if room(nodes, {"CPU": c, "GPU": gpu}) >= workers), 0)


def room(nodes: Sequence[Resources], need: Resources) -> int:
    """How many workers that need `need` run at once on `nodes`."""
    wanted = {kind: amount for kind, amount in need.items() if amount > 0}
    return sum(
        min(int(node.get(kind, 0) // amount) for kind, amount in wanted.items()) for node in nodes
    )


def alive_nodes() -> list[Resources]:
    """The resources of each node of the connected cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def uses_gpu() -> bool:
    """True if workers train on GPUs: a node has some, and where it is this one, torch sees them."""
    here = ray.get_runtime_context().get_node_id()
    return any(
        node["Alive"]
        and node["Resources"].get("GPU", 0) > 0
        and (node["NodeID"] != here or torch.cuda.is_available())
        for node in ray.nodes()
    )


class CapacityMonitor:
    """Says when the cluster loses its room for a run's workers, and when it has it again."""

    def __init__(self, need: Resources, workers: int, fewest: int | None) -> None:
        """Take what a worker needs, how many shall train, and how few may (None: all)."""
        self._need = need
        self._workers = workers
        self._fewest = fewest or workers
        self._room = workers

    @property
    def waits(self) -> bool:
        """True if training cannot resume before another node joins."""
        return self._room < self._fewest

    def look(self) -> None:
        """Compare the nodes that are alive with what the run needs; log what has changed."""
        nodes = alive_nodes()
        found = min(room(nodes, self._need), self._workers)
        if found == self._room:
            return
        has = f"the cluster has room for {found} of {self._workers} workers ({len(nodes)} nodes)"
        previous, self._room = self._room, found
        if self.waits:
            need = " and ".join(f"{amount:g} {kind}" for kind, amount in self._need.items())
            logger.warning(
                "%s: training waits until a node with %s per worker joins, and then resumes from "
                "the newest checkpoint", has, need,
            )  # fmt: skip
        elif found < previous:
            logger.warning("%s: training resumes with fewer, and with more when a node joins", has)
        else:
            logger.info("%s: training resumes with them from the newest checkpoint", has)
