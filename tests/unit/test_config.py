"""A file of ours is read by its schema; whatever is not of it is one line that names the file."""

from pathlib import Path

import pytest

from stvsr.core.config import Config, ContentError, Count, Field, Numbers, Sha256
from stvsr.core.errors import SourceError
from tests.support.files import SPECIAL_FILES, replace_by_special

SHA = "0" * 64
VALID = f'{{"name": "a", "count": 3, "sha256": "{SHA}", "share": 0.5}}'


class Example(Config):
    """A file as ours are."""

    name: str
    """Text."""
    count: Count
    """A number of things."""
    sha256: Sha256
    """A digest."""
    share: float = 0.0
    """A number."""
    values: dict[str, float] = Field(default_factory=dict)
    """More of them."""


def replaced(old: str, new: str) -> bytes:
    assert old in VALID
    return VALID.replace(old, new).encode()


MALFORMED = {
    "nothing": (b"", "not valid JSON: EOF"),
    "a cut file": (VALID[:-5].encode(), "not valid JSON: EOF"),
    "two values": (f"{VALID}{VALID}".encode(), "trailing characters"),
    "a list": (b"[1, 2]", "expected an object"),
    "a missing key": (replaced('"name": "a", ', ""), "name: is missing"),
    "an unknown key": (replaced('"name"', '"odd": 1, "name"'), "odd: is an unknown key"),
    "an unknown null": (replaced('"name"', '"odd": null, "name"'), "odd: is an unknown key"),
    "a key of control characters": (replaced('"name"', '"o\\nd\\u001b": 1, "name"'), r"o\?d\?: "),
    "a text for a number": (replaced("3", '"3"'), "count: expected a valid integer"),
    "a fraction for a count": (replaced("3", "3.0"), "count: expected a valid integer"),
    "a negative count": (replaced("3", "-1"), "count: .* greater than or equal to 0"),
    "a huge count": (replaced("3", "9" * 300), "count: .* less than 9007199254740992"),
    "an endless count": (replaced("3", "9" * 100_000), "number out of range"),
    "a NaN": (replaced("0.5", "NaN"), "share: .* finite"),
    "an infinity": (replaced("0.5", "1e999"), "share: .* finite"),
    "a digest of capitals": (replaced(SHA, "A" * 64), "sha256: "),
    "a digest and a line": (replaced(SHA, SHA + "\\n"), "sha256: "),
    "a byte-order mark": (VALID.encode("utf-8-sig"), "not valid JSON: expected value"),
    "UTF-16": (VALID.encode("utf-16"), "not valid JSON: expected value"),
    "Latin-1": (VALID.replace('"a"', '"\xe4"').encode("latin-1"), "invalid unicode"),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, "recursion limit"),
}


@pytest.mark.parametrize(("content", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_content_is_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(ContentError, match=reason):
        Example.parse(content)
    path = tmp_path / "example.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"example.json: damaged \(.*{reason}") as caught:
        Example.read(path, SourceError, "make it again")
    assert str(caught.value).endswith("; make it again")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL_FILES if kind != "a link to nothing"])
def test_a_special_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "example.json"
    replace_by_special(path, kind)
    with pytest.raises(SourceError, match=r"example.json: cannot be read \(.*\); make it again"):
        Example.read(path, SourceError, "make it again")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_bytes(b" " * 100)
    with pytest.raises(SourceError, match=r"\(100 bytes; at most 99 are read\); make it again"):
        Example.read(path, SourceError, "make it again", limit=99)


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Example.read(tmp_path / "example.json", SourceError, "make it again")


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(VALID)
    read = Example.read(path, SourceError, "make it again")
    assert read == Example(name="a", count=3, sha256=SHA, share=0.5)


def test_numbers_may_have_any_name() -> None:
    numbers = Numbers.parse(b'{"psnr_y": 31.5, "clips": 3, "gain": null, "same": true}')
    assert numbers.by_name == {"psnr_y": 31.5, "clips": 3, "gain": None, "same": True}


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", '"3"', "[1]", "{}", "9" * 400])
def test_what_is_no_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(ContentError, match="psnr_y"):
        Numbers.parse(f'{{"psnr_y": {value}}}'.encode())
