"""Septuplets cut from any video files, within scenes, train and test from different segments.

Every video is read twice: once to find its scenes, once to write the clips. A clip is seven
frames of one scene that no other clip uses. Frames are scaled down until they just cover the
clip's size and cut to it around the centre, as Vimeo-90K was made; nothing is ever enlarged.
"""

import csv
import io
import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import SourceError
from stvsr.core.files import write_text_whole
from stvsr.core.progress import progress
from stvsr.core.workers import available_cores
from stvsr.data.clips.layout import (
    FRAMES,
    SPLITS,
    LeftOut,
    SourceRecord,
    Split,
    clip_name,
    frame_path,
    split_list,
    spread,
    write_clip_list,
    write_record,
)
from stvsr.data.sources.scenes import THUMBNAIL, CutDetector, shift
from stvsr.data.sources.septuplets import Plan, plan_clips, span

UInt8Image = NDArray[np.uint8]

logger = logging.getLogger(__name__)

SUFFIXES = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
"""Files of a folder that are taken for videos; a single file may have any name."""

FIRST_FOLDER: dict[Split, int] = {"train": 1, "test": 50001}

BLACK_LEVEL = 16
"""A clip is black if hardly any pixel (1 %) is brighter than this, of 255."""

STILL_LEVEL = 4.0
"""A clip is still if hardly any pixel (1 %) ever differs by this much from what it is in the
first frame, after a 5x5 mean that takes away the noise."""

FADE_SHIFT = 0.5
"""A clip crosses a fade or a dissolve if this share of its pixels changes its grey from the first
frame to the last; a hard cut is found before that."""


@dataclass(frozen=True)
class CutConfig:
    """How videos are cut.

    Attributes:
        size: width and height of the clips.
        frame_step: a clip takes every so many-th frame.
        test_share: share of each video, at its end, that is for testing.
        train_clips: at most so many clips for training, spread evenly; None: all there are.
        test_clips: the same for testing.
    """

    size: tuple[int, int]
    frame_step: int
    test_share: float
    train_clips: int | None
    test_clips: int | None


@dataclass
class _Video:
    """A video while it is worked on."""

    path: Path
    name: str
    size: tuple[int, int]
    expected: int
    scenes: CutDetector = field(default_factory=CutDetector)
    damage: str = ""
    interlaced: int = 0
    plan: Plan = field(default_factory=lambda: Plan((), ()))


@dataclass(frozen=True)
class _Cut:
    """One clip to write."""

    clip: str
    split: Split
    video: _Video
    first: int


def cut_videos(source: Path, config: CutConfig, out: Path) -> SourceRecord:
    """Cut the videos of a file or a folder into clips, written to the empty folder `out`.

    Beside the layout of `stvsr.data.clips.layout` it holds `clips.csv`: which clip is from where.

    Left out, counted and named in the record: files that are no video or hold no frame, videos
    smaller than the clips, interlaced ones, and clips that are black, still, or cross a fade.

    Args:
        source: a video, or a folder that is searched to any depth.
        config: how videos are cut.
        out: where clips, lists and record are written.

    Raises:
        SourceError: no video is found, or nothing can be cut from any of them for training or
            for testing; the text has the reason for each.
    """
    left_out: list[LeftOut] = []
    videos = _probe(_find(source), source, config, left_out)
    _read_scenes(videos)
    videos = _plan(videos, config, left_out)
    written = _write_clips(_choose(videos, config), config, out, left_out)
    _check_enough(written, source, left_out)

    for split in SPLITS:
        names = [cut.clip for cut in written if cut.split == split]
        write_clip_list(split_list(out, split), names)
    _write_origins(written, config, out)
    record = _record(videos, written, config, left_out)
    write_record(out, record)
    for item in left_out:
        logger.warning("%s is left out: %s", item.what, item.why)
    return record


# --- finding and opening


def _find(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    files = sorted(path for path in source.rglob("*") if path.is_file())
    videos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not videos:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in files).most_common(4)
        found = ", ".join(f"{count} {suffix}" for suffix, count in kinds) or "nothing"
        raise SourceError(
            f"source.path: {source} holds no video (found: {found}); allowed are files with "
            f"the suffixes {', '.join(sorted(SUFFIXES))}"
        )
    return videos


