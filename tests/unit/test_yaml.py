"""YAML is read as DVC reads it; what is hostile or beyond YAML's common part is one line."""

import os
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml as parse_as_dvc  # type: ignore[import-untyped]

from stvsr.core.errors import ParamsError
from stvsr.core.yaml import LARGEST_FILE, Value, parse_yaml, read_yaml, with_values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("no", "no"),
        ("On", "On"),
        ("yes", "yes"),
        ("~", None),
        ("", None),
        ("600,000", "600,000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'1'", "1"),
        ("{<<: {x: 1, y: 2}, y: 3}", {"x": 1, "y": 3}),
        ("[&a {x: 1}, {<<: *a, x: 2}, *a]", [{"x": 1}, {"x": 2}, {"x": 1}]),
    ],
)
def test_a_value_is_what_dvc_takes_it_for(text: str, value: object) -> None:
    text = f"a: {text}"
    assert parse_yaml(text.encode(), "here") == {"a": value} == parse_as_dvc(text, "here")


def bomb(join: str) -> str:
    levels = [
        f"a{n}: &a{n} {join.replace('*', ', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 9)
    ]
    return "\n".join(["a0: &a0 {x: 1}", *levels])


HOSTILE = {
    "aliases that grow": (bomb("[*]"), "found more than 20000 values"),
    "merge keys that grow": (bomb("{<<: [*]}"), "found more than 20000 values"),
    "a long text often": (
        f"a: &a {'x' * 1000}\nb: [{', '.join(['*a'] * 1000)}]",
        "found more than 20000 values",
    ),
    "a long list": (f"a: [{'1, ' * 300_000}1]", "found more than 20000 values"),
    "a list in itself": ("a: &a [*a]", "*a repeats what contains it"),
    "a mapping in itself": ("a: &a {<<: *a}", "*a repeats what contains it"),
    "an alias of nothing": ("a: *b", "or nothing"),
    "900 lists": ("[" * 900 + "]" * 900, "nested too deeply; allowed: 32 levels"),
    "100000 mappings": ("{a: " * 100_000, "nested too deeply"),
    "many blocks": ("\n".join(f"{' ' * n}a:" for n in range(900)), "nested too deeply"),
    "a date as key": ("2020-01-01: 1", "found a key that is no text (a date"),
    "a number as key": ("train: {steps: 600,000}", "train: found a key that is no text (0)"),
    "null as key": ("{a: {null: 1}}", "a: found a key that is no text (None)"),
    "a list as key": ("? [1]\n: 2", "found a key that is no text (a tuple"),
    "a date": ("a: {b: 2020-01-01}", "a.b: found a date; for a text, put it into quotes"),
    "a date that is none": ("a: 2020-13-41", "not valid YAML: month must be in 1..12"),
    "bytes as key": ("!!binary aGk=: 1", "found the tag"),
    "an integer without digits": ("a: !!int ''", "found the tag 'tag:yaml.org,2002:int'"),
    "a binary number without digits": ("a: 0b_", "not valid YAML: invalid literal"),
    "an octal number without digits": ("a: 0o_", "not valid YAML"),
    "a program": ("a: !!python/object/apply:os.system [id]", "found the tag"),
    "10**5000": (f"a: 1{'0' * 5000}", "not valid YAML: Exceeds the limit"),
    "16**5000": (f"a: 0x1{'0' * 5000}", "a: found an integer of more than 64 bits"),
    "2**64": (f"a: [1, {2**64}]", "a.1: found an integer of more than 64 bits"),
    "another version": ("%YAML 1.1\n---\na: no", "found a %YAML directive; remove it"),
    "two documents": ("a: 1\n---\nb: 1", "not valid YAML: expected a single document"),
    "a key twice": ("a:\n  b: 1\n  b: 2", "the key 'b' is there twice"),
    "two merge keys": ("a:\n  <<: {x: 1}\n  <<: {x: 2}", "the key '<<' is there twice"),
    "a merge of a number": ("a: {<<: 3}", "not valid YAML"),
    "half a surrogate pair": ('a: "\\ud800"', "here: "),
    "a null character": ('a: "\\0"', "a: found a control character in a text"),
    "an escape character": ('a: {"b\\e[1m": "\\e"}', r"a.b\x1b[1m: found a control character"),
    "UTF-16": ("a: 1".encode("utf-16"), "not valid YAML: 'utf-8' codec can't decode"),
    "Latin-1": ("a: é".encode("latin-1"), "not valid YAML: 'utf-8' codec can't decode"),
}


@pytest.mark.parametrize(("text", "says"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_hostile_or_uncommon_is_refused_in_one_line(text: str | bytes, says: str) -> None:
    with pytest.raises(ParamsError) as refused:
        parse_yaml(text.encode() if isinstance(text, str) else text, "here")
    assert str(refused.value).startswith("here: ")
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 400


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1", "here") == {"a": 1}


def test_a_file_is_limited_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)
    with pytest.raises(
        ParamsError, match=rf"cannot be read \({LARGEST_FILE + 1} bytes; at most {LARGEST_FILE} are"
    ):
        read_yaml(path)


def test_a_pipe_or_a_device_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(
            ParamsError, match=r"cannot be read \(it is a .*allowed is a regular file"
        ):
            read_yaml(path)


def test_values_are_set_as_they_are_and_nothing_else_changes() -> None:
    given = b"a: 010  # ten\nb:\n  <<: {x: 1}\n  y: null\n"
    values: dict[str, Value] = {"b.x": "no", "b.y": "010", "c.d": 1e-07, "a": True}
    set_ = with_values(given, values, "here")
    assert b"# ten" in set_
    assert parse_yaml(set_, "here") == {
        "a": True,
        "b": {"x": "no", "y": "010"},
        "c": {"d": 1e-07},
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a {x: 1}\nb: *a", "a.x: cannot be set without changing other values"),
        ("a: 1", "a.x: there is no section to hold x"),
        ("- a", "a.x: there is no section a to hold it"),
        ("a: [", "not valid YAML"),
        ("a: 0b_", "not valid YAML"),
    ],
)
def test_values_that_cannot_be_set_are_refused(text: str, says: str) -> None:
    with pytest.raises(ParamsError, match=f"^here: {says}"):
        with_values(text.encode(), {"a.x": 2}, "here")
