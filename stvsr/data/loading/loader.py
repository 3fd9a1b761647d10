"""From a set of shards to the batches a rank trains on, and to the clips that are scored."""

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Literal

import torch
from torch import Tensor

from stvsr.core.clip import ClipBatch
from stvsr.core.config import Config, Field, FieldError, model_validator
from stvsr.core.errors import ParamsError
from stvsr.core.world import World
from stvsr.data.loading.augment import SampleSpec, augmentation
from stvsr.data.loading.order import clip_indices
from stvsr.data.loading.samples import OnDamage, ValidClips
from stvsr.data.loading.torch_loader import torch_batches, whole_clips
from stvsr.data.shards.read import ShardSet

CPU = torch.device("cpu")


LoaderKind = Literal["dali", "torch"]
"""Name of a loader."""


class LoaderConfig(Config):
    """How shards are read; as long as they are valid, nothing here changes what is read."""

    kind: LoaderKind = "dali"
    """`dali` decodes with NVIDIA DALI, on the CPU where there is no GPU; `torch` with OpenCV in
    threads. Both give the same bytes."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads that decode, per rank."""
    reads: int = Field(default=8, ge=1, le=256)
    """Clips read at a time, per rank; more of them hide more of a remote store's latency."""
    prefetch: int = Field(default=2, ge=1, le=64)
    """Batches read, and batches decoded, ahead of the one that is trained on."""
    decoded_mib: int = Field(default=0, ge=0, le=1 << 24)
    """Memory for decoded clips, MiB per rank, of `torch` only: those that fit are decoded once.
    A clip of 7 frames of 448x256 takes 2.5 MiB; 0: every clip is decoded each time."""
    on_damage: OnDamage = "stop"
    """Effect of a damaged clip. `stop`: the run ends with shard, member and byte. `skip`: the next
    valid clip of the set replaces it, counted as `replaced_clips` and named in the log."""

    @model_validator(mode="after")
    def _dali_keeps_nothing(self) -> "LoaderConfig":
        if self.decoded_mib and self.kind == "dali":
            raise FieldError(
                "decoded_mib",
                f"found {self.decoded_mib}, and kind dali keeps no decoded clips; choose kind "
                "torch, or leave decoded_mib out",
            )
        return self

    @property
    def skips_damage(self) -> bool:
        """True if a set may be opened although a tar is missing or ends early."""
        return self.on_damage == "skip"


def train_batches(
    config: LoaderConfig,
    shards: ShardSet,
    *,
    seed: int,
    start_step: int,
    stop_step: int,
    global_batch: int,
    crop: int,
    world: World,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Generator[ClipBatch, None, None]:
    """The batches of steps `start_step` … `stop_step` - 1 for one rank.

    A sample is a function of (shards, seed, step, slot): neither the ranks nor the loader nor the
    step it starts from change it. Rank r of n gets slots r * global_batch / n and on of each
    global batch. Nothing before `start_step` is read or computed.

    Close the generator to leave in the middle (`contextlib.closing`); its threads then end.

    Args:
        config: which loader, how many threads, how far ahead.
        shards: the training set.
        seed: the run's seed.
        start_step: first step, from 0.
        stop_step: the step after the last.
        global_batch: clips per step over all ranks; may be larger than the set.
        crop: side of the LR crop in pixels; the HR crop's is 4 times that.
        world: which rank this is, and of how many.
        device: where the batches arrive.
        dtype: float32, in [0, 1], or uint8.

    Raises:
        ParamsError: at once, if the ranks do not divide the global batch, there are more of them
            than clips, or the crop is larger than a clip's LR frame.
        ShardError: on the way, if a member is damaged and `on_damage` is "stop", or if no clip is
            valid; names tar, member and byte.
        ServiceError: on the way, if a remote store does not answer or refuses.
    """
    _check(shards, global_batch, crop, world)
    clips = ValidClips(shards, config.on_damage)
    specs = (
        _draws(shards, seed, step, global_batch, crop, world)
        for step in range(start_step, stop_step)
    )
    match config.kind:
        case "dali":
            from stvsr.data.loading.dali_loader import dali_batches

            batches = dali_batches(
                clips,
                specs,
                crop=crop,
                reads=config.reads,
                threads=config.threads,
                prefetch=config.prefetch,
                device=device,
            )
        case "torch":
            batches = torch_batches(
                clips,
                specs,
                reads=config.reads,
                threads=config.threads,
                prefetch=config.prefetch,
                decoded_bytes=config.decoded_mib << 20,
            )
    return _delivered(batches, device, dtype)


def eval_clips(
    shards: ShardSet,
    indices: Iterable[int] | None = None,
    *,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> Generator[ClipBatch, None, None]:
    """Whole clips, one per batch, in the order of `indices` (all of the set where None).

    Args:
        shards: the set that is scored on.
        indices: positions in `shards.keys`.
        device: where the batches arrive.
        dtype: float32, in [0, 1], or uint8.

    Raises:
        ShardError: on the way, if a member is damaged; names tar, member and byte.
    """
    chosen = range(len(shards)) if indices is None else indices
    return _delivered(whole_clips(shards, chosen, threads=2, prefetch=2), device, dtype)


def _draws(
    shards: ShardSet, seed: int, step: int, global_batch: int, crop: int, world: World
) -> tuple[SampleSpec, ...]:
    """A rank's samples of one step: its run of slots of the global batch."""
    clips = clip_indices(seed, step, global_batch, len(shards))
    share = global_batch // world.size
    return tuple(
        SampleSpec(clips[slot], augmentation(seed, step, slot, shards.lr_size(clips[slot]), crop))
        for slot in range(world.rank * share, (world.rank + 1) * share)
    )


def _check(shards: ShardSet, global_batch: int, crop: int, world: World) -> None:
    if global_batch < 1 or global_batch % world.size:
        raise ParamsError(
            f"train.batch_size: found {global_batch}, which {world.size} workers do not divide; "
            f"allowed are multiples of {world.size}"
        )
    if world.size > len(shards):
        raise ParamsError(
            f"train.workers: found {world.size}; allowed is at most {len(shards)}, the number of "
            f"clips in {shards.address}: train with fewer workers, or on more clips"
        )
    smallest = min(range(len(shards)), key=lambda clip: min(shards.lr_size(clip)))
    height, width = shards.lr_size(smallest)
    if not 1 <= crop <= min(height, width):
        raise ParamsError(
            f"train.crop: found {crop}; allowed is 1 to {min(height, width)}, since the LR frames "
            f"of clip {shards.keys[smallest]} are {width}x{height}: choose a smaller crop, or "
            "leave smaller clips out of the source"
        )


def _delivered(
    batches: Generator[ClipBatch, None, None], device: torch.device, dtype: torch.dtype
) -> Generator[ClipBatch, None, None]:
    """Hand uint8 batches over on the device and in the type that was asked for."""
    with closing(batches):
        for batch in batches:
            yield ClipBatch(
                lr_clip=_to(batch.lr_clip, device, dtype),
                hr_clip=_to(batch.hr_clip, device, dtype),
                keys=batch.keys,
                damage=batch.damage,
            )


def _to(levels: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """0..255 -> [0, 1] where a float is asked for; a copy to a GPU does not wait."""
    if device.type == "cuda" and not levels.is_cuda:
        levels = levels.pin_memory()
    levels = levels.to(device, non_blocking=True)
    return levels if dtype == torch.uint8 else levels.to(dtype).div_(255)
