"""Damage to files."""

from pathlib import Path


def flip_byte(path: Path, at: int) -> None:
    """Turn every bit of one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))
