"""The loader with NVIDIA DALI, on a GPU or, where there is none, on the CPU. The only DALI."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from stvsr.core.clip import SCALE, ClipBatch
from stvsr.core.errors import ShardError
from stvsr.data.clips import png
from stvsr.data.loading.augment import SampleSpec, in_time
from stvsr.data.loading.read_ahead import give_way, read_ahead
from stvsr.data.loading.samples import FRAMES, Sample, ValidClips
from stvsr.data.shards.format import HR_FRAMES, LR_FRAMES


@dataclass(frozen=True)
class Cut:
    """The files that DALI decodes for one sample.

    Attributes:
        sample: the sample.
        files: its 4 LR and 7 HR files in the order in which they are shown, cut below the crop.
    """

    sample: Sample
    files: tuple[bytes | memoryview, ...]


def dali_batches(
    clips: ValidClips,
    specs: Iterable[Sequence[SampleSpec]],
    *,
    crop: int,
    reads: int,
    threads: int,
    prefetch: int,
    device: torch.device,
) -> Generator[ClipBatch, None, None]:
    """Yield the batches of `specs`, uint8, on `device`; the bytes are those of `torch_batches`.

    Threads of ours bring the files' bytes into memory, check them, inflate them and leave out the
    rows below the crop; DALI decodes, crops and flips what they leave, `prefetch` batches ahead.

    Args:
        clips: what is read.
        specs: the samples of each batch, all of one size; taken as they are needed.
        crop: side of the LR crop in pixels.
        reads: clips read at a time.
        threads: clips inflated at a time, and DALI's threads.
        prefetch: batches read, and batches decoded, ahead.
        device: where the batches arrive: the CPU or a CUDA device.

    Raises:
        ShardError: a member is damaged; names tar, member and byte.
        ServiceError: a remote store does not answer or refuses.
    """
    reader = read_ahead(clips.read, specs, threads=reads, depth=prefetch)
    with closing(reader):
        samples = (read for _, read in reader)
        cutter = read_ahead(partial(_cut, clips), samples, threads=threads, depth=prefetch)
        with closing(cutter):
            yield from _decoded((cut for _, cut in cutter), clips, crop, threads, prefetch, device)


def _decoded(
    batches: Iterator[list[Cut]],
    clips: ValidClips,
    crop: int,
    threads: int,
    prefetch: int,
    device: torch.device,
) -> Generator[ClipBatch, None, None]:
    """Run the batches through a pipeline; one that met damage is given up for another."""
    under_way = deque(islice(batches, prefetch))
    if not under_way:
        return

    def start() -> Any:
        pipeline = _pipeline(len(under_way[0]), crop, threads, len(under_way), device)
        for batch in under_way:
            _feed(pipeline, batch)
        pipeline.schedule_run()  # the first call runs as many batches as the pipeline is deep
        return pipeline

    def started() -> Any:
        with ThreadPoolExecutor(1, initializer=give_way) as starter:  # its threads give way too
            return starter.submit(start).result()

    pipeline = started()
    while under_way:
        try:
            lr_clip, hr_clip = pipeline.outputs()
        except RuntimeError as error:
            under_way = _without_damage(clips, under_way, error)
            pipeline = started()
            continue
        shown = [cut.sample for cut in under_way.popleft()]
        for batch in islice(batches, 1):
            under_way.append([_renewed(clips, cut) for cut in batch])
            _feed(pipeline, under_way[-1])
            pipeline.schedule_run()
        yield ClipBatch(
            _channels_first(lr_clip, shown),
            _channels_first(hr_clip, shown),
            clips.keys(shown),
            clips.damage(shown),
        )


def _cut(clips: ValidClips, sample: Sample) -> Cut:
    """Leave the rows below the crop out, and put the files in the order in which they are shown."""
    sample = clips.renewed(sample)
    how, n_lr = sample.spec.augmentation, len(LR_FRAMES)
    rows = (how.top + how.crop) * SCALE
    size = clips.shards.size(sample.spec.clip, HR_FRAMES[0])
    hr_files = [png.top_rows(file, size, rows) for file in sample.files[n_lr:]]
    return Cut(sample, (*in_time(sample.files[:n_lr], how), *in_time(hr_files, how)))


def _renewed(clips: ValidClips, cut: Cut) -> Cut:
    """The same, or its replacement if its clip was found damaged since it was read."""
    sample = clips.renewed(cut.sample)
    return cut if sample is cut.sample else _cut(clips, sample)


def _pipeline(batch_size: int, crop: int, threads: int, depth: int, device: torch.device) -> Any:
    """The graph: eleven files per sample -> LR (4, h, w, 3) and HR (7, 4h, 4w, 3), uint8."""
    on_gpu = device.type == "cuda"
    pipeline: Any = Pipeline(  # type: ignore[no-untyped-call]
        batch_size=batch_size,
        num_threads=threads,
        device_id=(device.index or 0) if on_gpu else None,
        prefetch_queue_depth=depth,
    )
    with pipeline:
        top_left = fn.external_source(name="top_left", dtype=types.DALIDataType.INT32, ndim=1)
        horizontal = fn.external_source(name="horizontal", dtype=types.DALIDataType.INT32, ndim=0)
        vertical = fn.external_source(name="vertical", dtype=types.DALIDataType.INT32, ndim=0)

        def clip(frames: Sequence[str], scale: int) -> Any:
            images = [
                fn.decoders.image_slice(
                    # Not copied: `under_way` holds the views.
                    fn.external_source(
                        name=frame, dtype=types.DALIDataType.UINT8, ndim=1, no_copy=True
                    ),
                    start=top_left * scale,
                    shape=[crop * scale, crop * scale],
                    axis_names="HW",
                    output_type=types.DALIImageType.RGB,
                    adjust_orientation=False,
                    device="mixed" if on_gpu else "cpu",
                )
                for frame in frames
            ]
            return fn.flip(fn.stack(*images), horizontal=horizontal, vertical=vertical)

        pipeline.set_outputs(clip(LR_FRAMES, 1), clip(HR_FRAMES, SCALE))
    pipeline.build()
    return pipeline


def _feed(pipeline: Any, batch: Sequence[Cut]) -> None:
    hows = [cut.sample.spec.augmentation for cut in batch]
    for frame, files in zip(FRAMES, zip(*(cut.files for cut in batch), strict=True), strict=True):
        pipeline.feed_input(frame, [np.frombuffer(file, np.uint8) for file in files])
    pipeline.feed_input("top_left", [np.array([how.top, how.left], np.int32) for how in hows])
    pipeline.feed_input("horizontal", [np.array(how.flip_horizontal, np.int32) for how in hows])
    pipeline.feed_input("vertical", [np.array(how.flip_vertical, np.int32) for how in hows])


def _without_damage(
    clips: ValidClips, under_way: Iterable[Sequence[Cut]], error: RuntimeError
) -> deque[list[Cut]]:
    """Find the files that DALI could not decode, which it does not name, and replace them."""
    found = False
    for sample in (cut.sample for batch in under_way for cut in batch):
        try:
            for frame, file in zip(FRAMES, sample.files, strict=True):
                clips.shards.decode(sample.spec.clip, frame, file)
        except ShardError as damage:
            clips.found(sample.spec.clip, damage)
            found = True
    if not found:
        keys = clips.keys(cut.sample for batch in under_way for cut in batch)
        raise ShardError(
            f"{clips.shards.address}: DALI cannot decode one of the clips {', '.join(keys)}: "
            f"{' '.join(str(error).split())}"
        ) from error
    return deque([_cut(clips, cut.sample) for cut in batch] for batch in under_way)


def _channels_first(dali_clips: Any, samples: Sequence[Sample]) -> Tensor:
    """Copy (B, T, h, w, 3) out of DALI's memory, channels first, and transpose on the way."""
    shown = zip(from_dlpack(dali_clips.as_tensor()), samples, strict=True)
    return torch.stack(
        [
            frames.permute(0, 3, 2, 1)
            if sample.spec.augmentation.transpose
            else frames.permute(0, 3, 1, 2)
            for frames, sample in shown
        ]
    )
