"""Every third-party package that we import is declared in the extra of the room that imports it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from stvsr.core.extras import EXTRAS as ROOMS

REPOSITORY = Path(__file__).parents[2]
OURS = {"stvsr", "pipelines", "tests", "benchmarks"}

EXTRAS = {
    "stvsr/data": ("data",),
    "stvsr/video": ("data",),
    "stvsr/inference": ("export",),
    "stvsr/launch": ("train",),
    "stvsr/tracking": ("track",),
    "pipelines": ("flow",),
    "pipelines/weights": ("data", "flow"),
    "tests": ("data", "train", "track", "flow", "export", "dev"),
    "benchmarks": ("data", "train", "track", "flow", "export", "dev"),
}
"""Extras that a room may import from besides the base; a room that is not listed has the base."""

NOT_SHIPPED = ("pipelines/weights", "tests", "benchmarks")
"""Rooms for whoever has this repository, with all extras."""

COMES_WITH_TORCH = {"triton"}
"""Imported only where `stvsr.ops` finds it: torch's builds for NVIDIA GPUs require it."""


def imported(code: str) -> Iterator[str]:
    """Third-party packages that a module imports, at its top or within a function."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                modules = []
        for module in modules:
            package = module.partition(".")[0]
            if package not in OURS and package not in sys.stdlib_module_names:
                yield package


def declared(extras: tuple[str, ...]) -> set[str]:
    """Distributions of the base and of some extras, by their normalized names."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    return {normalized(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def undeclared(package: str, extras: tuple[str, ...]) -> bool:
    providers = {normalized(name) for name in distributions().get(package, [package])}
    return not providers & declared(extras)


def modules_of(room: str) -> list[Path]:
    """The modules of a room; those of "stvsr" are the ones in no room of their own."""
    found = sorted((REPOSITORY / room).rglob("*.py"))
    others = [REPOSITORY / other for other in EXTRAS if other.startswith(f"{room}/")]
    return [path for path in found if not any(path.is_relative_to(other) for other in others)]


@cache
def distributions() -> Mapping[str, list[str]]:
    """Installed distributions by the names they are imported by; reading them takes a second."""
    return packages_distributions()


def test_the_extra_that_an_error_names_is_the_one_of_the_room() -> None:
    shipped = {room: extras for room, extras in EXTRAS.items() if room not in NOT_SHIPPED}
    assert {room: (extra,) for room, extra in ROOMS.items()} == shipped


@pytest.mark.parametrize("room", ["stvsr", *EXTRAS])
def test_every_imported_package_is_declared(room: str) -> None:
    modules = modules_of(room)
    assert modules
    extras = EXTRAS.get(room, ())
    missing = {
        f"{path.relative_to(REPOSITORY)}: {package}"
        for path in modules
        for package in imported(path.read_text(encoding="utf-8"))
        if package not in COMES_WITH_TORCH and undeclared(package, extras)
    }
    assert not missing


def test_imports_within_functions_and_of_submodules_are_found() -> None:
    code = "import os, av.video\ndef f():\n    from ray.tune import Tuner\n    import stvsr.core\n"
    assert list(imported(code)) == ["av", "ray"]


def test_a_package_of_another_extra_is_undeclared() -> None:
    assert not undeclared("numpy", ())
    assert undeclared("av", ())
    assert not undeclared("av", ("data",))
