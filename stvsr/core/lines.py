"""Lines of JSON with a checksum each, which covers the line and all lines before it."""

import hashlib
import json
from collections.abc import Mapping

_DIGITS = 16
_MARK = b', "checksum": "'


class Chain:
    """The checksums of a file of JSON objects, a line each, while it is written or read.

    A changed digit, a line that was lost and one that moved are found at that line or the next.
    """

    def __init__(self, checksum: str = "") -> None:
        self._checksum = checksum

    def copy(self) -> "Chain":
        """A chain that continues after the same line."""
        return Chain(self._checksum)

    def seal(self, fields: Mapping[str, object]) -> bytes:
        """The next line: `fields` and their checksum, newline included.

        Raises:
            ValueError: a number is not finite.
        """
        body = json.dumps(fields, allow_nan=False).encode().removesuffix(b"}")
        return body + _MARK + self._next(body) + b'"}\n'

    def accept(self, line: bytes) -> bool:
        """Take the next line, without its newline; False where its checksum is not the right one.

        A line without a checksum is accepted until a line has one: earlier versions wrote such.
        """
        body, mark, checksum = line.rpartition(_MARK)
        if not mark:
            return not self._checksum
        return checksum == self._next(body) + b'"}'

    def _next(self, body: bytes) -> bytes:
        content = self._checksum.encode() + body
        self._checksum = hashlib.sha256(content).hexdigest()[:_DIGITS]
        return self._checksum.encode()
