"""Ctrl-C while batches are loaded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENDLESS = """
import sys
from pathlib import Path
import torch
from stvsr.core.world import World
from stvsr.data.loading.loader import LoaderConfig, train_batches
from stvsr.data.shards.write import ShardSet

batches = train_batches(
    LoaderConfig(kind=sys.argv[2]), ShardSet.open(Path(sys.argv[1])), seed=0, start_step=0,
    stop_step=10**9, global_batch=4, crop=16, world=World(), device=torch.device("cpu"),
)
try:
    for batch in batches:
        print("a batch", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "dali"])
def test_an_interrupted_stream_lets_the_program_end(tiny_shards_folder: Path, kind: str) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tiny_shards_folder), kind],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(3):
        assert run.stdout.readline() == "a batch\n"  # type: ignore[union-attr]
    os.kill(run.pid, signal.SIGINT)
    rest, _ = run.communicate(timeout=600)
    assert rest.splitlines()[-1] == "interrupted"
    assert run.returncode == 0
