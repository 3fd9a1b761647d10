"""Decoding with times: which frames of a video file can be trusted, and when each is shown.

A video is read twice. `VideoReader.scan` decodes every frame once and finds what is wrong with
it; `VideoReader.frames` decodes again, and numbers the frames alike. Two passes are needed because
a frame may be predicted from a damaged one that is shown, and so decoded, later.

Only demuxers of single media files are allowed, and a file is read through its own descriptor: no
playlist or image pattern makes the reader open another file or an address.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from stvsr.core.errors import StvsrError
from stvsr.core.image import UInt8Image
from stvsr.video.color import color_fault, luma, to_rgb
from stvsr.video.geometry import Geometry, with_display_matrix
from stvsr.video.repeats import AHEAD, Changes
from stvsr.video.segments import REPEATED, ScannedFrame

DEMUXERS = (
    *("asf", "av1", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mov"),
    *(
        "mpeg",
        "mpegts",
        "mpegvideo",
        "mxf",
        "nut",
        "obu",
        "ogg",
        "rm",
        "vc1",
        "vvc",
        "yuv4mpegpipe",
    ),
)
"""Formats of which one file is the whole video."""

DAMAGED = "damaged, or predicted from what is damaged"
INTERLACED = "interlaced: convert it to progressive frames first"
UNTIMED = "without a time stamp"
TURNED = "turned by an angle that is no multiple of 90 degrees"

DEFAULT_RATE = 25
"""Frames per second of a stream that says nothing of them, as players have it."""

_BUFFER = 2**20

_Threads = Literal["AUTO", "NONE"]


class VideoError(StvsrError):
    """A file that cannot be read as a video; `reason` is the text without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{shown_name(path)}: {reason}")


@dataclass(frozen=True)
class Frame:
    """A frame of the second pass: its number (from 0, as in the scan) and its pixels."""

    number: int
    decoded: av.VideoFrame
    geometry: Geometry

    def rgb(self) -> UInt8Image:
        """Upright 8-bit RGB (H, W, 3); pixels keep their aspect."""
        return self.geometry.upright(to_rgb(self.decoded))


class VideoReader:
    """A video file, opened anew for every pass.

    Attributes:
        path: the file.
        expected: number of frames that its header promises, an estimate.
        choice: how the stream was chosen where there was a choice; "" otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and look at its header.

        Raises:
            VideoError: it is no regular file, no video, or holds no video stream.
        """
        self.path = path
        with self.opened() as (container, stream):
            seconds = (container.duration or 0) / av.time_base
            rate = float(stream.average_rate or DEFAULT_RATE)
            expected = stream.frames or round(seconds * rate)
            self.expected = max(expected, 1)
            self.choice = _choice(container, stream)

    def scan(self, scan: "Scan") -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode every frame once, and note in `scan` what is found; complete at the end.

        A file that breaks off ends the pass; `Scan.damage` then has the reason.

        Yields:
            Number and frame, of those that repeat no other and have no fault of their own.
        """
        waiting: deque[av.VideoFrame] = deque()
        number = 0
        for frame in self._decoded(scan):
            scan.add(frame)
            waiting.append(frame)
            if len(waiting) > AHEAD:
                decided = waiting.popleft()
                if scan.is_new(number):
                    yield number, decided
                number += 1
        for at, frame in enumerate(waiting, start=number):
            if scan.is_new(at):
                yield at, frame
        scan.finish()

    def first_geometry(self) -> Geometry | None:
        """Geometry of the first frame that can be decoded and shown; None where none can."""
        scan = Scan()
        shown = (geometry_of(frame, scan.aspect) for frame in self._decoded(scan))
        return next((geometry for geometry in shown if geometry is not None), None)

    def frames(
        self, scanned: "Scan", stop: int, *, faults: Set[str] = frozenset({""})
    ) -> Iterator[Frame]:
        """Decode again; yield the frames before number `stop` that have nothing wrong with them.

        Args:
            scanned: what the first pass has found.
            stop: number after that of the last frame that is wanted.
            faults: faults with which a frame is wanted; "" stands for none.
        """
        stop = min(stop, len(scanned.frames))
        threads: _Threads = "AUTO" if scanned.is_clean else "NONE"
        for number, decoded in enumerate(self._decoded(Scan(), threads)):
            if number >= stop:
                return
            found = scanned.frames[number]
            if found.fault in faults and found.geometry is not None:
                yield Frame(number, decoded, found.geometry)

    def _decoded(self, scan: "Scan", threads: _Threads = "NONE") -> Iterator[av.VideoFrame]:
        """Decode all packets; a file that breaks off ends it, and `scan.damage` has the reason."""
        try:
            with self.opened() as (container, stream):
                # With threads, an error is reported with another packet than its own.
                stream.thread_type = threads
                for packet in container.demux(stream):
                    yield from scan.decode(packet)
        except VideoError as error:
            scan.damage = error.reason
        except (av.FFmpegError, OSError, ValueError) as error:
            scan.damage = _reason(error)

    @contextmanager
    def opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The container and its video stream.

        Raises:
            VideoError: the file cannot be opened as a video.
        """
        with open_regular(self.path) as file:
            try:
                container = av.open(
                    file,
                    "r",
                    buffer_size=_BUFFER,
                    container_options={"format_whitelist": ",".join(DEMUXERS)},
                )
            except (av.FFmpegError, OSError, ValueError) as error:
                raise VideoError(self.path, f"not a readable video ({_reason(error)})") from None
            with container:
                stream = _video_stream(self.path, container)
                # An error in the bits is an error of its packet; else the decoder conceals it, and
                # marks one frame of all that are predicted from it.
                stream.codec_context.options = {"err_detect": "+crccheck+bitstream+buffer+explode"}
                yield container, stream


