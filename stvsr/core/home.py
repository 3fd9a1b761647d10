"""A home folder and a user name for libraries that take them for granted.

A container or a timer may run a command as a user without either.
"""

import getpass
import os
import stat
import tempfile
from pathlib import Path

from stvsr.core.errors import StvsrError

WRITTEN = {"PREFECT_HOME": ".prefect", "TRITON_CACHE_DIR": ".triton"}
"""Folders that libraries write in a home folder, by the variables that name others."""


def ensure_home() -> None:
    """Set HOME to a private folder of ours where this user has no home, and USER where no name.

    The folder is in the temporary folder, the same each time. A home that can only be read stays,
    and libraries write in our folder.

    Raises:
        StvsrError: another user has taken its place.
        OSError: it cannot be made.
    """
    if not _has_home():
        os.environ["HOME"] = str(_own_folder())
    elif not os.access(Path.home(), os.W_OK):
        for name, folder in WRITTEN.items():
            os.environ.setdefault(name, str(_own_folder() / folder))
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid-{os.getuid()}"


def _has_home() -> bool:
    """True if there is a home folder to read, other than the root folder of somebody else."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry of this user in the list of users
        return False
    return os.access(home, os.R_OK | os.X_OK) and (home != Path("/") or os.access(home, os.W_OK))


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"stvsr-home-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise StvsrError(
            f"HOME: this user has no home folder, and {folder} is not private to this user; "
            "set HOME to a folder of yours"
        )
    return folder
