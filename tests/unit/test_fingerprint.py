"""A fingerprint follows what code does, through every import, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stvsr.core import fingerprint
from stvsr.core.fingerprint import code_fingerprint, import_closure

TOP = '''"""Docstring."""
from stvsr import low


class Config:
    """A class."""

    field: int = 1
    """A field."""


def double(x: int) -> int:
    """Twice."""
    return 2 * low.same(x)  # comment
'''
FILES = {
    "stvsr/__init__.py": "VERSION = 1\n",
    "stvsr/top.py": TOP,
    "stvsr/low.py": "def same(x):\n    from stvsr.room.late import late\n    return late(x)\n",
    "stvsr/room/__init__.py": "",
    "stvsr/room/late.py": "def late(x):\n    return x\n",
    "stvsr/other.py": "A = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for cached in (fingerprint._tree, fingerprint._imports, fingerprint._digest):
        cached.cache_clear()


def after(package: Path, name: str, old: str, new: str) -> str:
    """The fingerprint of `stvsr.top` after a change of one file."""
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))
    forget()
    return code_fingerprint(["stvsr.top"])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stvsr/top.py", "  # comment", ""),
        ("stvsr/top.py", '"""Docstring."""', '"""Another."""'),
        ("stvsr/top.py", '    """A field."""\n', ""),
        ("stvsr/top.py", '    """Twice."""\n', '    """Two times.\n\n    More."""\n'),
        ("stvsr/top.py", "2 * low.same(x)", "(2*low.same(\n        x,\n    ))"),
        ("stvsr/__init__.py", "1", "2"),
        ("stvsr/other.py", "1", "2"),
    ],
)
def test_what_decides_nothing_changes_nothing(package: Path, name: str, old: str, new: str) -> None:
    before = code_fingerprint(["stvsr.top"])
    assert after(package, name, old, new) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stvsr/top.py", "2 *", "3 *"),
        ("stvsr/top.py", "field: int = 1", "field: int = 2"),
        ("stvsr/low.py", "return late(x)", "return -late(x)"),
        ("stvsr/room/late.py", "return x", "return x + 1"),
        ("stvsr/room/__init__.py", "", "import stvsr.other\n"),
    ],
)
def test_a_change_of_code_changes_it_at_any_depth(
    package: Path, name: str, old: str, new: str
) -> None:
    before = code_fingerprint(["stvsr.top"])
    assert after(package, name, old, new) != before


def test_modules_that_decide_nothing_are_left_out_with_what_they_alone_import(
    package: Path,
) -> None:
    assert import_closure(["stvsr.top"], without=["stvsr.low"]) == ("stvsr.top",)


def test_a_name_that_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stvsr\.nowhere: no module of stvsr"):
        code_fingerprint(["stvsr.nowhere"])
