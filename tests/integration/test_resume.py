"""Runs in real processes that are killed with SIGKILL, and what the next process makes of it.

A fork server that has imported torch gives each run its process in milliseconds.
"""

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import uuid
from multiprocessing import forkserver
from pathlib import Path

import pytest

from stvsr.training.checkpoint import Checkpoints
from tests.support import training as tiny_training
from tests.support.training import TINY, end_of, open_tiny_run, train_in_process, train_in_rank

PAUSED = TINY.model_copy(update={"steps": 60})
"""Long enough, with a pause in each batch, for a signal to meet every part of a step."""

PAUSE = 0.005


PATIENCE_S = 600
"""How long a process may take on a busy machine."""


@pytest.fixture(scope="module")
def processes():
    """A fork server; it looks for modules where PYTHONPATH says, not where this process does.

    torch._dynamo is what the first optimizer of a process imports, for seconds. A process has one
    fork server: that of another test, which has imported none of this, ends first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.support.training", __name__])
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        environment.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    yield context
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def start(processes, work, *args):
    process = processes.Process(target=work, args=args)
    process.start()
    return process


def finish(process):
    process.join(PATIENCE_S)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """The end of the run that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finish(start(processes, train_in_process, folder, PAUSED)) == 0
    return end_of(folder)


def kill_at_random(processes, folder, chance):
    """Start the run and kill it somewhere in or after a random one of the steps left to it."""
    reached = processes.Value("i", -1)
    process = start(processes, train_in_process, folder, PAUSED, None, PAUSE, reached)
    while reached.value < 0 and process.is_alive():
        time.sleep(0.001)
    target = chance.randint(reached.value, PAUSED.steps - 1)
    while reached.value < target and process.is_alive():
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 3 * PAUSE))
    process.kill()
    return finish(process) == -signal.SIGKILL


def kills_until_it_ends_alike(processes, undisturbed, folder, seed):
    chance = random.Random(seed)
    kills = sum(kill_at_random(processes, folder, chance) for _ in range(2))
    assert finish(start(processes, train_in_process, folder, PAUSED)) == 0
    assert end_of(folder) == undisturbed
    return kills


def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_the_one_that_was_not(
    processes, undisturbed, tmp_path
):
    kills = [
        kills_until_it_ends_alike(processes, undisturbed, tmp_path / str(seed), seed)
        for seed in range(3)
    ]
    assert sum(kills) >= 3


@pytest.mark.slow
def test_twenty_more_runs_killed_at_random_moments_end_bit_for_bit_alike(
    processes, undisturbed, tmp_path
):
    kills = [
        kills_until_it_ends_alike(processes, undisturbed, tmp_path / str(seed), seed)
        for seed in range(100, 120)
    ]
    assert sum(kills) >= 20


@pytest.mark.parametrize("sync", [2, 5, 8, 10, 11, 12, 13, 14, 15, 16])
def test_a_run_killed_while_it_writes_goes_on_from_what_is_whole(processes, tmp_path, sync):
    """Each flush to the disk is a place: 5 to 10 the first checkpoint's, 11 to 16 the second's."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(start(processes, train_in_process, whole)) == 0
    assert finish(start(processes, train_in_process, killed, TINY, sync)) == -signal.SIGKILL
    assert finish(start(processes, train_in_process, killed)) == 0
    assert end_of(killed) == end_of(whole)
    assert not list((killed / "checkpoints").glob(".*"))


def test_two_ranks_killed_together_end_as_those_that_were_not(processes, tmp_path):
    config = TINY.model_copy(update={"validate_every": 0})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_ranks(processes, whole, config) == [0, 0]
    assert train_ranks(processes, killed, config, die_at_step=12) == [-signal.SIGKILL] * 2
    assert train_ranks(processes, killed, config) == [0, 0]
    assert end_of(killed) == end_of(whole)


def test_two_ranks_train_as_one_up_to_rounding(processes, tmp_path):
    config = TINY.model_copy(update={"batch_size": 4})
    assert train_ranks(processes, tmp_path / "two", config, still=True) == [0, 0]
    assert train_ranks(processes, tmp_path / "one", config, size=1, still=True) == [0]
    two, one = end_of(tmp_path / "two")["history"], end_of(tmp_path / "one")["history"]
    assert [step for step, _ in two] == [step for step, _ in one]
    for (_, found), (_, expected) in zip(two, one, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def train_ranks(processes, folder, config, size=2, die_at_step=None, still=False):
    open_tiny_run(folder, config)
    meeting = folder.with_name(f"{uuid.uuid4().hex}.gloo")
    ranks = [
        start(processes, train_in_rank, folder, config, rank, size, meeting, die_at_step, still)
        for rank in range(size)
    ]
    return [finish(rank) for rank in ranks]


def test_sigterm_saves_a_checkpoint_and_says_how_to_go_on(processes, tmp_path):
    said, answer = processes.Pipe(duplex=False)
    folder = tmp_path / "run"
    process = start(processes, train_until_signal, folder, answer)
    answer.close()  # it is the process's alone: when that ends, there is nothing more to receive
    assert said.recv() == "step"
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 0
    assert "run the same command again to resume" in said.recv()
    steps = Checkpoints(folder / "checkpoints").steps()
    assert steps
    assert steps[0] < 10_000


def train_until_signal(folder: Path, answer) -> None:
    from stvsr.training.loop import TrainingInterruptedError
    from stvsr.training.signals import stop_on_signals

    config = TINY.model_copy(update={"steps": 10_000, "checkpoint_every": 5000})

    def announced(begin):
        for step, batch in enumerate(tiny_training.batches(config)(begin)):
            if step == 3:
                answer.send("step")
            yield batch

    with stop_on_signals() as should_stop:
        try:
            tiny_training.make_trainer(
                folder, config, batches=announced, should_stop=should_stop
            ).run()
        except TrainingInterruptedError as stop:
            answer.send(str(stop))


def test_a_disk_that_is_full_for_a_while_costs_checkpoints_and_nothing_else(processes, tmp_path):
    whole, filled = tmp_path / "whole", tmp_path / "filled"
    assert finish(start(processes, train_in_process, whole)) == 0
    assert finish(start(processes, train_on_a_full_disk, filled, 7, 12)) == 0
    assert end_of(filled) == end_of(whole)


def test_a_run_killed_while_the_disk_is_full_goes_on_from_the_checkpoint_before(
    processes, tmp_path
):
    whole, filled = tmp_path / "whole", tmp_path / "filled"
    assert finish(start(processes, train_in_process, whole)) == 0
    assert finish(start(processes, train_on_a_full_disk, filled, 7, None)) == -signal.SIGKILL
    assert Checkpoints(filled / "checkpoints").steps() == [5]
    assert not list((filled / "checkpoints").glob(".*"))
    assert finish(start(processes, train_in_process, filled)) == 0
    assert end_of(filled) == end_of(whole)


def train_on_a_full_disk(folder: Path, full_from: int, full_until: int | None) -> None:
    """No file can grow beyond 100 bytes between two steps; without an end, die at step 18."""

    def batches(begin):
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        for step, batch in enumerate(tiny_training.batches()(begin), start=begin):
            if step == full_from:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
            if step == full_until:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            if step == 18 and full_until is None:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    tiny_training.torch.set_num_threads(1)  # type: ignore[attr-defined]
    tiny_training.make_trainer(folder, batches=batches).run()
