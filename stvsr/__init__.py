"""stvsr: the pipeline of space-time video super-resolution.

`stvsr.load(name)` loads a network, such as models:/stdan@champion; see `stvsr.open_model`.
`stvsr.upscale(frames, model)` upscales a stream of frames; see `stvsr.inference.upscale`.
"""

import importlib
import importlib.metadata
from typing import Any

try:
    __version__ = importlib.metadata.version("stvsr")
except importlib.metadata.PackageNotFoundError:  # the copy of the package in a registered version
    __version__ = "unknown"

_LAZY = {
    "load": "stvsr.open_model",
    "upscale": "stvsr.inference.upscale",
    "Upscaling": "stvsr.inference.upscale",
}
"""Names that are imported when they are first used, and their modules."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stvsr.core.extras import naming_extras

    with naming_extras():
        return getattr(importlib.import_module(_LAZY[name]), name)
