"""`python -m pipelines.data_version STAGE`: prints DVC's hash of what a stage last made."""

import sys
from pathlib import Path

from pipelines.dvc_cli import data_version
from stvsr.core.errors import StvsrError


def main() -> int:
    """Print the hash, for `stvsr train --data-version` in dvc.yaml; 1 where there is none."""
    try:
        sys.stdout.write(f"{data_version(sys.argv[1], Path())}\n")
    except StvsrError as error:
        sys.stderr.write(f"data version: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