Stamp = tuple[int, int]
"""A time stamp that is unique in its file: how often the clock has restarted, and the stamp."""


class _Clock:
    """Tells stamps before and after a restart of a stream's clock apart."""

    def __init__(self) -> None:
        self.restarts = 0
        self._last: int | None = None

    def stamp(self, pts: int | None, order: int | None) -> Stamp | None:
        """The stamp of the next packet or frame; `order` never falls unless the clock restarts."""
        if order is not None:
            self.restarts += self._last is not None and order < self._last
            self._last = order
        return None if pts is None else (self.restarts, pts)


class _Found(NamedTuple):
    """The facts of a frame at the time it is decoded."""

    pts: int | None
    geometry: Geometry | None
    fault: str
    duration: int


class Scan:
    """The findings of one pass over a video.

    Attributes:
        frames: every frame in the order in which it is shown; known at the end.
        damage: why the file ends early; "" where it does not.
        aspect: width of a stored pixel over its height, by the stream's header.
    """

    def __init__(self, fault_of: Callable[[av.VideoFrame], str] = color_fault) -> None:
        """Begin a pass.

        Args:
            fault_of: names what is wrong with the color of a frame; "" where it can be used. It is
                called once for each frame, in their order.
        """
        self.frames: list[ScannedFrame] = []
        self.damage = ""
        self._fault_of = fault_of
        self._packets: list[tuple[Stamp | None, bool]] = []  # (stamp, is a key frame) as stored
        self._damaged: set[int] = set()  # numbers of damaged packets
        self._clock = _Clock()
        self._found: list[_Found] = []
        self._keys: set[int | None] = set()  # stamps of the frames that are decoded as key frames
        self._marked: list[int] = []  # numbers of the frames that the decoder marks
        self._changes = Changes()
        self._geometry: Geometry | None = None
        self.aspect = Fraction(1)
        self._base = Fraction(1)  # of time stamps, in seconds
        self._is_numbered = False  # the file has no time stamps; packets are numbered instead

    @property
    def is_clean(self) -> bool:
        """True if nothing is damaged."""
        return not (self._damaged or self.damage)

    @property
    def damage_times(self) -> list[Fraction]:
        """When the packets are shown that cannot be decoded, in seconds on the stream's clock."""
        stamps = [self._packets[at][0] for at in self._damaged if at < len(self._packets)]
        return sorted(stamp[1] * self._base for stamp in stamps if stamp is not None)

    def duration(self, number: int) -> Fraction:
        """How long a frame is shown by its own account, in seconds; 0 where it does not say."""
        return self._found[number].duration * self._base

    def is_new(self, number: int) -> bool:
        """True if a frame has no fault of its own and does not repeat the one before it."""
        return not self._found[number].fault and not self._changes.is_repeat(number)

    def decode(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
        """Decode one packet; a packet that cannot be decoded gives no frame."""
        number = len(self._packets)
        self.aspect = _aspect(packet.stream)
        if packet.size:
            self._take_note(packet, number)
        try:
            return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except av.EOFError:
            return []
        except (av.FFmpegError, ValueError):
            self._damaged.add(number)
            return []

    def add(self, frame: av.VideoFrame) -> None:
        """Take note of a decoded frame."""
        if frame.is_corrupt:
            self._marked.append(len(self._found))
        if frame.key_frame:
            self._keys.add(frame.pts)
        geometry = geometry_of(frame, self.aspect)
        if geometry != self._geometry:
            self._geometry = geometry  # one object for all frames that are alike
        fault = self._fault(frame, geometry)
        try:
            self._changes.add(luma(frame))
        except (OSError, ValueError):
            self._changes.add(np.zeros((1, 1), np.uint8))
            fault = fault or f"pixel format {frame.format.name}: convert it to yuv420p first"
        self._found.append(_Found(frame.pts, self._geometry, fault, int(frame.duration or 0)))

    def finish(self) -> None:
        """Date the frames, and mark what was predicted from damage and what is repeated."""
        stamps = self._frame_stamps()
        numbers = {stamp: at for at, (stamp, _) in enumerate(self._packets) if stamp is not None}
        for marked in self._marked:
            own = numbers.get(stamps[marked] or (-1, 0))
            self._damaged.add(self._key_before(marked) if own is None else own)
        tainted = self._tainted()
        is_lost = bool(tainted) and not set(stamps) <= {*numbers, None}
        unsure = self._unsure(stamps, tainted)
        for at, (time, stamp) in enumerate(zip(self._times(), stamps, strict=True)):
            fault = self._found[at].fault
            if not fault and (time is None or stamp in unsure):
                fault = UNTIMED
            if tainted and (is_lost or stamp is None or stamp in tainted):
                fault = DAMAGED
            elif not fault and self._changes.is_repeat(at):
                fault = REPEATED
            self.frames.append(ScannedFrame(time, self._found[at].geometry, fault))

    def _fault(self, frame: av.VideoFrame, geometry: Geometry | None) -> str:
        color = self._fault_of(frame)
        if geometry is None:
            return TURNED
        return color or (INTERLACED if frame.interlaced_frame else "")

    def _take_note(self, packet: "av.Packet[VideoStream]", number: int) -> None:
        stream = packet.stream
        if number == 0:
            self._is_numbered = packet.pts is None and packet.dts is None
            rate = stream.average_rate or DEFAULT_RATE
            self._base = Fraction(1 / rate if self._is_numbered else stream.time_base or 1)
        if self._is_numbered:
            packet.pts = packet.dts = number
        pts = packet.pts if packet.pts is not None else packet.dts
        stamp = self._clock.stamp(pts, packet.dts)
        self._packets.append((stamp, bool(packet.is_keyframe)))
        if packet.is_corrupt:
            self._damaged.add(number)

    def _frame_stamps(self) -> list[Stamp | None]:
        if not self._clock.restarts:
            return [None if found.pts is None else (0, found.pts) for found in self._found]
        clock = _Clock()
        return [clock.stamp(found.pts, found.pts) for found in self._found]

    def _times(self) -> list[Fraction | None]:
        """Presentation times, in seconds.

        AVI and elementary streams number frames as they are stored; shown, they have the same
        times in order.
        """
        shown = [found.pts for found in self._found]
        if self._is_by_storage():
            shown = [*sorted(pts for pts in shown if pts is not None)]
        return [None if pts is None else pts * self._base for pts in shown]

    def _is_by_storage(self) -> bool:
        """True if time stamps number the frames as they are stored."""
        stored = [stamp for stamp, _ in self._packets]
        is_in_order = all(a is not None and b is not None and a < b for a, b in pairwise(stored))
        is_complete = all(found.pts is not None for found in self._found)
        return is_in_order and is_complete and not self._clock.restarts

    def _unsure(self, stamps: Sequence[Stamp | None], tainted: set[Stamp]) -> set[Stamp]:
        """Stamps of frames whose times cannot be told from their place in storage.

        Where frames are timed by storage and shown in another order, a frame that is missing shifts
        the times of those that are stored shortly before it.
        """
        if not self._is_by_storage():
            return set()
        shown = {stamp: at for at, stamp in enumerate(sorted(filter(None, stamps)))}
        depth = max((abs(at - shown[s]) for at, s in enumerate(stamps) if s in shown), default=0)
        stored = [stamp for stamp, _ in self._packets if stamp is not None]
        is_present = [stamp in shown and stamp not in tainted for stamp in stored]
        step = min((b[1] - a[1] for a, b in pairwise(stored)), default=1)
        lost = [at for at, present in enumerate(is_present) if not present]
        lost += [at + 1 for at, (a, b) in enumerate(pairwise(stored)) if b[1] - a[1] > step]
        near = {at for end in lost for at in range(max(0, end - depth), end)}
        return {stored[at] for at in near}

    def _tainted(self) -> set[Stamp]:
        """Time stamps of the packets that are damaged or may be predicted from damage."""
        tainted: set[Stamp] = set()
        is_tainted = False
        key_stamp: Stamp | None = None
        for at, (stamp, is_key) in enumerate(self._packets):
            is_key &= stamp is not None and stamp[1] in self._keys
            if is_key and at not in self._damaged:
                if is_tainted:
                    key_stamp = stamp  # frames stored after it and shown before it lean on both
                is_tainted = False
            is_tainted |= at in self._damaged
            leads = stamp is not None and key_stamp is not None and stamp < key_stamp
            if stamp is not None and (is_tainted or leads):
                tainted.add(stamp)
        return tainted

    def _key_before(self, frame: int) -> int:
        """The packet of the last key frame up to a frame whose own packet is not known."""
        keys = [at for at, (_, is_key) in enumerate(self._packets[: frame + 1]) if is_key]
        return keys[-1] if keys else 0


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without waiting for a fifo or reading a device.

    Raises:
        VideoError: it is another kind of file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise VideoError(path, f"cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoError(path, "not a regular file")
    return os.fdopen(descriptor, "rb")


def shown_name(path: Path | str) -> str:
    """A file's name as text that any file and terminal takes, whatever its bytes are."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream that players show: FFmpeg's best one that is no attached picture."""
    best = container.streams.best("video")
    candidates = [
        stream
        for stream in container.streams.video
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    if not candidates:
        raise VideoError(path, "no video stream")
    candidates = [stream for stream in candidates if stream.codec_context is not None]
    if not candidates:
        raise VideoError(path, "no video stream whose codec is known")
    if isinstance(best, VideoStream) and best in candidates:
        return best
    return max(candidates, key=lambda stream: (stream.width or 0) * (stream.height or 0))


def _choice(container: InputContainer, stream: VideoStream) -> str:
    others = len(container.streams.video) - 1
    return f"video stream {stream.index} of {others + 1}" if others else ""


def _aspect(stream: VideoStream) -> Fraction:
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return Fraction(ratio) if ratio else Fraction(1)


def geometry_of(frame: av.VideoFrame, aspect: Fraction) -> Geometry | None:
    """How a frame is shown; None where it is turned by an angle that is no multiple of 90 degrees.

    Args:
        frame: as it was decoded.
        aspect: width of a stored pixel over its height.
    """
    geometry = Geometry(frame.width, frame.height, aspect)
    side_data = cast(SideDataContainer, frame.side_data)  # PyAV's stub has another type
    matrices = [item for item in side_data if item.type == SideDataType.DISPLAYMATRIX]
    return with_display_matrix(geometry, bytes(matrices[0])) if matrices else geometry


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())
