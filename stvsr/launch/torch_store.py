"""The store through which torch's processes find each other: a port, or a local cluster's file."""

import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from torch.distributed import init_process_group

from stvsr.launch.local import FOLDER


def torch_config() -> TorchConfig:
    """How the workers of a run find each other on the cluster that is connected."""
    folder = os.environ.get(FOLDER)
    return FileStoreConfig(folder=folder) if folder else TorchConfig()


@dataclass
class FileStoreConfig(TorchConfig):
    """Workers of one machine find each other through a file.

    The store that Ray has torch open instead listens on every interface and asks for no token.
    """

    folder: str = ""
    """The local cluster's private folder."""

    @property
    def backend_cls(self) -> type["_FileStoreBackend"]:
        """The class that sets torch up in the workers."""
        return _FileStoreBackend


class _FileStoreBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(_set_torch_distributed_env_vars)
        store = Path(backend_config.folder, f"torch-{uuid.uuid4().hex}").as_uri()
        workers = range(len(worker_group))
        arguments = (backend_config.backend, store, backend_config.timeout_s, len(workers))
        ray.get([worker_group.execute_single_async(n, _meet, *arguments, n) for n in workers])


def _meet(backend: str, store: str, timeout_s: int, workers: int, number: int) -> None:
    """Make this worker, the one with this `number`, known to the others; wait for them."""
    timeout = timedelta(seconds=timeout_s)
    init_process_group(backend, store, timeout, world_size=workers, rank=number)
