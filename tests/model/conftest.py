"""Gives each test that asks for a `reference` every one below `--reference`."""

from pathlib import Path

import pytest

from tests.support.references import Reference


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "reference" not in metafunc.fixturenames:
        return
    folder: Path = metafunc.config.getoption("--reference")
    found = [path for path in sorted(folder.rglob("*.npz")) if path.with_suffix(".json").exists()]
    if not found:
        raise pytest.UsageError(f"no reference values (NAME.npz + NAME.json) below {folder}")
    references = [pytest.param(Reference.read(path), id=path.stem) for path in found]
    metafunc.parametrize("reference", references)
