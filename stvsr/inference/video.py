"""A video in, a video out: what `stvsr upscale` does.

The network's frames are encoded in segments into a work folder beside the output. When all are
there, they are put into the container with the input's sound and everything else, and the result
takes its name. Killed at any moment, the same command resumes after the last whole segment.
"""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import stvsr
from stvsr.artifact import Card
from stvsr.core.device import pick_device
from stvsr.core.errors import InputError, StvsrError
from stvsr.core.files import (
    is_side_file,
    only_writer,
    open_regular,
    whole_folder,
    write_bytes_whole,
)
from stvsr.core.fingerprint import code_fingerprint
from stvsr.core.progress import progress
from stvsr.inference.lineage import lineage
from stvsr.inference.memory import tile_for
from stvsr.inference.sources import Source, open_source
from stvsr.inference.upscale import Upscaling, fit_to, upscale
from stvsr.inference.work import Work, root_of
from stvsr.models import StvsrModel
from stvsr.video.coding import Plane
from stvsr.video.encoding import (
    CONTAINERS,
    IMAGES,
    Encoder,
    Format,
    check_codec,
    choose_format,
    libraries,
)
from stvsr.video.images import is_pattern, names_of, numbered_name, with_comment
from stvsr.video.mux import TURNING, check_streams, lineage_of, write_video
from stvsr.video.reader import shown_name
from stvsr.video.times import output_times, ticks, time_base

logger = logging.getLogger(__name__)

SEGMENT = 60
"""Output frames of a segment: what a kill costs at most."""

IMAGES_RECORD = "stvsr.json"
"""File that a folder of our images has."""

NUMBERED = "%06d.png"
"""Names of images in a folder that names no others."""

STRIP = (960, 540)
"""Width and height at most of a picture in a preview; larger ones show their middle."""

STRIP_MARK = b"tEXtComment\0stvsr "
"""Bytes near the beginning of a preview, which other pictures do not have."""

Loader = Callable[[str], tuple[StvsrModel, Card | None]]
"""Loads the model that a request names, on the CPU; without a card, it has no weights."""


@dataclass(frozen=True)
class VideoRequest:
    """The request for an upscaled video.

    Attributes:
        input: a video, a folder of numbered images, or a pattern such as FOLDER/f_%04d.png.
        output: a video, a folder or a pattern; by its suffix.
        model: as the loader takes it.
        space: scale in height and width.
        time: scale of the rate.
        start: seconds from the beginning; None: the beginning.
        end: seconds from the beginning; None: the end.
        codec: name in `stvsr.video.encoding.CODECS`; None for the container's usual one.
        crf: quality; None for the codec's usual one.
        precision: type of the network's weights; auto is bf16 on a GPU.
        device: of the network.
        memory: bytes at most, from which the tile follows; None for tiles of 256 pixels.
        preview: input frames of a side-by-side strip, in place of a video; 0 for a video.
        rate: frames per second of images; None for 25.
        segment: output frames of a segment.
    """

    input: str
    output: Path
    model: str
    space: int = 4
    time: int = 2
    start: Fraction | None = None
    end: Fraction | None = None
    codec: str | None = None
    crf: int | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: str = "auto"
    memory: int | None = None
    preview: int = 0
    rate: Fraction | None = None
    segment: int = SEGMENT


@dataclass(frozen=True)
class _Job:
    """A request with everything opened."""

    request: VideoRequest
    source: Source
    network: StvsrModel
    lineage: str
    weights: str
    device: str
    how: Upscaling
    began: float

    def frames(self) -> Iterator[Tensor]:
        return (torch.from_numpy(rgb) for rgb in self.source.frames())

    @property
    def comment(self) -> str:
        return (
            f"stvsr {stvsr.__version__}: {self.how.space}x space, {self.how.time}x time, "
            f"{self.lineage}"
        )


