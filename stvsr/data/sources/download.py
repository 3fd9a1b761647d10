"""Resumable HTTP download of one file. The only importer of httpx."""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import httpx

from stvsr.core.config import Config, Count
from stvsr.core.errors import ServiceError, SourceError
from stvsr.core.files import write_text_whole
from stvsr.core.progress import progress

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before each new try; the count begins again when a try brought some bytes."""

TIMEOUT = 60.0
"""Seconds without an answer or a byte after which a connection counts as broken."""

KIB, MIB = 2**10, 2**20


class _Begun(Config):
    """`NAME.part.json`: which file of the server the bytes in `NAME.part` are of."""

    validator: str | None
    """Its strong ETag, else its time of change; None: the server tells neither."""
    size: Count | None
    """Its bytes; None: the server does not say."""


class _BrokenError(Exception):
    """A failed attempt that may succeed when repeated."""


def download(
    url: str, path: Path, check: Callable[[Path], None], waits: Sequence[float] = WAITS
) -> None:
    """Fetch `url` to `path`, which appears when all of it is there and `check` has passed.

    Until then the bytes are in `NAME.part`, and a later call continues with them, provided that the
    server still has the same file (ETag or time of change) and sends ranges; otherwise it begins
    again and says so. A connection that breaks is tried again after a while.

    Args:
        url: http or https.
        path: the file to make, in a folder that exists.
        check: called with the path of the complete `NAME.part`; raises SourceError where it is
            not what it should be, which removes it.
        waits: seconds before each new try without progress.

    Raises:
        ServiceError: the server or a proxy cannot be reached, refuses, or sends a page instead of
            the file.
        SourceError: the disk has too little room, something else is in the file's place, or what
            `check` says.
    """
    part = path.with_name(f"{path.name}.part")
    for file in (path, part):
        if os.path.lexists(file) and not file.is_file():
            raise SourceError(f"{file}: something else than a file is there; move it away")
    tries = 0
    with _client() as client:
        while True:
            before = _size(part)
            try:
                _continue(client, url, part)
                break
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise ServiceError(
                    f"{url}: no address ({error}); allowed are http:// and https:// ones"
                ) from None
            except (httpx.TransportError, _BrokenError) as error:
                tries = 0 if _size(part) > before else tries
                _wait(url, part, str(error) or type(error).__name__, tries, waits)
                tries += 1
            except httpx.HTTPError as error:
                raise ServiceError(f"{url}: cannot be fetched ({error})") from None
    try:
        check(part)
    except SourceError:
        _forget(part)
        raise
    part.replace(path)
    _forget(part)


def _client() -> httpx.Client:
    try:
        return httpx.Client(follow_redirects=True, timeout=httpx.Timeout(TIMEOUT))
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ServiceError(
            f"the environment names a proxy that cannot be used ({error}); allowed are http:// and "
            "https:// ones: change or unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY"
        ) from None


def _wait(url: str, part: Path, reason: str, tries: int, waits: Sequence[float]) -> None:
    if tries >= len(waits):
        raise ServiceError(
            f"{url}: the connection failed {tries + 1} times in a row ({reason}); "
            f"{_size(part)} bytes are in {part}: run the same command again to resume, or name a "
            "mirror with --from"
        )
    logger.warning("%s: %s; trying again in %g s", url, reason, waits[tries])
    time.sleep(waits[tries])


def _continue(client: httpx.Client, url: str, part: Path) -> None:
    """Append what is missing in `part`, or write it from the beginning."""
    begun, have = _begun(part), _size(part)
    if begun is not None and begun.size == have:
        return
    headers = {"Accept-Encoding": "identity"}
    if have and begun is not None and begun.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": begun.validator}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.PARTIAL_CONTENT and begun is not None:
            if _continues(response, begun, have):
                logger.info("%s: resumes at byte %d of %s", part.name, have, begun.size or "?")
                _check_room(part, (begun.size or have) - have)
                with part.open("ab") as file:
                    _write(response, file, part, have, begun.size)
                return
        elif response.status_code == httpx.codes.OK:
            _begin(response, part, have)
            return
        elif response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _refusal(url, response)
    _forget(part)
    raise _BrokenError("the file changed on the server, so it is fetched from the beginning")


def _begin(response: httpx.Response, part: Path, have: int) -> None:
    if "html" in response.headers.get("Content-Type", ""):
        raise ServiceError(
            f"{response.url}: the server sends a page (text/html) and not the file; open it in a "
            "browser to see what it says, or name a mirror with --from"
        )
    if have:
        logger.warning(
            "%s: begun again: the server sends no ranges, or the file changed there", part.name
        )
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    _check_room(part, (size or 0) - have)
    # First the old bytes go, then the new validator comes: never one with the other.
    with part.open("wb") as file:
        begun = _Begun(validator=_validator(response), size=size)
        write_text_whole(_record(part), begun.model_dump_json())
        _write(response, file, part, 0, size)


def _write(
    response: httpx.Response, file: BinaryIO, part: Path, have: int, size: int | None
) -> None:
    unit, name = (MIB, "MiB") if size is None or size >= 16 * MIB else (KIB, "KiB")
    units = _written(response.iter_raw(), file, have, unit)
    total = 0 if size is None else size // unit
    for _ in progress(units, total, f"fetching {part.stem}, {name}", done=have // unit):
        pass
    if size is not None and file.tell() != size:
        raise _BrokenError(f"{file.tell()} of {size} bytes came")


def _written(chunks: Iterable[bytes], file: BinaryIO, have: int, unit: int) -> Iterator[None]:
    """Write the chunks; yield once for each unit of bytes that is full."""
    done = have
    for chunk in chunks:
        file.write(chunk)
        yield from [None] * ((done + len(chunk)) // unit - done // unit)
        done += len(chunk)


def _continues(response: httpx.Response, begun: _Begun, have: int) -> bool:
    """True if a 206 answer brings the bytes after those that are there, of the same file."""
    found = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if found is None or int(found[1]) != have:
        return False
    same_size = found[3] == "*" or begun.size is None or int(found[3]) == begun.size
    return same_size and _validator(response) in (None, begun.validator)


def _validator(response: httpx.Response) -> str | None:
    """Identifier of this version of the file: a weak ETag does not name its bytes."""
    etag: str | None = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    changed: str | None = response.headers.get("Last-Modified")
    return changed


def _refusal(url: str, response: httpx.Response) -> Exception:
    answer = f"{response.status_code} {response.reason_phrase}"
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        return _BrokenError(f"the server answers {answer}")
    return ServiceError(
        f"{url}: the server answers {answer}; name a mirror that has the file with --from"
    )


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise SourceError(
            f"{part}: {needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free on its "
            "disk; free some, or name a folder on another disk with --out"
        )


def _begun(part: Path) -> _Begun | None:
    try:
        return _Begun.read(_record(part), SourceError, "")
    except (FileNotFoundError, SourceError):
        return None


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _record(part).unlink(missing_ok=True)
