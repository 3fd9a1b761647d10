"""Setup hook of a search's processes: name their own cluster. Imports nothing heavy."""

import os

import ray


def set_own_address() -> None:
    """Name this process's own cluster in RAY_ADDRESS; run in each of a search's processes.

    Ray Train asks Ray's State API whether a stopped trial's controller is dead, and frees its
    cores. The State API looks for a cluster on the machine, and takes another one that runs there,
    or none where there are several.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
