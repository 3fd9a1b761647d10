"""The loader without DALI: OpenCV decodes, in threads. Also the plain reference of the other."""

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import torch

from stvsr.core.clip import SCALE, ClipBatch
from stvsr.core.errors import ShardError
from stvsr.core.image import UInt8Image
from stvsr.data.loading.augment import SampleSpec, augment_hr, augment_lr, in_time
from stvsr.data.loading.read_ahead import read_ahead
from stvsr.data.loading.samples import FRAMES, Sample, ValidClips
from stvsr.data.shards.format import HR_FRAMES, LR_FRAMES
from stvsr.data.shards.read import ShardSet

ClipPair = tuple[UInt8Image, UInt8Image]
"""One clip's LR frames (4, 3, h, w) and HR frames (7, 3, 4h, 4w), contiguous."""

Frames = tuple[list[UInt8Image], list[UInt8Image]]
"""One clip's 4 LR frames (h, W, 3) and 7 HR frames (4h, 4W, 3), from their first rows."""


def torch_batches(
    clips: ValidClips,
    specs: Iterable[Sequence[SampleSpec]],
    *,
    reads: int,
    threads: int,
    prefetch: int,
    decoded_bytes: int = 0,
) -> Generator[ClipBatch, None, None]:
    """Yield the batches of `specs`, uint8, on the CPU.

    Args:
        clips: what is read.
        specs: the samples of each batch; taken as they are needed.
        reads: clips read at a time.
        threads: clips decoded at a time.
        prefetch: batches read, and batches decoded, ahead.
        decoded_bytes: memory for decoded clips.

    Raises:
        ShardError: a member is damaged; names tar, member and byte.
        ServiceError: a remote store does not answer or refuses.
    """
    reader = read_ahead(clips.read, specs, threads=reads, depth=prefetch)
    with closing(reader):
        samples = (read for _, read in reader)
        work = partial(_decoded, clips, DecodedClips(clips.shards, decoded_bytes))
        decoder = read_ahead(work, samples, threads=threads, depth=prefetch)
        with closing(decoder):
            for _, decoded in decoder:
                shown, pairs = zip(*decoded, strict=True)
                yield _stacked(pairs, clips, shown)


def whole_clips(
    shards: ShardSet, clips: Iterable[int], *, threads: int, prefetch: int
) -> Generator[ClipBatch, None, None]:
    """Yield clips one by one, whole frames as they are, uint8, on the CPU."""
    work = partial(_whole_clip, shards)
    batches = ((clip,) for clip in clips)
    with closing(read_ahead(work, batches, threads=threads, depth=prefetch)) as decoder:
        for (clip,), ((lr_clip, hr_clip),) in decoder:
            yield ClipBatch(
                torch.from_numpy(lr_clip[None]),
                torch.from_numpy(hr_clip[None]),
                (shards.keys[clip],),
            )


class DecodedClips:
    """Clips' decoded frames; the first ones stay in memory, as many as there is room for.

    An epoch is a permutation, so that a clip which stays is used as often as any other would be.
    """

    def __init__(self, shards: ShardSet, room: int) -> None:
        """Take the set, and the bytes that kept frames may have; 0: none are kept."""
        self._shards = shards
        self._room = room
        self._kept: dict[int, Frames] = {}
        self._lock = threading.Lock()

    def frames(self, clip: int, files: Sequence[memoryview], lr_rows: int) -> Frames:
        """The frames of a clip, each to the row that is wanted or further.

        Raises:
            ShardError: a file is damaged.
        """
        kept = self._kept.get(clip)
        if kept is not None:
            return kept
        if self._room <= 0:
            return _decoded_frames(self._shards, clip, files, lr_rows)
        whole, _ = self._shards.lr_size(clip)
        frames = _decoded_frames(self._shards, clip, files, whole)
        size = sum(frame.nbytes for part in frames for frame in part)
        with self._lock:
            if clip not in self._kept and size <= self._room:
                self._kept[clip] = frames
                self._room -= size
        return frames


def _decoded(clips: ValidClips, decoded: DecodedClips, sample: Sample) -> tuple[Sample, ClipPair]:
    """Decode, crop and flip a sample, or the one that replaces it where it cannot be decoded."""
    while True:
        sample = clips.renewed(sample)
        try:
            return sample, _clip_pair(decoded, sample)
        except ShardError as damage:
            clips.found(sample.spec.clip, damage)


def _clip_pair(decoded: DecodedClips, sample: Sample) -> ClipPair:
    clip, how = sample.spec.clip, sample.spec.augmentation
    lr_frames, hr_frames = decoded.frames(clip, sample.files, how.top + how.crop)
    return (
        _channels_first([augment_lr(frame, how) for frame in in_time(lr_frames, how)]),
        _channels_first([augment_hr(frame, how) for frame in in_time(hr_frames, how)]),
    )


def _whole_clip(shards: ShardSet, clip: int) -> ClipPair:
    lr_rows, _ = shards.lr_size(clip)
    lr_frames, hr_frames = _decoded_frames(shards, clip, shards.files(clip, FRAMES), lr_rows)
    return _channels_first(lr_frames), _channels_first(hr_frames)


def _decoded_frames(
    shards: ShardSet, clip: int, files: Sequence[memoryview], lr_rows: int
) -> tuple[list[UInt8Image], list[UInt8Image]]:
    """The 4 LR and the 7 HR frames of a clip, in time, down to the last row that is wanted."""
    n_lr = len(LR_FRAMES)
    rows = [lr_rows] * n_lr + [lr_rows * SCALE] * len(HR_FRAMES)
    frames = [shards.decode(clip, *named) for named in zip(FRAMES, files, rows, strict=True)]
    return frames[:n_lr], frames[n_lr:]


def _channels_first(frames: Sequence[UInt8Image]) -> UInt8Image:
    """T frames of (H, W, 3) -> (T, 3, H, W)."""
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))


def _stacked(pairs: Sequence[ClipPair], clips: ValidClips, samples: Sequence[Sample]) -> ClipBatch:
    lr_clips, hr_clips = zip(*pairs, strict=True)
    return ClipBatch(
        lr_clip=torch.from_numpy(np.stack(lr_clips)),
        hr_clip=torch.from_numpy(np.stack(hr_clips)),
        keys=clips.keys(samples),
        damage=clips.damage(samples),
    )