def upscale_video(request: VideoRequest, load: Loader) -> str:
    """Upscale a video or numbered images; return the line that the command prints.

    Args:
        request: what is asked for.
        load: opens the model.

    Raises:
        StvsrError: the input, the output or an option is not possible, or the model cannot be read.
        OSError: the disk is full, or a folder cannot be written.
    """
    began = time.monotonic()
    how = Upscaling(space=request.space, time=request.time)
    suffix = _suffix(request)
    if not request.preview:
        check_codec(suffix, request.codec, request.crf)
    _refuse_output(request, suffix)
    device = pick_device(request.device, "--device")
    network, card = load(request.model)
    how = fit_to(how, network)
    source = open_source(
        request.input,
        start=request.start,
        end=request.end,
        rate=request.rate,
        keeps_turn=CONTAINERS.get(suffix) in TURNING and not request.preview,
    )
    for note in source.notes:
        logger.info("%s: %s", source.name, note)
    if request.memory is not None:
        how = replace(how, tile=tile_for(request.memory, network, how, source.size))
    is_bf16 = request.precision == "bf16" or (request.precision == "auto" and device.type == "cuda")
    network.to(device, torch.bfloat16 if is_bf16 else torch.float32)
    weights = f"{card.weights_sha256 if card else request.model} {'bf16' if is_bf16 else 'float32'}"
    job = _Job(
        request, source, network, lineage(card, request.model), weights, device.type, how, began
    )
    if request.preview:
        return _write_preview(job)
    form = _format(job, suffix)
    folder = _folder(request.output)
    if form.is_images:
        with only_writer(folder, holds=IMAGES_RECORD):
            return _render(job, form, folder)
    with only_writer(root_of(folder) / "output"):
        return _render(job, form, folder)


# --- where it goes


def _suffix(request: VideoRequest) -> str:
    """Suffix of the container, or that of images."""
    output = request.output
    if is_pattern(output.name) or output.is_dir() or not output.suffix:
        if output.suffix and output.suffix.lower() != IMAGES and not output.is_dir():
            raise InputError(f"OUTPUT: found {shown_name(output)}; images are written as .png")
        return IMAGES
    if output.suffix.lower() == IMAGES and not request.preview:
        raise InputError(
            f"OUTPUT: found {shown_name(output)}, one image; expected a folder, or a pattern such "
            f"as {shown_name(output.with_name(output.stem))}_%06d.png"
        )
    return output.suffix.lower()


def _folder(output: Path) -> Path:
    """The path that appears whole: the file, or the folder of the images."""
    return output.parent if is_pattern(output.name) else output


def _image_names(output: Path) -> str:
    """The pattern of the images' names."""
    return output.name if is_pattern(output.name) else NUMBERED


def _strip_path(output: Path) -> Path:
    """Where a preview is written."""
    if not output.name:
        raise InputError(f"OUTPUT: found {output}; expected a name, such as strip.png")
    return output.with_suffix(IMAGES)


def _refuse_output(request: VideoRequest, suffix: str) -> None:
    """Refuse an output that is the input, or that would replace what stvsr did not write."""
    output = request.output
    if output.exists() and Path(request.input).exists() and output.samefile(request.input):
        raise InputError(f"OUTPUT: found {shown_name(output)}, which is INPUT; name another")
    if request.preview:
        strip = _strip_path(output)
        is_ours = not strip.exists() or _is_our_strip(strip)
    elif suffix == IMAGES:
        _refuse_folder(request)
        return
    else:
        strip = output
        is_ours = not output.exists() or "stvsr " in lineage_of(output)
    if not is_ours:
        raise InputError(
            f"OUTPUT: found {shown_name(strip)}, which stvsr did not write and which would be "
            "lost; name another, or move that away"
        )


