"""`python -m pipelines.fingerprints STAGE`: prints the fingerprint of the code that a stage runs.

The stages `code@index` and `code@shard` write it to a file, on which the expensive stages depend: a
changed comment reruns these two alone.
"""

import sys

from stvsr.core.fingerprint import code_fingerprint
from stvsr.data.index import build
from stvsr.data.shards import write

STAGES = {
    "index": ((build.__name__,), build.NOT_DECIDING),
    "shard": ((write.__name__,), write.NOT_DECIDING),
}
"""Root modules of each stage, and the modules that do not decide its result."""


def stage_fingerprint(stage: str) -> str:
    """16 hexadecimal digits of the code of "index" or "shard"."""
    roots, without = STAGES[stage]
    return code_fingerprint(roots, without=without)


def main() -> int:
    """Print the fingerprint; 1 where the stage has none."""
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        sys.stderr.write(f"usage: python -m pipelines.fingerprints {'|'.join(STAGES)}\n")
        return 1
    sys.stdout.write(f"{stage_fingerprint(sys.argv[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
