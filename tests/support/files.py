"""Damage to files."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path


def flip_byte(path: Path, at: int) -> None:
    """Turn every bit of one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def _make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as opened:  # the short path fits into a socket's name
        opened.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


SPECIAL_FILES: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _make_socket,
    "a folder": Path.mkdir,
    "a circle of links": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing-is-here"),
}
"""What may be in the place of a file, and how it is made."""


def replace_by_special(path: Path, kind: str) -> None:
    """Put one of `SPECIAL_FILES` in the place of a file or folder that may be there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    SPECIAL_FILES[kind](path)
