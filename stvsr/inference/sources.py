"""Sources to upscale: a video or numbered images, with the times and coding of its frames."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from stvsr.core.errors import InputError
from stvsr.core.files import MIB, open_regular
from stvsr.core.progress import progress
from stvsr.video.coding import Coding, Plane, to_rgb
from stvsr.video.color import HDR
from stvsr.video.geometry import Geometry, upright
from stvsr.video.images import check_sizes, find_images, is_pattern, read_image
from stvsr.video.mux import Span
from stvsr.video.reader import (
    DAMAGED,
    INTERLACED,
    TURNED,
    UNTIMED,
    Frame,
    VideoReader,
    shown_name,
)
from stvsr.video.scans import CodedScan
from stvsr.video.segments import REPEATED, ScannedFrame

logger = logging.getLogger(__name__)

DEFAULT_RATE = Fraction(25)
"""Frames per second of images."""

MARGIN = Fraction(2)
"""Seconds that are read beyond `--end`, so that what follows the last frame is known."""

REMEDIES = {
    INTERLACED: "such as by `ffmpeg -i INPUT -vf bwdif OUTPUT`",
    UNTIMED: "write it anew with time stamps, such as by `ffmpeg -fflags +genpts -i INPUT -c copy "
    "OUTPUT.mkv`",
    TURNED: "turn it upright first",
}


@dataclass(frozen=True)
class Source:
    """Frames with their times.

    Attributes:
        name: as messages have it.
        size: width and height of the frames that `frames` gives.
        coding: of the samples.
        aspect: width of a pixel over its height.
        times: of the frames, in seconds from the output's 0; rising.
        end: when the last one ends.
        frames: reads them: RGB (3, H, W), float32 in [0, 1].
        state: of the input's files now, which differs if they change.
        opened: their state before they were first read.
        notes: what a user should know, in words.
        turned: how the frames are turned for display; None where they are upright.
        reader: of a video, whose other streams are copied; None for images.
        span: part of the video.
    """

    name: str
    size: tuple[int, int]
    coding: Coding
    aspect: Fraction
    times: Sequence[Fraction]
    end: Fraction
    frames: Callable[[], Iterator[Plane]]
    state: Callable[[], str]
    opened: str
    notes: list[str] = field(default_factory=list)
    turned: Geometry | None = None
    reader: VideoReader | None = None
    span: Span = field(default_factory=Span)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        duration = self.end - self.times[0]
        return len(self.times) / duration if duration > 0 else DEFAULT_RATE


def open_source(
    given: str,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    rate: Fraction | None = None,
    keeps_turn: bool = False,
) -> Source:
    """Open a video, a folder of numbered images or a pattern such as FOLDER/f_%04d.png.

    Args:
        given: path or pattern.
        start: seconds from the beginning; frames before it are left out.
        end: seconds from the beginning; frames from it on are left out.
        rate: frames per second of images.
        keeps_turn: the output can say how frames are turned; otherwise they are turned upright.

    Raises:
        InputError, VideoError: the input cannot be upscaled; the text has the reason and a remedy.
    """
    path = Path(given)
    if path.is_dir() or (is_pattern(path.name) and not path.exists()):
        return _open_images(given, start, end, rate)
    if rate is not None:
        raise InputError("--rate: found a video, which has times of its own; leave the option out")
    return _open_video(path, start, end, keeps_turn)


# --- images


def _open_images(
    given: str, start: Fraction | None, end: Fraction | None, rate: Fraction | None
) -> Source:
    paths = find_images(given)
    step = 1 / (rate or DEFAULT_RATE)
    first = 0 if start is None else -int(-start // step)
    last = len(paths) if end is None else -int(-end // step)
    chosen = paths[max(first, 0) : max(last, 0)]
    if not chosen:
        raise _no_frames(given, len(paths) * step)

    def state() -> str:
        return _digest(*map(_file_state, chosen))

    opened = state()
    check_sizes(chosen)
    rgb, coding, aspect = read_image(chosen[0])
    for path in chosen[1:]:  # bits may differ from image to image: what is deepest decides
        if coding.bits > 8:
            break
        if path.suffix.lower() in (".png", ".tif", ".tiff"):
            coding = replace(coding, bits=max(coding.bits, read_image(path)[1].bits))
    times = [at * step for at in range(len(chosen))]
    notes = [] if rate else [f"images have no times: {DEFAULT_RATE} frames/s (--rate sets it)"]
    return Source(
        name=shown_name(given),
        size=(rgb.shape[2], rgb.shape[1]),
        coding=coding,
        aspect=aspect,
        times=times,
        end=len(chosen) * step,
        frames=lambda: _images(chosen, rgb.shape),
        state=state,
        opened=opened,
        notes=notes + _coding_notes(coding),
    )


def _images(paths: Sequence[Path], shape: tuple[int, ...]) -> Iterator[Plane]:
    for path in paths:
        rgb, _, _ = read_image(path)
        if rgb.shape != shape:
            raise InputError(f"{shown_name(path)}: found another size than the first image's")
        yield np.clip(rgb, 0, 1)


# --- video


def _open_video(
    path: Path, start: Fraction | None, end: Fraction | None, keeps_turn: bool
) -> Source:
    reader = VideoReader(path)
    opened = _file_state(path)
    origin, codec = _origin(reader)
    scan = CodedScan(codec)
    shown = progress(reader.scan(scan), reader.expected, "reading")
    for _, frame in shown:
        time = frame.time
        if end is not None and time is not None and Fraction(time) - origin > end + MARGIN:
            scan.finish()
            break
    part = _choose(reader, scan, origin, start, end)
    first = scan.frames[part.start]
    if first.geometry is None or first.time is None:
        raise AssertionError("checked by _choose")
    coding, geometry = scan.codings[part.start], first.geometry
    begin = min(origin, first.time) if start is None else first.time
    times = [frame.time - begin for frame in part.frames(scan) if frame.time is not None]
    is_kept = keeps_turn and geometry.is_turned
    is_part = start is not None or end is not None or part.is_cut
    width, height = (geometry.width, geometry.height) if is_kept else geometry.shape

    def frames() -> Iterator[Plane]:
        wanted = frozenset({"", REPEATED})
        for frame in reader.frames(scan, part.stop, faults=wanted):
            if frame.number >= part.start:
                rgb = np.clip(_rgb(reader.path, frame, coding), 0, 1)
                yield rgb if is_kept else upright(rgb, geometry)

    return Source(
        name=shown_name(path),
        size=(width, height),
        coding=coding,
        aspect=geometry.aspect if is_kept else geometry.upright_aspect,
        times=times,
        end=part.end - begin,
        frames=frames,
        state=lambda: _file_state(path),
        opened=opened,
        notes=[*filter(None, [reader.choice, *part.notes]), *_coding_notes(coding)],
        turned=geometry if is_kept else None,
        reader=reader,
        span=Span(begin, None if start is None else first.time, part.end if is_part else None),
    )


def _rgb(path: Path, frame: Frame, coding: Coding) -> Plane:
    try:
        return to_rgb(frame.decoded, coding)
    except (ValueError, OSError) as error:
        raise InputError(f"{shown_name(path)}: frame {frame.number}: {error}") from None


def _origin(reader: VideoReader) -> tuple[Fraction, str]:
    """When the file begins to be shown, on its own clock, and the video's codec."""
    with reader.opened() as (container, stream):
        starts = [
            Fraction(other.start_time * other.time_base)
            for other in container.streams
            if other.start_time is not None and other.time_base and other.type != "attachment"
        ]
        return max(min(starts, default=Fraction(0)), Fraction(0)), stream.codec_context.name


