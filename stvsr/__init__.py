"""stvsr: the pipeline of space-time video super-resolution."""

import importlib.metadata

try:
    __version__ = importlib.metadata.version("stvsr")
except importlib.metadata.PackageNotFoundError:  # the copy of the package in a registered version
    __version__ = "unknown"
