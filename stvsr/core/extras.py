"""Extras: packages that some jobs need beside the base, and the error where one is missing."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stvsr.core.errors import MissingExtraError

EXTRAS = {
    "stvsr/data": "data",
    "stvsr/video": "data",
    "stvsr/inference": "export",
    "stvsr/launch": "train",
    "stvsr/tracking": "track",
    "pipelines": "flow",
}
"""The extra of pyproject.toml that has what a room imports; all other rooms need the base."""

_ROOT = Path(__file__).parents[2]


@contextmanager
def naming_extras() -> Iterator[None]:
    """Name the extra to install where the block imports a package that is not installed.

    Raises:
        MissingExtraError: in the place of a ModuleNotFoundError for a package of others.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "stvsr", "pipelines"):
            raise
        raise missing(package, _extra_of(error)) from None


def missing(package: str, extra: str) -> MissingExtraError:
    """The error for a package that is not installed.

    Args:
        package: its name.
        extra: the extra that has it; "": the base.
    """
    what = f"it is in the extra `{extra}`" if extra else "stvsr requires it"
    command = f"pip install 'stvsr[{extra}]'" if extra else "pip install stvsr"
    return MissingExtraError(f"{package} is not installed; {what}", remedy=command)


def _extra_of(error: ModuleNotFoundError) -> str:
    """The extra of the innermost of our modules that the import came from."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        for room, extra in EXTRAS.items():
            if path.is_relative_to(_ROOT / room):
                return extra
    return ""
