"""A run so small that a step takes milliseconds, with all the parts of a real one."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from stvsr.core import files
from stvsr.core.clip import ClipBatch
from stvsr.core.world import World
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.config import TrainConfig
from stvsr.training.history import TIMING, read_history
from stvsr.training.loop import Trainer, TrainSummary, make_optimizer
from stvsr.training.run import RunFolder, open_run, read_run

TINY = TrainConfig(
    steps=20,
    batch_size=4,
    crop=8,
    learning_rate=4e-4,
    warmup_steps=0,
    ema_decay=0.9,
    log_every=4,
    checkpoint_every=5,
    validate_every=10,
)


class TinyNet(nn.Module):
    """(B, T_in, 3, H, W) -> (B, 2 * T_in - 1, 3, 4H, 4W); half of a branch is dropped at random."""

    def __init__(self, drop: float = 0.5) -> None:
        super().__init__()
        self.drop = drop
        self.features = nn.Conv2d(3, 16, 3, padding=1)
        self.branch = nn.Conv2d(16, 16, 3, padding=1)
        self.reconstruct = nn.Conv2d(16, 48, 3, padding=1)
        self.never_used = nn.Linear(2, 2)

    def forward(self, lr_clip: Tensor) -> Tensor:
        features = torch.relu(self.features(lr_clip.flatten(0, 1)))
        features = features + nn.functional.dropout(self.branch(features), self.drop, self.training)
        frames = nn.functional.pixel_shuffle(self.reconstruct(features), 4)
        frames = frames.unflatten(0, lr_clip.shape[:2])
        between = (frames[:, :-1] + frames[:, 1:]) / 2
        woven = torch.stack([frames[:, :-1], between], dim=2).flatten(1, 2)
        return torch.cat([woven, frames[:, -1:]], dim=1)


def batch_at(step: int, config: TrainConfig = TINY, world: World | None = None) -> ClipBatch:
    """This rank's slice of the global batch of a step: a pure function."""
    world = world or World()
    random = torch.Generator().manual_seed(step)
    lr_clip = torch.rand(config.batch_size, 2, 3, config.crop, config.crop, generator=random)
    hr_clip = lr_clip[:, [0, 0, 1]].repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    share = config.batch_size // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    keys = tuple(f"{step:05d}/{slot:04d}" for slot in range(config.batch_size))
    return ClipBatch(lr_clip[mine], hr_clip[mine], keys[mine])


def batches(
    config: TrainConfig = TINY, world: World | None = None
) -> Callable[[int], Iterator[ClipBatch]]:
    return lambda start: (batch_at(step, config, world) for step in range(start, config.steps))


def validate(model: nn.Module) -> list[dict[str, float]]:
    batch = batch_at(999)
    with torch.inference_mode():
        error = (model(batch.lr_clip) - batch.hr_clip).square().mean().item()
    return [{"psnr_y": -error}]


def open_tiny_run(folder: Path, config: TrainConfig = TINY, fresh: bool = False) -> RunFolder:
    return open_run(folder, {"seed": 1, "train": config.deciding()}, fresh=fresh)


def make_trainer(folder: Path, config: TrainConfig = TINY, **parts: Any) -> Trainer:
    torch.manual_seed(1)
    model = parts.pop("model", None) or TinyNet()
    standard: dict[str, Any] = {
        "model": model,
        "optimizer": make_optimizer(model, config),
        "batches": batches(config, parts.get("world")),
        "run": open_tiny_run(folder, config) if parts.get("world", World()).is_main else None,
        "config": config,
        "seed": 1,
        "validate": validate,
    }
    standard["run"] = standard["run"] or read_run(folder)
    return Trainer(**{**standard, **parts})


def end_of(folder: Path) -> dict[str, Any]:
    """All that must not depend on what happened on the way to a run's end."""
    checkpoints = Checkpoints(folder / "checkpoints")
    last = checkpoints.path(checkpoints.steps()[0])
    state = checkpoints.load(checkpoints.steps()[0])
    return {
        "files": {path.name: path.read_bytes() for path in sorted(last.glob("*.safetensors"))},
        "counters": state.counters,
        "history": [
            (
                record.step,
                {name: value for name, value in record.metrics.items() if name not in TIMING},
            )
            for record in read_history(folder / "history.jsonl")
        ],
    }


def train_in_process(
    folder: Path,
    config: TrainConfig = TINY,
    die_at_sync: int | None = None,
    pause: float = 0.0,
    reached: Any = None,
) -> None:
    """A process's work: train in one thread.

    Args:
        die_at_sync: kill this process at its n-th flush to the disk.
        pause: seconds that a batch takes to come.
        reached: a shared value, set to each step that begins.
    """
    torch.set_num_threads(1)
    if die_at_sync is not None:
        _die_at_sync(die_at_sync)

    def slowly(start: int) -> Iterator[ClipBatch]:
        for step, batch in enumerate(batches(config)(start), start=start):
            if reached is not None:
                reached.value = step
            time.sleep(pause)
            yield batch

    make_trainer(folder, config, batches=slowly).run()


def train_in_rank(
    folder: Path,
    config: TrainConfig,
    rank: int,
    size: int,
    meeting: Path,
    die_at_step: int | None,
    still: bool,
) -> None:
    """The work of one of several processes, over gloo; `still`: no branch is dropped."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
    )
    torch.manual_seed(1 + rank)
    model = TinyNet(drop=0.0 if still else 0.5)
    stop = (lambda: False) if die_at_step is None else _dies_when_asked(die_at_step)
    world = World(rank, size, rank)
    make_trainer(folder, config, model=model, world=world, should_stop=stop).run()
    torch.distributed.destroy_process_group()


def summary_of(folder: Path, config: TrainConfig = TINY, **parts: Any) -> TrainSummary:
    return make_trainer(folder, config, **parts).run()


def _die_at_sync(count: int) -> None:
    real, calls = os.fsync, iter(range(1, 10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    files.os.fsync = fsync  # type: ignore[attr-defined]


def _dies_when_asked(count: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**6))

    def should_stop() -> bool:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return should_stop
