"""Ports of 127.0.0.1: for servers that a test starts, and for those that are not there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """A port that the system gives to nobody else while the block runs; nobody listens there yet.

    A server that is told its number can: servers set SO_REUSEADDR, as the holder does.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
