"""Damage to bytes and to JSON, each a pure function of its randomness and the whole bytes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.malformed.kind import Bytes, Damage, in_file, replaced, special

HUGE = 2**35
"""Bytes of a file that is too large to be read; it has no blocks on the disk."""

DEPTH = 100_000
"""Levels of nesting that no reader should follow."""


def flip_bit(random: Random, whole: bytes) -> bytes:
    at = random.randrange(8 * len(whole))
    return _with(whole, at // 8, bytes([whole[at // 8] ^ 1 << at % 8]))


def flip_bytes(random: Random, whole: bytes) -> bytes:
    for _ in range(random.randrange(1, 8)):
        at = random.randrange(len(whole))
        whole = _with(whole, at, bytes([whole[at] ^ 0xFF]))
    return whole


def cut(random: Random, whole: bytes) -> bytes:
    return whole[: random.randrange(1, len(whole))]


def cut_near_end(random: Random, whole: bytes) -> bytes:
    return whole[: -random.randrange(1, min(64, len(whole)))]


def empty(random: Random, whole: bytes) -> bytes:
    return b""


def zeros(random: Random, whole: bytes) -> bytes:
    start, length = _run(random, whole)
    return _with(whole, start, bytes(length))


def noise(random: Random, whole: bytes) -> bytes:
    start, length = _run(random, whole)
    return _with(whole, start, random.randbytes(length))


def dropped(random: Random, whole: bytes) -> bytes:
    start, length = _run(random, whole)
    return whole[:start] + whole[start + length :]


def doubled(random: Random, whole: bytes) -> bytes:
    start, length = _run(random, whole)
    return whole[: start + length] + whole[start:]


def appended(random: Random, whole: bytes) -> bytes:
    return whole + random.randbytes(random.randrange(1, 600))


def web_page(random: Random, whole: bytes) -> bytes:
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"


def all_noise(random: Random, whole: bytes) -> bytes:
    return random.randbytes(min(len(whole), 4096))


BYTES: Mapping[str, Bytes] = {
    change.__name__: change
    for change in (
        *(flip_bit, flip_bytes, cut, cut_near_end, empty, zeros, noise, dropped, doubled),
        *(appended, web_page, all_noise),
    )
}
"""Damage to a file that a checksum, or its format, shows."""

COARSE: Mapping[str, Bytes] = {
    name: BYTES[name] for name in ("cut", "empty", "web_page", "all_noise")
}
"""Damage to a file without a checksum: the rest may make another valid file."""


def in_bytes(file: str, changes: Mapping[str, Bytes] = BYTES, *also: str) -> list[Damage]:
    """Damage to a file's bytes, something else in its place, and a file too large to read."""
    found = [in_file(name, file, change, also) for name, change in changes.items()]
    huge = replaced("32 GiB of nothing", file, _put_huge, also)
    return [*found, huge, *special(file, also)]


def in_text(file: str, *also: str) -> list[Damage]:
    """Text in other encodings and with characters that are none."""
    return [in_file(name, file, change, also) for name, change in TEXT.items()]


def in_json(file: str, *also: str) -> list[Damage]:
    """Values of a JSON file that are of another type, missing, unknown or not finite."""
    return [in_file(name, file, on_json(change), also) for name, change in JSON.items()]


def in_json_lines(file: str, *also: str) -> list[Damage]:
    """`in_json` for one line of a file with a value a line."""
    return [in_file(name, file, on_line(on_json(change)), also) for name, change in JSON.items()]


# --- text


def _encoded(encoding: str) -> Bytes:
    return lambda random, whole: whole.decode("utf-8", "replace").encode(encoding, "replace")


def byte_order_mark(random: Random, whole: bytes) -> bytes:
    return b"\xef\xbb\xbf" + whole


def nul(random: Random, whole: bytes) -> bytes:
    return _inserted(random, whole, b"\0")


def not_utf8(random: Random, whole: bytes) -> bytes:
    return _inserted(random, whole, b"\xff\xfe\xe9")


def control_characters(random: Random, whole: bytes) -> bytes:
    return _inserted(random, whole, b"\x1b[2J\x07")


def huge_line(random: Random, whole: bytes) -> bytes:
    return _inserted(random, whole, b"9" * 3_000_000)


