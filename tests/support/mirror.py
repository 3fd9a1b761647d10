"""A real HTTP server on this machine that misbehaves on demand."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """The files of a server, how it behaves, and what it was asked.

    Attributes:
        files: content by name.
        break_after: for the next requests, in turn, the bytes after which the connection breaks.
        pause_after: for the next requests, in turn, the bytes after which it waits for `released`.
        statuses: for the next requests, in turn, the status it answers with instead.
        ranges: whether it sends ranges.
        if_range: whether it heeds If-Range.
        etag: the files' ETag; None: it sends none.
        content_type: of every answer.
        length: whether it says a file's length.
        asked: (name, Range header or "") of every request.
    """

    files: dict[str, bytes]
    break_after: list[int] = field(default_factory=list)
    pause_after: list[int] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    if_range: bool = True
    etag: str | None = '"1"'
    content_type: str = "application/octet-stream"
    length: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(mirror: Mirror) -> Iterator[Mirror]:
    """Serve until the block ends; `mirror.url` is the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, mirror)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mirror
    finally:
        mirror.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, mirror: Mirror) -> None:
    name = request.path.lstrip("/")
    wanted = request.headers.get("Range", "")
    mirror.asked.append((name, wanted))
    content = mirror.files.get(name)
    if mirror.statuses or content is None:
        request.send_error(mirror.statuses.pop(0) if mirror.statuses else 404)
        return
    start = range_start(request, mirror, wanted)
    if start > len(content):
        request.send_error(416)
        return
    request.send_response(206 if start else 200)
    if start:
        last = len(content) - 1
        request.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
    if mirror.etag:
        request.send_header("ETag", mirror.etag)
    if mirror.length:
        request.send_header("Content-Length", str(len(content) - start))
    request.send_header("Content-Type", mirror.content_type)
    request.end_headers()
    body = content[start:]
    if mirror.pause_after:
        request.wfile.write(body[: mirror.pause_after.pop(0)])
        mirror.released.wait(600)
        return
    request.wfile.write(body[: mirror.break_after.pop(0)] if mirror.break_after else body)


def range_start(request: BaseHTTPRequestHandler, mirror: Mirror, wanted: str) -> int:
    """The first byte to send; 0 for the whole file."""
    asked = re.fullmatch(r"bytes=(\d+)-", wanted)
    same = not mirror.if_range or request.headers.get("If-Range") == mirror.etag
    return int(asked[1]) if asked and mirror.ranges and same else 0