def _probe(
    paths: Sequence[Path], source: Path, config: CutConfig, left_out: list[LeftOut]
) -> list[_Video]:
    """Open every file; what cannot serve is left out."""
    videos = []
    for path in paths:
        name = path.name if path == source else path.relative_to(source).as_posix()
        try:
            video = _open(path, name)
        except _UnfitError as fault:
            left_out.append(LeftOut(what=name, why=str(fault)))
            continue
        width, height = video.size
        if width < config.size[0] or height < config.size[1]:
            need = f"{config.size[0]}x{config.size[1]}"
            why = f"{width}x{height} pixels, less than source.size {need}; nothing is enlarged"
            left_out.append(LeftOut(what=name, why=why))
            continue
        videos.append(video)
    return videos


class _UnfitError(Exception):
    """Reason why a file cannot be used; it never leaves this module."""


def _open(path: Path, name: str) -> _Video:
    """Read a video's first frame and an estimate of its length."""
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise _UnfitError("no video stream")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise _UnfitError("no frame can be decoded")
            seconds = (container.duration or 0) / av.time_base
            expected = stream.frames or round(seconds * float(stream.average_rate or 25))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _UnfitError(f"not a readable video ({_reason(error)})") from None
    height, width = (first.height, first.width)
    size = (height, width) if first.rotation % 180 else (width, height)
    return _Video(path, name, size, max(expected, 1))


