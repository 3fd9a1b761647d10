"""Tiny zips in the layout of Vimeo-90K's, whole and damaged."""

import struct
import zipfile
from pathlib import Path

TOP = "vimeo_septuplet/"


def zip_dataset(folder: Path, path: Path, top: str = TOP, method: int = zipfile.ZIP_STORED) -> Path:
    """Zip a dataset's folder as the published one is: everything below one top folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{top}{file.relative_to(folder)}")
    return path


def entry_of(path: Path, member: str) -> int:
    """The byte at which a member's entry in the central directory begins."""
    content = path.read_bytes()
    name = content.rindex(member.encode())
    return content.rindex(b"PK\1\2", 0, name)


def patch_entry(path: Path, member: str, field: int, layout: str, value: int) -> None:
    """Overwrite a number in a member's entry of the central directory, `field` bytes from it."""
    at = entry_of(path, member) + field
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, at, value)
    path.write_bytes(content)


def flip_byte(path: Path, at: int) -> None:
    """Turn every bit of one byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