@dataclass(frozen=True)
class _Part:
    """The frames that are used: numbers from start to before stop.

    Attributes:
        start: number of the first one.
        stop: number after that of the last one.
        end: when the last one ends, on the stream's clock.
        notes: what was left out.
        is_cut: damage ends it.
    """

    start: int
    stop: int
    end: Fraction
    notes: list[str]
    is_cut: bool

    def frames(self, scan: CodedScan) -> Sequence[ScannedFrame]:
        return scan.frames[self.start : self.stop]


def _choose(
    reader: VideoReader,
    scan: CodedScan,
    origin: Fraction,
    start: Fraction | None,
    end: Fraction | None,
) -> _Part:
    """The frames from `start` to `end`, up to the first damage.

    Raises:
        InputError: there are none, or they cannot be upscaled.
    """
    name = shown_name(reader.path)
    frames = scan.frames
    if not frames:
        raise InputError(f"{name}: no frame can be decoded ({scan.damage or 'damaged'})")
    known = [frame.time for frame in frames if frame.time is not None]
    low = min(known, default=origin) if start is None else origin + start
    high = None if end is None else origin + end
    inside = [
        at
        for at, frame in enumerate(frames)
        if frame.time is None or (frame.time >= low and (high is None or frame.time < high))
    ]
    if not inside:
        raise _no_frames(name, max(known, default=origin) - origin)
    first, stop = inside[0], inside[-1] + 1
    notes: list[str] = []
    while first < stop and frames[first].fault == DAMAGED:
        first += 1
    if first == stop:
        raise InputError(f"{name}: every frame in this part is damaged; fetch the file again")
    if first > inside[0]:
        notes.append(f"damaged at its beginning: starts at {_at(frames[first], origin)}")
    cut = _first_damage(scan, first, stop)
    is_cut = cut < stop
    if is_cut:
        good = [at for at in range(cut + 1, stop) if _is_good_after(frames[at], frames[cut])]
        later = f"; --start {_seconds(frames[good[0]], origin)} takes up after it" if good else ""
        notes.append(
            f"damaged at {_at(frames[cut], origin)}: kept up to there, {cut - first} frames{later}"
        )
        stop = cut
    elif scan.damage:
        is_cut = True
        notes.append(f"breaks off ({scan.damage}): kept up to there, {stop - first} frames")
    elif end is None and stop < 0.9 * reader.expected:
        notes.append(
            f"its header promises about {reader.expected} frames, and {stop} are there: "
            "the file may have been cut short"
        )
    _refuse_faults(name, scan, first, stop, origin)
    return _Part(first, stop, _end(scan, first, stop), notes, is_cut)


