"""Muxing: a new video stream beside the sound, subtitles and whatever else an input has.

Everything else is copied packet by packet, unchanged, and merged by time. What the container
cannot hold is named.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import merge
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stvsr.core.errors import StvsrError
from stvsr.video.encoding import CODECS, CONTAINERS, Coded, Format, configure, encoder_options
from stvsr.video.geometry import Geometry
from stvsr.video.reader import VideoError, VideoReader, shown_name

TURNING = frozenset({"mp4", "mov"})
"""Containers that hold a display matrix; elsewhere frames are turned upright."""

OF_THE_FILE = frozenset(
    {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "comment"}
)
"""Metadata that the muxer writes itself, or that describes the input's own bytes."""

OF_THE_STREAM = ("bps", "duration", "number_of_", "_statistics", "encoder", "vendor_id")
"""Beginnings of metadata of a stream that describe its bytes."""

ROUNDING = Fraction(1, 10)
"""Seconds by which a header may promise more sound than there is."""

FIXED = 0x10000
"""One, in the 16.16 fixed point of a display matrix."""


@dataclass(frozen=True)
class Span:
    """The part of an input that is written.

    Attributes:
        start: seconds on the input's clock that become 0.
        first: packets before this time are left out; None: none are.
        stop: packets from this time on are left out; None: none are.
    """

    start: Fraction = Fraction(0)
    first: Fraction | None = None
    stop: Fraction | None = None

    def has(self, time: Fraction) -> bool:
        """True if something at a time is written."""
        after = self.first is None or time >= self.first
        return after and (self.stop is None or time < self.stop)


@dataclass
class Copied:
    """The parts of an input that were copied.

    Attributes:
        streams: number of them.
        left_out: what the container cannot hold, in words.
    """

    streams: int = 0
    left_out: list[str] = field(default_factory=list)


def write_video(
    path: Path,
    form: Format,
    packets: Iterable[Coded],
    stamps: Sequence[int],
    times: Sequence[int],
    end: int,
    *,
    turned: Geometry | None = None,
    comment: str = "",
    source: VideoReader | None = None,
    span: Span | None = None,
) -> Copied:
    """Write a container: the video's packets, and what the source has beside its own.

    Args:
        path: is overwritten.
        form: of the video.
        packets: as the encoders of `form` gave them, part after part.
        stamps: time of each of them in ticks, in their order.
        times: the same, sorted.
        end: tick at which the last frame ends.
        turned: how stored frames are turned for display; None where they are upright.
        comment: put after the input's own.
        source: the input; None where there is nothing to copy.
        span: part of the input.

    Raises:
        OSError: the disk is full or the file cannot be written.
        StvsrError: the container refuses the video.
    """
    span = span or Span()
    kind = CONTAINERS[form.suffix]
    # Sound that begins before 0 is kept there: by default, all of a Matroska file is moved instead.
    options = {"avoid_negative_ts": "disabled"}
    if kind in TURNING:
        options["movflags"] = "+faststart"
    try:
        # Absolute: a relative name such as "Alien:.mp4" would be taken for an address.
        target = path.absolute()
        with av.open(target, "w", format=kind, container_options=options) as container:
            if source is None:
                container.metadata["comment"] = comment
                video = _add_video(container, form, turned)
                container.start_encoding()
                for packet in _video_packets(video, form, packets, stamps, times, end):
                    container.mux_one(packet)
                return Copied()
            with source.opened() as (opened, stream):
                video = _add_video(container, form, turned)
                copied, outputs = _add_streams(container, source, opened, stream, form)
                _copy_facts(stream, video, is_new=True)
                _copy_metadata(container, opened, comment, span)
                container.start_encoding()
                ours = _video_packets(video, form, packets, stamps, times, end)
                theirs = _copied_packets(opened, outputs, span, copied.left_out)
                timed = merge(_timed(ours), _timed(theirs), key=lambda item: item[:2])
                for _, _, packet in timed:
                    container.mux_one(packet)
    except av.FFmpegError as error:
        if isinstance(error, OSError) or error.errno in _DISK:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise _refused(shown_name(path), error) from None
    copied.left_out += _lost_metadata(path, source)
    return copied