def _frames(video: _Video, stop: int | None = None) -> Iterator[VideoFrame]:
    """The frames in order, before frame `stop`; damage ends them and is noted in the video."""
    count = 0
    try:
        with av.open(video.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if stop is not None and count >= stop:
                    return
                yield frame
                count += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        video.damage = f"damaged after frame {count} ({_reason(error)})"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


# --- planning


def _read_scenes(videos: Sequence[_Video]) -> None:
    """Find every video's scene cuts, and count its interlaced frames."""
    total = sum(video.expected for video in videos)
    frames = ((video, frame) for video in videos for frame in _frames(video))
    for video, frame in progress(frames, total, "finding scenes"):
        small = frame.reformat(*THUMBNAIL, "bgr24", interpolation=Interpolation.AREA)
        video.scenes.add(np.asarray(small.to_ndarray(), np.uint8))
        video.interlaced += frame.interlaced_frame


def _plan(videos: list[_Video], config: CutConfig, left_out: list[LeftOut]) -> list[_Video]:
    """Decide each video's clips; videos that give none are left out."""
    planned = []
    for video in videos:
        count = video.scenes.frames
        if video.damage:
            left_out.append(LeftOut(what=f"{video.name} from frame {count}", why=video.damage))
        if 2 * video.interlaced > count:
            why = "interlaced; convert it to progressive frames first"
            left_out.append(LeftOut(what=video.name, why=why))
            continue
        video.plan = plan_clips(count, video.scenes.cuts, config.frame_step, config.test_share)
        if not (video.plan.train or video.plan.test):
            need = span(config.frame_step)
            why = f"{count} frames, no scene of the {need} that a clip spans"
            left_out.append(LeftOut(what=video.name, why=why))
            continue
        planned.append(video)
    _give_test_a_video(planned)
    return planned


def _give_test_a_video(videos: list[_Video]) -> None:
    """Take the shortest video whole for testing where none is long enough to be split."""
    if len(videos) < 2 or any(video.plan.test for video in videos):
        return
    shortest = min(videos, key=lambda video: len(video.plan.train))
    shortest.plan = Plan((), shortest.plan.train)


def _choose(videos: Sequence[_Video], config: CutConfig) -> list[_Cut]:
    """The clips to write, named, in the order in which the videos will be read."""
    chosen = []
    most = {"train": config.train_clips, "test": config.test_clips}
    for split in SPLITS:
        everything = [
            (video, first)
            for video in videos
            for first in (video.plan.train if split == "train" else video.plan.test)
        ]
        chosen += [
            _Cut(clip_name(FIRST_FOLDER[split], number), split, video, first)
            for number, (video, first) in enumerate(spread(everything, most[split]))
        ]
    order = {id(video): number for number, video in enumerate(videos)}
    return sorted(chosen, key=lambda cut: (order[id(cut.video)], cut.first))


# --- writing


def _write_clips(
    cuts: Sequence[_Cut], config: CutConfig, out: Path, left_out: list[LeftOut]
) -> list[_Cut]:
    """Read the videos again and write the clips that show something; return those."""
    written = []
    with ThreadPoolExecutor(available_cores()) as pool:
        waiting: deque[Future[None]] = deque()
        for cut, frames in progress(_pictures(cuts, config), len(cuts), "cutting clips"):
            if fault := _fault(frames):
                what = f"{cut.video.name}, frame {cut.first} on"
                left_out.append(LeftOut(what=what, why=fault))
                continue
            written.append(cut)
            waiting.append(pool.submit(_write_clip, out, cut.clip, frames))
            if len(waiting) > 2 * available_cores():
                waiting.popleft().result()
        for job in waiting:
            job.result()
    return written


def _pictures(cuts: Sequence[_Cut], config: CutConfig) -> Iterator[tuple[_Cut, list[UInt8Image]]]:
    """Each clip with its seven frames (H, W, 3) RGB."""
    for video in dict.fromkeys(id(cut.video) for cut in cuts):
        of_video = deque(cut for cut in cuts if id(cut.video) == video)
        length, frames = span(config.frame_step), list[UInt8Image]()
        stop = of_video[-1].first + length
        for number, frame in enumerate(_frames(of_video[0].video, stop)):
            offset = number - of_video[0].first
            if offset >= 0 and offset % config.frame_step == 0:
                frames.append(_fitted(frame, config.size))
            if len(frames) == SEPTUPLET:
                yield of_video.popleft(), frames
                frames = []


def _fitted(frame: VideoFrame, size: tuple[int, int]) -> UInt8Image:
    """Scale a frame down until it just covers `size`, and cut it to it around the centre."""
    image = Image.fromarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
    scale = max(size[0] / image.width, size[1] / image.height)
    width = max(size[0], round(image.width * scale))
    height = max(size[1], round(image.height * scale))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    return np.asarray(image.crop((left, top, left + size[0], top + size[1])))


def _fault(frames: Sequence[UInt8Image]) -> str:
    """Why a clip shows nothing to learn from; "" if it does."""
    greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    if max(float(np.percentile(grey, 99)) for grey in greys) <= BLACK_LEVEL:
        return "black"
    smooth = [cv2.blur(grey, (5, 5)).astype(np.int16) for grey in greys]
    moved = np.max([np.abs(grey - smooth[0]) for grey in smooth[1:]], axis=0)
    if float(np.percentile(moved, 99)) < STILL_LEVEL:
        return "nothing moves"
    if shift(greys[0], greys[-1]) > FADE_SHIFT:
        return "a fade or a dissolve"
    return ""


def _write_clip(out: Path, clip: str, frames: Sequence[UInt8Image]) -> None:
    frame_path(out, clip, 1).parent.mkdir(parents=True)
    for number, frame in zip(FRAMES, frames, strict=True):
        Image.fromarray(frame).save(frame_path(out, clip, number), "PNG", compress_level=3)


def _check_enough(written: Sequence[_Cut], source: Path, left_out: Sequence[LeftOut]) -> None:
    counts = Counter(cut.split for cut in written)
    missing = [split for split in SPLITS if not counts[split]]
    if not missing:
        return
    shown = "".join(f"; {item.what}: {item.why}" for item in left_out[:10])
    more = f"; … {len(left_out)} in all" if len(left_out) > 10 else ""
    raise SourceError(
        f"source.path: {source} gives {counts['train']} clips for training and {counts['test']} "
        f"for testing; at least one of each is needed: add videos or longer ones, or lower "
        f"source.size{shown}{more}"
    )


# --- telling


def _write_origins(written: Sequence[_Cut], config: CutConfig, out: Path) -> None:
    """Write `clips.csv`: clip, split, video, first frame (from 0), step between frames."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["clip", "split", "video", "first_frame", "frame_step"])
    for cut in sorted(written, key=lambda cut: cut.clip):
        table.writerow([cut.clip, cut.split, cut.video.name, cut.first, config.frame_step])
    write_text_whole(out / "clips.csv", text.getvalue())


def _record(
    videos: Sequence[_Video],
    written: Sequence[_Cut],
    config: CutConfig,
    left_out: Sequence[LeftOut],
) -> SourceRecord:
    counts = Counter(cut.split for cut in written)
    per_video = Counter((id(cut.video), cut.split) for cut in written)
    about = {
        video.name: (
            f"{video.size[0]}x{video.size[1]}, {video.scenes.frames} frames, "
            f"scenes: {len(video.scenes.cuts) + 1}; clips for training: "
            f"{per_video[id(video), 'train']}, for testing: {per_video[id(video), 'test']}"
        )
        for video in videos
    }
    rate = "every frame" if config.frame_step == 1 else f"one frame of {config.frame_step}"
    size = f"{config.size[0]}x{config.size[1]}, {rate}"
    return SourceRecord(
        kind="videos",
        train_clips=counts["train"],
        test_clips=counts["test"],
        provenance={"clips": size, **about},
        left_out=tuple(left_out),
    )