def _refuse_folder(request: VideoRequest) -> None:
    """Refuse a folder of images that holds the input, the current folder, or other files."""
    folder, given = _folder(request.output), Path(request.input)
    if Path.cwd().is_relative_to(folder.resolve()):
        raise InputError(
            f"OUTPUT: found {shown_name(request.output)}, whose folder is the current one or above "
            "it, and would be replaced; name a new folder"
        )
    if not folder.is_dir():
        return
    if (given if given.is_dir() else given.parent).resolve() == folder.resolve():
        raise InputError(
            f"OUTPUT: found {shown_name(folder)}, which holds INPUT and would be replaced; "
            "name another"
        )
    names = names_of(_image_names(request.output))
    for file in sorted(folder.iterdir()):
        is_known = file.name == IMAGES_RECORD or is_side_file(file.name)
        if not is_known and not names.fullmatch(file.name):
            raise InputError(
                f"OUTPUT: found {shown_name(file)}, which would be lost; name a folder that does "
                "not exist yet, or move that away"
            )


def _is_our_strip(path: Path) -> bool:
    with open_regular(path) as file:
        return STRIP_MARK in file.read(4096)


def _format(job: _Job, suffix: str) -> Format:
    source, how = job.source, job.how
    times = output_times(source.times, how.time)
    form = choose_format(
        suffix,
        job.request.codec,
        job.request.crf,
        source.coding,
        (source.size[0] * how.space, source.size[1] * how.space),
        aspect=source.aspect,
        base=time_base([*times, source.end]),
        rate=len(times) / (source.end - source.times[0]),
        keeps_chroma=how.space == 1,
    )
    if not form.is_images and form.coding.layout == (1, 1) and source.coding.layout != (1, 1):
        logger.info("%s: written as 4:4:4, which some players refuse", source.name)
    if form.coding.bits < source.coding.bits:
        logger.info(
            "%s: %d-bit, written as %d-bit", source.name, source.coding.bits, form.coding.bits
        )
    return form


# --- rendering


def _render(job: _Job, form: Format, output: Path) -> str:
    times = ticks([*output_times(job.source.times, job.how.time), job.source.end], form.base)
    end = times.pop()
    work = Work(output, _identity(job, form))
    total, length = len(times), job.request.segment
    if work.frames:
        logger.info("%s: resumes after %d of %d frames", shown_name(output), work.frames, total)
    try:
        if job.source.reader is not None and not form.is_images:
            check_streams(form, job.source.reader, job.source.turned)
        _render_segments(job, form, work, times, length)
        if job.source.state() != job.source.opened:
            raise InputError(
                f"{job.source.name}: it changed while it was read; let nothing change it, and run "
                "the same command again"
            )
        if form.is_images:
            _write_images(job, work, output)
        else:
            _write_container(job, form, work, output, times, end)
    except StvsrError:
        if not work.records:
            work.clear_own()  # there is nothing to resume
        raise
    work.clear()
    return _last_line(job, form, total)


def _identity(job: _Job, form: Format) -> dict[str, object]:
    """All that decides the bytes of the segments."""
    return {
        "input": job.source.opened,
        "times": [str(job.source.times[0]), str(job.source.end), len(job.source.times)],
        "how": asdict(job.how),
        "format": asdict(form),
        "weights": job.weights,
        "device": job.device,
        "segment": job.request.segment,
        "code": code_fingerprint([__name__]),
        "versions": [stvsr.__version__, torch.__version__, libraries()],
    }


def _render_segments(
    job: _Job, form: Format, work: Work, times: Sequence[int], length: int
) -> None:
    """Render what is not in whole segments yet."""
    done = work.frames
    if done == len(times):
        return
    output = upscale(job.frames(), job.network, job.how, skip=done)
    rest = islice(output, done, None)
    shown = progress(rest, len(times), "upscaling", done=done, unit="frames")
    for first in range(done, len(times), length):
        stamps = times[first : first + length]
        with work.segment() as segment:
            encoder = Encoder(form)
            for stamp in stamps:
                frame = next(shown, None)
                if frame is None:
                    raise InputError(
                        f"{job.source.name}: gave fewer frames than when it was opened; "
                        "let nothing change it, and run the same command again"
                    )
                for coded in encoder.encode(_plane(frame), stamp):
                    segment.add(coded)
            for coded in encoder.finish():
                segment.add(coded)
            segment.publish()
    for _ in shown:  # the bar's end
        raise AssertionError("more frames than times")