TEXT: Mapping[str, Bytes] = {
    **{change.__name__: change for change in (byte_order_mark, nul, not_utf8, huge_line)},
    "control_characters": control_characters,
    "utf_16": _encoded("utf-16"),
    "utf_16_le": _encoded("utf-16-le"),
    "utf_32": _encoded("utf-32"),
}


def flip_digit(random: Random, whole: bytes) -> bytes:
    """Another digit in the place of one: still valid text, with another meaning."""
    places = [at for at, byte in enumerate(whole) if chr(byte).isdigit()]
    at = random.choice(places)
    return _with(whole, at, str((int(whole[at : at + 1]) + random.randrange(1, 10)) % 10).encode())


def lost_line(random: Random, whole: bytes) -> bytes:
    lines = whole.splitlines(keepends=True)
    del lines[random.randrange(len(lines))]
    return b"".join(lines)


def doubled_line(random: Random, whole: bytes) -> bytes:
    lines = whole.splitlines(keepends=True)
    at = random.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def swapped_lines(random: Random, whole: bytes) -> bytes:
    lines = whole.splitlines(keepends=True)
    at = random.randrange(len(lines) - 1)
    lines[at : at + 2] = reversed(lines[at : at + 2])
    return b"".join(lines)


def on_line(change: Bytes) -> Bytes:
    """The change, to one line."""

    def on_one(random: Random, whole: bytes) -> bytes:
        lines = whole.splitlines(keepends=True)
        at = random.randrange(len(lines))
        lines[at] = change(random, lines[at].rstrip(b"\n")) + b"\n"
        return b"".join(lines)

    return on_one


# --- JSON

Change = Callable[[Random, Any, Any], None]
"""Changes the item of a container, given container and key."""

RAW = "\N{REPLACEMENT CHARACTER}"
"""Put for a value that `json.dumps` cannot write, and replaced by its text."""


def on_json(change: "Change | str") -> Bytes:
    """The change of one item somewhere in a JSON text; a text is put in its place as it is."""

    def on_text(random: Random, whole: bytes) -> bytes:
        value = {"": json.loads(whole)}
        container, key = random.choice(_items(value[""])) if _items(value[""]) else (value, "")
        if isinstance(change, str):
            container[key] = RAW
            return json.dumps(value[""]).replace(json.dumps(RAW), change).encode()
        change(random, container, key)
        return json.dumps(value[""]).encode()

    return on_text


def _items(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [item for key in keys for item in [(value, key), *_items(value[key])]]


def _lost(random: Random, container: Any, key: Any) -> None:
    del container[key]


def _unknown(random: Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container["unknown"] = 1
    else:
        container.append("unknown")


def _other_type(random: Random, container: Any, key: Any) -> None:
    others: list[Any] = [None, True, 7, 1.5, "text", [], {}, [[1]], {"a": 1}, "7"]
    container[key] = random.choice([o for o in others if type(o) is not type(container[key])])


def _negative(random: Random, container: Any, key: Any) -> None:
    container[key] = random.choice([-1, -(2**31), -(2**63) - 1])


def _large(random: Random, container: Any, key: Any) -> None:
    container[key] = random.choice([2**31, 2**63, 2**64, 10**30, 10**12])


JSON: Mapping[str, Change | str] = {
    "lost item": _lost,
    "unknown item": _unknown,
    "other type": _other_type,
    "negative number": _negative,
    "large number": _large,
    "not a number": "NaN",
    "infinite": "-Infinity",
    "overflowing": "1e999",
    "5000 digits": "9" * 5000,
    "deep list": "[" * DEPTH + "]" * DEPTH,
    "deep mapping": '{"a":' * DEPTH + "1" + "}" * DEPTH,
    "half a surrogate": '"\\ud800"',
    "control characters": '"\\u0000\\u001b[2J\\u0007\\n"',
    "markup": '"[/bold]<script>alert(1)</script>=1+1|"',
}


def _with(whole: bytes, at: int, part: bytes) -> bytes:
    return whole[:at] + part + whole[at + len(part) :]


def _run(random: Random, whole: bytes) -> tuple[int, int]:
    """Start and length of a part of the bytes."""
    start = random.randrange(len(whole))
    return start, random.randrange(1, max(2, min(600, len(whole) - start)))


def _inserted(random: Random, whole: bytes, part: bytes) -> bytes:
    at = random.randrange(len(whole) + 1)
    return whole[:at] + part + whole[at:]


def _put_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE)
