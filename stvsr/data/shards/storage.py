"""Storage of a shard set: a folder of this machine, or anything fsspec knows, such as S3.

The only importer of fsspec. A `Storage` reads files of one folder; nothing here writes.
"""

import mmap
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import fsspec  # type: ignore[import-untyped]

from stvsr.core.errors import ServiceError, ShardError
from stvsr.core.files import is_side_file, open_regular, read_bytes
from stvsr.data.shards.format import MOST_BYTES

Address = str | Path
"""A folder: a path of this machine, or an fsspec address such as "s3://bucket/shards/train"."""

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")

_S3_LIMITS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}}
"""Time limits, in seconds, for a store that does not answer, by botocore's names."""


class Storage(Protocol):
    """The files of one folder."""

    address: str
    """The folder, for messages."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name; a folder that is not there is empty.

        Hidden side files are left out.

        Raises:
            ServiceError: a remote store does not answer or refuses.
        """

    def read_whole(self, names: Sequence[str]) -> list[bytes]:
        """Read small files.

        Raises:
            FileNotFoundError, NotADirectoryError: one of them is not there.
            ShardError: one is larger than `MOST_BYTES`, or not a regular file.
            ServiceError: a remote store does not answer or refuses.
        """

    def read_range(self, name: str, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop` - 1 of a file; fewer where the file ends before.

        Raises:
            FileNotFoundError: it is not there.
            ServiceError: it may not be read, or a remote store does not answer.
        """


def open_storage(address: Address) -> Storage:
    """The storage behind an address.

    Raises:
        ShardError: no filesystem of that name is known or installed.
    """
    return RemoteStorage(str(address)) if is_remote(address) else LocalStorage(Path(address))


def is_remote(address: Address) -> bool:
    """True if fsspec reads it: "s3://bucket/set" and the like, but no path of this machine."""
    return isinstance(address, str) and bool(_REMOTE.match(address))


def inside(address: Address, name: str) -> str:
    """The address of `name` in a folder."""
    return posixpath.join(str(address), name)


def absolute(address: Address) -> str:
    """The same address from any working folder."""
    return str(address) if is_remote(address) else str(Path(address).resolve())


class LocalStorage:
    """A folder of this machine; what is read at random is mapped into memory, not copied."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder)
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def sizes(self) -> dict[str, int]:
        """As `Storage.sizes`."""
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: entry.stat().st_size
                    for entry in entries
                    if not is_side_file(entry.name) and Path(entry).is_file()
                }
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def read_whole(self, names: Sequence[str]) -> list[bytes]:
        """As `Storage.read_whole`."""
        return [self._read(self._folder / name) for name in names]

    def _read(self, path: Path) -> bytes:
        try:
            return read_bytes(path, MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise ShardError(
                f"{path}: cannot be read ({error.strerror})", remedy="write the shards again"
            ) from None

    def read_range(self, name: str, start: int, stop: int) -> memoryview:
        """As `Storage.read_range`: a view of the mapped file."""
        if name not in self._maps:
            mapped = self._map(self._folder / name)
            if mapped is None:
                return memoryview(b"")
            self._maps[name] = mapped
        return memoryview(self._maps[name])[start:stop]

    def _map(self, path: Path) -> mmap.mmap | None:
        """The file in memory; an empty one cannot be mapped."""
        try:
            with open_regular(path) as file:
                if not os.fstat(file.fileno()).st_size:
                    return None
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ServiceError(f"{path}: cannot be read ({error.strerror or error})") from error

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": {}}


class RemoteStorage:
    """A folder that fsspec reads; credentials and endpoints are the environment's."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        options: dict[str, Any] = (
            {"config_kwargs": _S3_LIMITS} if re.match("s3a?://", address) else {}
        )
        self._filesystem: Any  # one for all threads, which share its connections
        try:
            self._filesystem, path = fsspec.core.url_to_fs(address, **options)
        except (ValueError, ImportError) as error:
            raise ShardError(
                f"{address}: {error}; allowed: a folder, or an address that fsspec reads, such as "
                "s3://BUCKET/FOLDER"
            ) from None
        self._path = path.rstrip("/")
        self._listed: dict[str, int] | None = None

    def sizes(self) -> dict[str, int]:
        """As `Storage.sizes`: one listing."""
        try:
            found = self._ask("ls", self._path, detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        files = (entry for entry in found if entry["type"] == "file")
        sizes = {posixpath.basename(entry["name"]): int(entry["size"]) for entry in files}
        self._listed = {name: size for name, size in sizes.items() if not is_side_file(name)}
        return self._listed

    def read_whole(self, names: Sequence[str]) -> list[bytes]:
        """As `Storage.read_whole`: many at a time where the filesystem can."""
        listed = self.sizes() if self._listed is None else self._listed
        for name in names:
            if (size := listed.get(name, 0)) > MOST_BYTES:
                raise ShardError(
                    f"{inside(self.address, name)}: {size} bytes; at most {MOST_BYTES} are read",
                    remedy="write the shards again",
                )
        paths = [inside(self._path, name) for name in names]
        contents = self._ask("cat", paths, on_error="raise")
        return [contents[path] for path in paths]

    def read_range(self, name: str, start: int, stop: int) -> memoryview:
        """As `Storage.read_range`: one ranged read."""
        return memoryview(self._ask("cat_file", inside(self._path, name), start=start, end=stop))

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call the filesystem; what it raises depends on which one it is, and on its libraries."""
        try:
            return getattr(self._filesystem, method)(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ServiceError(
                f"{self.address}: cannot be read ({reason}); see that the store is up, the bucket "
                "is there and the environment has its endpoint and credentials"
            ) from error
