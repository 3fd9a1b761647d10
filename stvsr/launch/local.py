"""A local Ray cluster that other users and machines cannot read or reach."""

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

FOLDER = "STVSR_CLUSTER_FOLDER"
"""Variable that names a local cluster's private folder to its processes."""

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
"""The interface that only this machine reaches."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder that only this user can enter; it is removed at the end.

    It is in RAY_TMPDIR, or else in the temporary folder.

    Raises:
        OSError: it cannot be made.
    """
    parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory("", "stvsr-", parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def private_settings(folder: Path) -> Iterator[None]:
    """Have the Ray cluster that is started in the block listen at 127.0.0.1 only, with a new token.

    Its processes inherit the settings: they are as before when the block ends.

    Args:
        folder: a `private_folder`; it gets the token.
    """
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    reachable = ray_constants.ENABLE_RAY_CLUSTER
    names = {
        FOLDER: str(folder),
        "RAY_AUTH_MODE": None,  # Ray sets it, to "token", and only so heeds it in this process
        "RAY_AUTH_TOKEN": None,  # which would overrule the file
        "RAY_AUTH_TOKEN_PATH": str(token),
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
        "GLOO_SOCKET_IFNAME": LOOPBACK,
        "NCCL_SOCKET_IFNAME": LOOPBACK,
    }
    with _environment(names):
        # Ray replaces a node address of 127.0.0.1 by the machine's own, unless this is off.
        ray_constants.ENABLE_RAY_CLUSTER = False
        AuthenticationTokenLoader.instance().reset_cache()
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = reachable
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or remove those that are None, for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
