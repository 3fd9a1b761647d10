"""The device that a command works on."""

import torch

from stvsr.core.errors import ParamsError


def pick_device(wanted: str, key: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises:
        ParamsError: `cuda`, without a GPU; names `key`.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ParamsError(
            f"{key}: found 'cuda', and this machine has no GPU that torch can use; "
            "allowed: auto or cpu; see `stvsr doctor`"
        )
    return torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")