_DISK = frozenset({28, 27, 5, 30, 122})
"""ENOSPC, EFBIG, EIO, EROFS, EDQUOT."""


def check_streams(form: Format, source: VideoReader, turned: Geometry | None) -> None:
    """Write the header alone, so that what a container refuses is known before hours of work.

    Raises:
        StvsrError: it refuses the streams.
    """
    try:
        with (
            av.open(io.BytesIO(), "w", format=CONTAINERS[form.suffix]) as container,
            source.opened() as (opened, stream),
        ):
            video = _add_video(container, form, turned)
            _add_streams(container, source, opened, stream, form)
            _copy_facts(stream, video, is_new=True)
            _copy_metadata(container, opened, "", Span())
            container.start_encoding()
    except av.FFmpegError as error:
        raise _refused(form.suffix, error) from None


def _refused(what: str, error: av.FFmpegError) -> StvsrError:
    return StvsrError(
        f"{what}: the container refuses the streams ({error.strerror}); "
        "choose another container, such as .mkv"
    )


def _add_streams(
    container: OutputContainer,
    source: VideoReader,
    opened: InputContainer,
    video: VideoStream,
    form: Format,
) -> tuple[Copied, dict[int, Stream]]:
    """Add all streams but the video; also returns those to copy, by their number in the input."""
    copied = Copied()
    outputs: dict[int, Stream] = {}
    is_matroska = CONTAINERS[form.suffix] == "matroska"
    for other in opened.streams:
        is_chapters = other.type == "data" and _codec(other) in _CHAPTER_TRACKS
        if other.index == video.index or (is_chapters and opened.chapters()):
            continue
        if "timecode" in other.metadata and "timecode" in video.metadata and form.suffix in _TIMED:
            continue  # the muxer makes this track of the video's metadata
        if isinstance(other, AttachmentStream) and is_matroska:
            name = other.name or f"attachment{other.index}"
            _attach(container, name, other.mimetype, other.data)
        elif _is_picture(other) and is_matroska and _codec(other) in _PICTURES:
            suffix, mimetype = _PICTURES[_codec(other)]
            _attach(container, f"cover.{suffix}", mimetype, _picture(source, other.index))
        elif why := _refusal(other, form):
            copied.left_out.append(f"{_named(other)}: {why}")
            continue
        else:
            output: Stream = container.add_stream_from_template(other)
            _copy_facts(other, output)
            outputs[other.index] = output
        copied.streams += 1
    return copied, outputs


_PICTURES = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
"""Suffix and MIME type of cover pictures by codec; Matroska holds them as attachments."""