def _is_good_after(frame: ScannedFrame, cut: ScannedFrame) -> bool:
    is_later = frame.time is not None and cut.time is not None and frame.time > cut.time
    return frame.fault in ("", REPEATED) and is_later


def _first_damage(scan: CodedScan, first: int, stop: int) -> int:
    """Number of the first frame from which something is damaged or lost; `stop` if nothing is."""
    begin = scan.frames[first].time
    lost = [time for time in scan.damage_times if begin is not None and time > begin]
    for at in range(first, stop):
        frame = scan.frames[at]
        is_after = bool(lost) and frame.time is not None and frame.time >= lost[0]
        if frame.fault == DAMAGED or is_after:
            return at
    return stop


def _refuse_faults(name: str, scan: CodedScan, first: int, stop: int, origin: Fraction) -> None:
    frames = scan.frames
    begin = frames[first]
    for at in range(first, stop):
        frame = frames[at]
        fault = frame.fault if frame.fault != REPEATED else ""
        fault = fault or (UNTIMED if frame.time is None else "")
        if fault:
            remedy = REMEDIES.get(fault, "")
            raise InputError(f"{name}: frame {at} is {_said(fault)}", remedy=remedy)
        parts = "upscale each part on its own, with --start and --end"
        if frame.geometry != begin.geometry:
            raise InputError(
                f"{name}: the picture changes at {_at(frame, origin)}, from "
                f"{_shown_size(begin.geometry)} to {_shown_size(frame.geometry)}; {parts}"
            )
        if scan.codings[at] != scan.codings[first]:
            raise InputError(
                f"{name}: the coding of color changes at {_at(frame, origin)}; {parts}"
            )
    for at in range(first + 1, stop):
        before, after = frames[at - 1].time, frames[at].time
        if before is not None and after is not None and after <= before:
            raise InputError(
                f"{name}: time stamps do not rise: frame {at} follows {float(before):.3f} s with "
                f"{float(after):.3f} s",
                remedy=REMEDIES[UNTIMED],
            )


def _said(fault: str) -> str:
    return f"in {fault}" if fault.startswith("HDR") else fault


def _end(scan: CodedScan, first: int, stop: int) -> Fraction:
    """When the last frame ends: when the next one begins, or by its duration, or by the rate."""
    times = [frame.time for frame in scan.frames[first:stop] if frame.time is not None]
    following = scan.frames[stop].time if stop < len(scan.frames) else None
    if following is not None and following > times[-1]:
        return following
    steps = [b - a for a, b in pairwise(times)]
    duration = scan.duration(stop - 1)
    if duration <= 0:
        duration = median(steps) if steps else 1 / DEFAULT_RATE
    return times[-1] + duration


def _coding_notes(coding: Coding) -> list[str]:
    notes = [coding.guessed] if coding.guessed else []
    if coding.transfer in HDR:
        notes.append(f"HDR ({HDR[coding.transfer]}): passed through in its own transfer")
    return notes


def _no_frames(name: str, length: Fraction) -> InputError:
    return InputError(
        f"{name}: found no frame between --start and --end; it is {float(length):.3f} s long"
    )


def _seconds(frame: ScannedFrame, origin: Fraction) -> str:
    return "?" if frame.time is None else f"{float(frame.time - origin):.3f}"


def _at(frame: ScannedFrame, origin: Fraction) -> str:
    return f"{_seconds(frame, origin)} s"


def _shown_size(geometry: Geometry | None) -> str:
    return "?" if geometry is None else f"{geometry.shape[0]}x{geometry.shape[1]} pixels"


def _file_state(path: Path) -> str:
    """Size, time of change and a hash of the beginning and the end of a file."""
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        ends = hashlib.sha256(file.read(MIB))
        file.seek(max(0, found.st_size - MIB))
        ends.update(file.read(MIB))
    return f"{found.st_size} {found.st_mtime_ns} {ends.hexdigest()}"


def _digest(*states: str) -> str:
    return hashlib.sha256("\n".join(states).encode()).hexdigest()