def _plane(frame: Tensor) -> Plane:
    plane: Plane = frame.cpu().numpy()
    return plane


def _write_container(
    job: _Job, form: Format, work: Work, output: Path, times: Sequence[int], end: int
) -> None:
    partial = work.folder / f"output{form.suffix}"
    copied = write_video(
        partial,
        form,
        work.packets(),
        [stamp for record in work.records for stamp in record.stamps],
        times,
        end,
        turned=job.source.turned,
        comment=job.comment,
        source=job.source.reader,
        span=job.source.span,
    )
    for left_out in copied.left_out:
        logger.warning("%s: left out: %s", shown_name(output), left_out)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _refuse_output(job.request, form.suffix)  # hours have passed
    partial.replace(output)


def _write_images(job: _Job, work: Work, output: Path) -> None:
    """Write the folder of images, with their times in its record."""
    names = _image_names(job.request.output)
    times = output_times(job.source.times, job.how.time)
    record = {"comment": job.comment, "seconds": [float(time) for time in times]}
    if job.source.reader is not None:
        logger.info("%s: images hold no sound and no times", shown_name(output))
    with whole_folder(output) as folder:
        for number, coded in enumerate(work.packets(), start=1):
            (folder / numbered_name(names, number)).write_bytes(coded.data)
        (folder / IMAGES_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _last_line(job: _Job, form: Format, total: int) -> str:
    source = job.source
    rates = f"{_number(source.rate)} → {_number(source.rate * job.how.time)} frames/s"
    codec = form.codec if form.is_images else f"{form.codec} crf {form.crf} {form.coding.bits}-bit"
    seconds = time.monotonic() - job.began
    return (
        f"{shown_name(job.request.output)}: {source.size[0]}x{source.size[1]} → "
        f"{form.width}x{form.height}, {rates}, {codec}, {job.lineage}, "
        f"{total} frame{'s' * (total > 1)} in {seconds:.1f} s\n"
    )


def _number(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


# --- preview


def _write_preview(job: _Job) -> str:
    """Write a strip: a row for each input frame, its cubic enlargement left, the output right."""
    count = job.request.preview
    waiting: deque[Tensor] = deque()

    def inputs() -> Iterator[Tensor]:
        for frame in islice(job.frames(), count + job.how.window):
            waiting.append(frame)
            yield frame

    rows = []
    outputs = islice(upscale(inputs(), job.network, job.how), 0, None, job.how.time)
    for after in islice(outputs, count):
        before = waiting.popleft()
        size = list(after.shape[-2:])
        enlarged = F.interpolate(before[None].float(), size, mode="bicubic")[0].clamp(0, 1)
        pair = [_middle(frame.cpu()) for frame in (enlarged, after)]
        gap = torch.ones(3, pair[0].shape[1], 4)
        rows.append(torch.cat([pair[0], gap, pair[1]], dim=2))
    strip = torch.cat(rows, dim=1)
    form = choose_format(
        IMAGES,
        None,
        None,
        replace(job.source.coding, bits=8),
        (strip.shape[2], strip.shape[1]),
        aspect=job.source.aspect,
        base=Fraction(1, 25),
        rate=Fraction(25),
        keeps_chroma=True,
    )
    encoder = Encoder(form)
    coded = [*encoder.encode(_plane(strip), 0), *encoder.finish()]
    path = _strip_path(job.request.output)
    write_bytes_whole(path, with_comment(coded[0].data, job.comment))
    return f"{shown_name(path)}: {len(rows)} frames, cubic enlargement left, {job.lineage} right\n"


def _middle(frame: Tensor) -> Tensor:
    """The middle of a frame, at most `STRIP`."""
    height, width = frame.shape[-2:]
    columns, rows = min(STRIP[0], width), min(STRIP[1], height)
    top, left = (height - rows) // 2, (width - columns) // 2
    return frame[:, top : top + rows, left : left + columns]