def _is_picture(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _picture(source: VideoReader, index: int) -> bytes:
    """The bytes of a cover picture, which Matroska's header needs before other packets are read."""
    with source.opened() as (opened, _):
        packets = opened.demux(opened.streams[index])
        return next((bytes(packet) for packet in packets if packet.size), b"")


_TIMED = (".mp4", ".m4v", ".mov")
"""Suffixes of containers that have a track of time codes."""

_CHAPTER_TRACKS = ("bin_data", "text", "")
"""Name of the text track that holds the chapters of an MP4."""


def _add_video(container: OutputContainer, form: Format, turned: Geometry | None) -> VideoStream:
    encoder = CODECS[form.codec].encoder
    stream = container.add_stream(encoder, rate=form.rate.limit_denominator(1001))
    if not isinstance(stream, VideoStream):
        raise TypeError(encoder)
    configure(stream.codec_context, form)
    stream.codec_context.options = encoder_options(form)
    stream.time_base = form.base
    if turned is not None:
        stream.set_display_matrix(display_matrix(turned, form.width, form.height))
    return stream


def display_matrix(turned: Geometry, width: int, height: int) -> list[int]:
    """The matrix (16.16 and 2.30 fixed point) that shows stored frames as a geometry does.

    Args:
        turned: how; its own size is not used.
        width: of the stored frames.
        height: of the stored frames.
    """
    rows, columns = (-1 if flip else 1 for flip in (turned.flip_rows, turned.flip_columns))
    a, b, c, d = (0, rows, columns, 0) if turned.transposed else (columns, 0, 0, rows)
    x = width * (a < 0) + height * (c < 0)
    y = width * (b < 0) + height * (d < 0)
    upper = [n * FIXED for n in (a, b, 0, c, d, 0, x, y)]
    return [*upper, 1 << 30]


def _attach(container: OutputContainer, name: str, mimetype: str | None, data: bytes) -> None:
    container.add_attachment(name, mimetype or "application/octet-stream", data)


def _refusal(stream: Stream, form: Format) -> str:
    """Why a container does not take a stream as it is; "" if it does: a header is tried."""
    other = "; .mkv does" if form.suffix != ".mkv" else ""
    if stream.type == "video" and not _is_picture(stream):
        return "a second video stream is not copied"
    if isinstance(stream, AttachmentStream) or (stream.type == "data" and not _codec(stream)):
        return f"{form.suffix} does not hold it{other}"
    try:
        with av.open(io.BytesIO(), "w", format=CONTAINERS[form.suffix]) as container:
            container.add_stream_from_template(stream)
            container.start_encoding()
    except (av.FFmpegError, ValueError, TypeError, AttributeError):
        return f"{form.suffix} does not hold it{other}"
    return ""


def _codec(stream: Stream) -> str:
    context = stream.codec_context
    return str(context.name if context is not None else stream.name or "")


def _named(stream: Stream) -> str:
    """A stream in words: "stream 2, subtitle subrip (eng)"."""
    kind = f"{stream.type} {_codec(stream)}".strip()
    language = stream.metadata.get("language", "")
    return shown_name(f"stream {stream.index}, {kind}" + (f" ({language})" if language else ""))


def _copy_facts(source: Stream, output: Stream, *, is_new: bool = False) -> None:
    """Copy language, title and disposition; of a stream encoded anew, not what describes bytes."""
    for key, value in source.metadata.items():
        if not (is_new and key.lower().startswith(OF_THE_STREAM)):
            output.metadata["title" if key == "name" else key] = value  # MOV reads it so
    output.disposition = source.disposition


def _copy_metadata(
    container: OutputContainer, opened: InputContainer, comment: str, span: Span
) -> None:
    for key, value in opened.metadata.items():
        if key.lower() not in OF_THE_FILE:
            container.metadata[key] = value
    own = next((v for k, v in opened.metadata.items() if k.lower() == "comment"), "")
    container.metadata["comment"] = "; ".join(filter(None, (own, comment)))
    container.set_chapters(_chapters(opened, span))


def _chapters(opened: InputContainer, span: Span) -> list[Any]:
    """The chapters of the part that is written."""
    found: list[Any] = []
    for chapter in opened.chapters():
        base = Fraction(chapter["time_base"] or 1)
        start, end = chapter["start"] * base, chapter["end"] * base
        first = max(start, span.first or start)
        last = min(end, span.stop) if span.stop is not None else end
        if last > first or (start == end and span.has(start)):
            begin, stop = (round((time - span.start) / base) for time in (first, last))
            found.append({**chapter, "start": max(0, begin), "end": max(0, stop)})
    return found


def _video_packets(
    stream: VideoStream,
    form: Format,
    packets: Iterable[Coded],
    stamps: Sequence[int],
    times: Sequence[int],
    end: int,
) -> Iterator["av.Packet[Any]"]:
    """Packets with decoding times that rise, none after its presentation, and durations."""
    stamp, shown = np.asarray(stamps, np.int64), np.asarray(times, np.int64)
    decoded = decoding_times(stamp, shown)
    ends = np.append(shown[1:], end)
    # MP4 keeps the time from one decoding to the next, so that the last one decoded ends the track.
    last = int(end - shown[0] - (decoded[-1] - decoded[0]))
    for at, coded in enumerate(packets):
        packet: av.Packet[Any] = av.Packet(coded.data)
        packet.stream, packet.time_base = stream, form.base
        packet.pts, packet.dts = coded.pts, int(decoded[at])
        place = int(np.searchsorted(shown, coded.pts))
        is_last = at == len(stamp) - 1 and coded.pts != shown[-1]
        packet.duration = max(1, last if is_last else int(ends[place] - coded.pts))
        packet.is_keyframe = coded.is_key
        yield packet


def decoding_times(stamps: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """When packets are decoded: the presentation times, as late as the order allows.

    Args:
        stamps: presentation time of each packet, in the order of decoding.
        times: the same, sorted.
    """
    places = np.searchsorted(times, stamps)
    delay = int((np.arange(len(stamps)) - places).max(initial=0))
    step = int(np.diff(times).min(initial=1 << 40)) if len(times) > 1 else 1
    before = times[0] - step * np.arange(delay, 0, -1)
    return np.concatenate([before, times[: len(times) - delay]])


def _copied_packets(
    opened: InputContainer, outputs: Mapping[int, Stream], span: Span, left_out: list[str]
) -> Iterator["av.Packet[Any]"]:
    """The packets of the streams that are copied, moved to the output's clock.

    Where sound breaks off before the end of `span`, `left_out` gets a line.
    """
    wanted = [opened.streams[index] for index in outputs]
    if not wanted:
        return
    packets = opened.demux(wanted)
    ends: dict[int, Fraction] = {}
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError, OSError):
            left_out += filter(None, (_missing(stream, ends, span) for stream in wanted))
            return
        if not packet.size:
            continue
        base = packet.time_base
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and not _is_picture(packet.stream):
            end = Fraction((time + (packet.duration or 0)) * base)
            ends[packet.stream.index] = max(end, ends.get(packet.stream.index, end))
            if not span.has(time * base):
                continue
            shift = round(span.start / base)
            packet.pts = packet.pts - shift if packet.pts is not None else None
            packet.dts = packet.dts - shift if packet.dts is not None else None
        elif time is None:
            packet.pts = packet.dts = 0
        packet.stream = outputs[packet.stream.index]
        yield packet


def _missing(stream: Stream, ends: Mapping[int, Fraction], span: Span) -> str:
    """The sound that a header promises and the file does not have, in words; or ""."""
    if stream.type != "audio" or stream.duration is None or stream.time_base is None:
        return ""
    start = Fraction((stream.start_time or 0) * stream.time_base)
    promised = start + stream.duration * stream.time_base
    end = ends.get(stream.index, start)
    if min(promised, span.stop or promised) - end <= ROUNDING:
        return ""
    return (
        f"{_named(stream)}: what follows {float(end):.3f} s, which the file does not have; its "
        f"header promises {float(promised):.3f} s"
    )


def _timed(
    packets: Iterable["av.Packet[Any]"],
) -> Iterator[tuple[float, int, "av.Packet[Any]"]]:
    last = float("-inf")
    numbers = count()
    for packet in packets:
        stamp = packet.dts if packet.dts is not None else packet.pts
        last = last if stamp is None else max(last, float(stamp * packet.time_base))
        yield last, next(numbers), packet


def _lost_metadata(path: Path, source: VideoReader) -> list[str]:
    """Keys of the input's metadata that the output does not have."""
    with source.opened() as (opened, _), av.open(path.absolute()) as written:
        here = {key.lower() for key in written.metadata}
        lost = [
            key
            for key in opened.metadata
            if key.lower() not in OF_THE_FILE and key.lower() not in here
        ]
    return [f"metadata {', '.join(map(shown_name, sorted(lost)))}: not held"] if lost else []


def lineage_of(path: Path) -> str:
    """The comment in a file's metadata; "" where it has none or is no video."""
    try:
        with VideoReader(path).opened() as (container, _):
            return next((v for k, v in container.metadata.items() if k.lower() == "comment"), "")
    except VideoError:
        return ""
