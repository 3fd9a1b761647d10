"""The tiny clips, and the line's own index and shards of them, shared by the whole run.

The line is imported in the fixtures, so that a test that needs none of it starts quickly.
"""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stvsr.cli import QUIET_WAITING, TELEMETRY_OFF

if TYPE_CHECKING:
    from stvsr.data.shards.write import ShardSet

# Before a library that reads these is imported; the processes that tests start inherit them.
os.environ.update(TELEMETRY_OFF | QUIET_WAITING)

# The names of Ray's sockets have room for little else, whatever this machine's TMPDIR is.
os.environ.setdefault("RAY_TMPDIR", "/tmp")

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts there.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reference",
        type=Path,
        default=Path(__file__).parent / "model" / "references",
        metavar="DIR",
        help="folder of reference values: tests/model checks every NAME.npz + NAME.json below it",
    )
    parser.addoption(
        "--malformed",
        default="150",
        metavar="N|KIND:SEED",
        help="how many malformed inputs tests/malformed tries, or which one",
    )


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.clips import write_tiny_source

    return write_tiny_source(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="session")
def tiny_index(tiny_source: Path) -> Path:
    from stvsr.data.index.build import IndexConfig, build_index

    index = tiny_source.parent / "index"
    build_index(tiny_source, index, IndexConfig())
    return index


@pytest.fixture(scope="session")
def tiny_shards_folder(tiny_index: Path) -> Path:
    """12 clips in shards of 5, 5 and 2; read only."""
    from stvsr.data.shards.degrade import DegradationConfig
    from stvsr.data.shards.write import ShardsConfig, write_shards

    out = tiny_index.parent / "shards" / "train"
    config = ShardsConfig(clips_per_shard=5, workers=1)
    write_shards(tiny_index, "train", out, config, DegradationConfig())
    return out


@pytest.fixture(scope="session")
def tiny_sets(tiny_index: Path, tiny_shards_folder: Path) -> Path:
    """The folder with the sets `train` and `test`; read only."""
    from stvsr.data.shards.degrade import DegradationConfig
    from stvsr.data.shards.write import ShardsConfig, write_shards

    sets = tiny_shards_folder.parent
    write_shards(tiny_index, "test", sets / "test", ShardsConfig(workers=1), DegradationConfig())
    return sets


@pytest.fixture(scope="session")
def tiny_shards(tiny_shards_folder: Path) -> "ShardSet":
    from stvsr.data.shards.write import ShardSet

    return ShardSet.open(tiny_shards_folder)
