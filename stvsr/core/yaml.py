"""YAML files, read as DVC reads them: the same library, called in the same way. The only reader.

A file is limited before it is read, and its structure before values are made of it, so that a
few bytes of aliases cannot become gigabytes.
"""

import errno
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError

from stvsr.core.errors import ParamsError
from stvsr.core.escape import one_line
from stvsr.core.files import read_bytes

Value = str | int | float | bool
"""Value of one parameter."""

LARGEST_FILE = 1 << 20
"""Bytes of a file at most; ours have a few thousand."""

LARGEST_WEIGHT = 20_000
"""Keys and values at most, each alias counted as all that it repeats; long texts count more."""

DEEPEST = 32
"""Lists and mappings inside each other at most."""

_LETTERS_OF_ONE = 32
"""Letters of a text that count as one value."""

_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Characters that no name, path or command has."""


def read_yaml(path: Path) -> Any:
    """Read a file.

    Raises:
        ParamsError: as `parse_yaml`, or it is no ordinary file, or too large.
        OSError: it is missing or cannot be read.
    """
    return parse_yaml(read_bounded(path), str(path))


def read_bounded(path: Path) -> bytes:
    """The bytes of a file that may be YAML; it is opened only where it is ordinary and small.

    Raises:
        ParamsError: it is not.
        OSError: it is missing or cannot be read.
    """
    try:
        return read_bytes(path, LARGEST_FILE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFBIG):
            raise
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None


def parse_yaml(content: bytes, where: str) -> Any:
    """Values of a YAML text: mappings with text as keys, lists, text, numbers, booleans and null.

    Args:
        content: the text, in UTF-8.
        where: what a refusal begins with.

    Raises:
        ParamsError: it is no YAML; a key is there twice; it is larger, deeper or more repetitive
            than allowed; or it has something else, such as a date, a tag or a key that is a number.
    """
    try:
        text = content.decode("utf-8")
        _check_structure(YAML(typ="safe").parse(text))
        values = YAML(typ="safe").load(text)
        _check_values(values, ())
    except _RefusedError as refusal:
        raise ParamsError(f"{where}: {refusal}") from None
    except DuplicateKeyError as error:
        found = re.search(r'found duplicate key "([^"]*)"', str(error))
        key = found[1] if found else "<<"
        raise ParamsError(f"{where}: the key {key!r} is there twice; remove one of them") from None
    except Exception as error:  # the library's arithmetic raises what it likes, such as IndexError
        reason = " ".join(str(error).split())[:300]
        raise ParamsError(f"{where}: not valid YAML: {reason}") from None
    return values


def with_values(content: bytes, values: Mapping[str, Value], where: str) -> bytes:
    """A YAML text with some values set; comments, order and layout stay.

    Args:
        content: a mapping.
        values: by dotted key, such as {"train.steps": 200}; missing sections are made.
        where: what a refusal begins with.

    Raises:
        ParamsError: `parse_yaml` refuses the text, or the values cannot be set in it.
    """
    expected = json.loads(json.dumps(parse_yaml(content, where) or {}))
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    yaml.preserve_quotes = True
    changed = io.BytesIO()
    try:
        tree = yaml.load(content) or {}
        for key, value in values.items():
            _set(expected, key, value)
            _set(tree, key, value)
        yaml.dump(tree, changed)
    except _RefusedError as refusal:
        raise ParamsError(f"{where}: {refusal}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ParamsError(f"{where}: not valid YAML: {reason}") from None
    if parse_yaml(changed.getvalue(), where) != expected:
        raise ParamsError(
            f"{where}: {', '.join(values)}: cannot be set without changing other values; write "
            "out what aliases (*) and merge keys (<<) repeat"
        )
    return changed.getvalue()


class _RefusedError(Exception):
    """Refusal of a text that may be valid YAML."""


def _check_structure(events: Iterable[Any]) -> None:
    """Refuse tags, directives, and what would be too large with its aliases resolved."""
    structure = _Structure()
    for event in events:
        if getattr(event, "version", None) is not None:
            raise _RefusedError("found a %YAML directive; remove it")
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(f"found the tag {event.tag!r}; allowed: values without tags")
        structure.add(type(event).__name__, event)


class _Structure:
    """Weight of the values of a text so far, and of what each anchor (&) names."""

    def __init__(self) -> None:
        self._total = 0
        self._anchored: dict[str | None, int] = {}
        self._open: list[tuple[str | None, int]] = []

    def add(self, kind: str, event: Any) -> None:
        """Count one of the parser's events; refuse it beyond the limits."""
        match kind:
            case "MappingStartEvent" | "SequenceStartEvent":
                self._open.append((event.anchor, self._total))
                self._total += 1
            case "MappingEndEvent" | "SequenceEndEvent":
                anchor, before = self._open.pop()
                self._anchored[anchor] = self._total - before
            case "ScalarEvent":
                weight = 1 + len(event.value) // _LETTERS_OF_ONE
                self._anchored[event.anchor] = weight
                self._total += weight
            case "AliasEvent":
                self._total += self._weight_of_alias(event.anchor)
        _check_limits(self._total, len(self._open))

    def _weight_of_alias(self, anchor: str) -> int:
        if anchor not in self._anchored:
            raise _RefusedError(f"*{anchor} repeats what contains it, or nothing; remove it")
        return self._anchored[anchor]


def _check_limits(weight: int, depth: int) -> None:
    if weight > LARGEST_WEIGHT:
        raise _RefusedError(
            f"found more than {LARGEST_WEIGHT} values, those that aliases repeat included; "
            "expected a few hundred"
        )
    if depth > DEEPEST:
        raise _RefusedError(f"nested too deeply; allowed: {DEEPEST} levels")


def _check_values(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_key(key, path)
            _check_values(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_values(inner, (*path, str(place)))
    elif reason := _unusable(value):
        raise _RefusedError(f"{one_line('.'.join(path))}: found {reason}")


def _check_key(key: Any, path: tuple[str, ...]) -> None:
    if not isinstance(key, str):
        inside = f"{one_line('.'.join(path))}: " if path else ""
        raise _RefusedError(
            f"{inside}found a key that is no text ({_unusable(key) or one_line(key)[:40]}); "
            "allowed: names; a number has no comma in it"
        )


def _unusable(value: object) -> str:
    """The fault of a value; empty if it has none."""
    if isinstance(value, str):
        return "a control character in a text" if _UNUSABLE.search(value) else ""
    if isinstance(value, bool | float) or value is None:
        return ""
    if isinstance(value, int):
        return "an integer of more than 64 bits" if value.bit_length() > 63 else ""
    return f"a {type(value).__name__}; for a text, put it into quotes"


def _set(tree: Any, key: str, value: Value) -> None:
    """Set a dotted key; sections that are missing or null are made."""
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(tree, dict):
            raise _RefusedError(f"{key}: there is no section {section} to hold it")
        if tree.get(section) is None:
            tree[section] = {}
        tree = tree[section]
    if not isinstance(tree, dict):
        raise _RefusedError(f"{key}: there is no section to hold {name}")
    tree[name] = value
