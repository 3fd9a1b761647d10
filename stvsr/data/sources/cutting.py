"""Septuplets cut from any video, within segments, train and test from different parts.

A video is a file (`stvsr.data.sources.videos`) or a folder of images (`stvsr.data.sources.frames`).
Each is read twice: once to find its segments, once to write the clips. A clip is seven frames of
one segment that no other clip uses. Frames are scaled down until they just cover the clip's size
and cut to it around the centre, as Vimeo-90K was made; nothing is ever enlarged.
"""

import csv
import io
import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
from PIL import Image

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import SourceError
from stvsr.core.escape import csv_cell
from stvsr.core.files import is_side_file, write_text_whole
from stvsr.core.image import UInt8Image
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
from stvsr.data.sources.scenes import AHEAD, CutDetector, shift
from stvsr.data.sources.septuplets import FrameNumbers, Plan, plan_clips, span
from stvsr.video.reader import shown_name
from stvsr.video.segments import (
    REPEATED,
    SCENE_CUT,
    UNEVEN,
    ScannedFrame,
    Segment,
    segments,
)

logger = logging.getLogger(__name__)

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


class Video(Protocol):
    """A file or folder that clips are cut from.

    Attributes:
        name: in messages and in `clips.csv`.
        expected: number of frames, an estimate.
        note: what was chosen where there was a choice; "" otherwise.
        damage: why it ends early, known after the scan; "" where it does not.
    """

    name: str
    expected: int
    note: str
    damage: str

    @property
    def frames(self) -> Sequence[ScannedFrame]:
        """The scan's findings."""

    def place(self, number: int) -> str:
        """Where frame `number` is, in words."""

    def scan(self) -> Iterator[tuple[int, UInt8Image]]:
        """Read every frame; yield number and thumbnail of those that repeat no other."""

    def read(self, numbers: Sequence[int]) -> Iterator[UInt8Image]:
        """Read again; yield the frames of these numbers, in order, upright RGB (H, W, 3)."""


@dataclass
class SegmentedVideo:
    """A video with its scene cuts and segments, which are known once `find_segments` has read it.

    Attributes:
        video: what is read.
        scenes: numbers of the frames at which a scene begins; 0 is not among them.
        segments: of one scene and size, at even steps of time.
    """

    video: Video
    scenes: set[int] = field(default_factory=set)
    segments: list[Segment] = field(default_factory=list)


@dataclass
class _Work(SegmentedVideo):
    """A video while it is cut into clips."""

    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class _Cut:
    """One clip to write."""

    clip: str
    split: Split
    video: Video
    frames: FrameNumbers


def cut_into_clips(
    videos: Sequence[Video],
    kind: Literal["videos", "frames"],
    source: Path,
    config: CutConfig,
    out: Path,
    left_out: list[LeftOut],
) -> SourceRecord:
    """Cut videos into clips, written to the empty folder `out`.

    Beside the layout of `stvsr.data.clips.layout` it holds `clips.csv`: which clip is from where.

    Left out, counted and named in the record: frames with a fault, segments smaller than the clips,
    videos without a segment as long as a clip, and clips that are black, still, or cross a fade.

    Args:
        videos: what to cut.
        kind: of the source, for its record.
        source: where the videos are from, for messages.
        config: how videos are cut.
        out: where clips, lists and record are written.
        left_out: what was left out before; added to.

    Raises:
        SourceError: nothing can be cut from any of them for training or for testing; the text has
            the reason for each.
    """
    works = [_Work(video) for video in videos]
    find_segments(works)
    planned = _plan(works, config, left_out)
    written = _write_clips(_choose(planned, config), config, out, left_out)
    _check_enough(written, source, left_out)

    for split in SPLITS:
        names = [cut.clip for cut in written if cut.split == split]
        write_clip_list(split_list(out, split), names)
    _write_origins(written, config, out)
    record = _record(kind, planned, written, config, left_out)
    write_record(out, record)
    for item in left_out:
        logger.warning("%s is left out: %s", item.what, item.why)
    return record


def find_segments(videos: Sequence[SegmentedVideo]) -> None:
    """Read every video once, and find its scene cuts and segments."""
    total = sum(one.video.expected for one in videos)
    for _ in progress((None for one in videos for _ in _scan(one)), total, "finding scenes"):
        pass


def faults_of(video: Video) -> list[LeftOut]:
    """A line for each fault that frames of the video have, and for its end."""
    found: dict[str, list[int]] = {}
    for number, frame in enumerate(video.frames):
        if frame.fault:
            found.setdefault(frame.fault, []).append(number)
    lines = [LeftOut(what=_frames_of(video, numbers), why=why) for why, numbers in found.items()]
    if video.damage and video.frames:
        what = f"{video.name} from frame {len(video.frames)}"
        lines.append(LeftOut(what=what, why=f"damaged ({video.damage})"))
    return lines


def seconds(time: Fraction) -> str:
    """A time as text, to the microsecond."""
    return f"{float(time):.6f}".rstrip("0").rstrip(".")


def visible(folder: Path) -> list[Path]:
    """Everything in a folder, to any depth, but side files such as macOS's `._x.mp4` of `x.mp4`."""
    paths = sorted(folder.rglob("*"))
    return [path for path in paths if not any(map(is_side_file, path.relative_to(folder).parts))]


# --- planning


def _scan(segmented: SegmentedVideo) -> Iterator[None]:
    detector, numbers = CutDetector(), list[int]()
    for number, thumbnail in segmented.video.scan():
        detector.add(thumbnail)
        numbers.append(number)
        yield
    for _ in range(AHEAD if numbers else 0):  # a cut to a still picture at the end
        detector.add(thumbnail)
    frames = segmented.video.frames
    cuts = {numbers[cut] for cut in detector.cuts}
    segmented.scenes = {
        cut for cut in cuts if _is_usable(frames[cut]) and _is_usable(frames[cut - 1])
    }
    segmented.segments = segments(frames, segmented.scenes)


def _is_usable(frame: ScannedFrame) -> bool:
    """True where a scene cut can be trusted: damage and combing look like one."""
    return frame.fault in ("", REPEATED)


def _plan(works: Sequence[_Work], config: CutConfig, left_out: list[LeftOut]) -> list[_Work]:
    """Decide each video's clips; videos that give none are left out."""
    planned = []
    for work in works:
        left_out += faults_of(work.video)
        fit = [s for s in work.segments if _fits(work.video.frames[s.frames[0]], config.size)]
        work.plan = plan_clips(fit, config.frame_step, config.test_share)
        if work.plan.train or work.plan.test:
            left_out += _small(work, fit, config) + _uneven(work)
            planned.append(work)
        elif any(not frame.fault for frame in work.video.frames):
            left_out.append(_unfit(work, fit, config))
        elif not work.video.frames:
            why = work.video.damage or "no frame can be decoded"
            left_out.append(LeftOut(what=work.video.name, why=why))
    _give_test_a_video(planned)
    return planned


def _fits(frame: ScannedFrame, size: tuple[int, int]) -> bool:
    width, height = _square_size(frame)
    return width >= size[0] and height >= size[1]


def _square_size(frame: ScannedFrame) -> tuple[int, int]:
    """Width and height as shown, in square pixels."""
    if frame.geometry is None:
        raise ValueError("a frame without a geometry is in a segment")
    width, height = frame.geometry.square_size
    return round(width), round(height)


def _give_test_a_video(works: list[_Work]) -> None:
    """Take the shortest video whole for testing where none is long enough to be split."""
    if len(works) < 2 or any(work.plan.test for work in works):
        return
    shortest = min(works, key=lambda work: len(work.plan.train))
    shortest.plan = Plan((), shortest.plan.train)


def _choose(works: Sequence[_Work], config: CutConfig) -> list[_Cut]:
    """The clips to write, named, in the order in which the videos will be read."""
    chosen = []
    most = {"train": config.train_clips, "test": config.test_clips}
    for split in SPLITS:
        everything = [
            (work.video, frames)
            for work in works
            for frames in (work.plan.train if split == "train" else work.plan.test)
        ]
        chosen += [
            _Cut(clip_name(FIRST_FOLDER[split], number), split, video, frames)
            for number, (video, frames) in enumerate(spread(everything, most[split]))
        ]
    order = {id(work.video): number for number, work in enumerate(works)}
    return sorted(chosen, key=lambda cut: (order[id(cut.video)], cut.frames))


# --- naming what is left out


def _frames_of(video: Video, numbers: Sequence[int]) -> str:
    if len(numbers) == len(video.frames):
        return video.name
    first = video.place(numbers[0])
    return f"{video.name}, {len(numbers)} of {len(video.frames)} frames, the first {first}"


def _uneven(work: _Work) -> list[LeftOut]:
    places = [s.frames[0] for s in work.segments if s.begins == UNEVEN]
    if not places:
        return []
    first = work.video.place(places[0])
    name = f"{work.video.name}, clips across uneven steps of time"
    what = f"{name} ({len(places)}, the first before {first})"
    return [LeftOut(what=what, why="a gap, or another step than before")]


def _small(work: _Work, fit: Sequence[Segment], config: CutConfig) -> list[LeftOut]:
    small = [number for s in work.segments if s not in fit for number in s.frames]
    if not small:
        return []
    return [LeftOut(what=_frames_of(work.video, small), why=_too_small(work, small[0], config))]


def _too_small(work: _Work, number: int, config: CutConfig) -> str:
    width, height = _square_size(work.video.frames[number])
    need = f"{config.size[0]}x{config.size[1]}"
    return f"{width}x{height} pixels, less than source.size {need}; nothing is enlarged"


def _unfit(work: _Work, fit: Sequence[Segment], config: CutConfig) -> LeftOut:
    """The reason why a video that has usable frames gives no clip."""
    if not fit:
        why = _too_small(work, work.segments[0].frames[0], config)
    else:
        need = span(config.frame_step)
        breaks = _breaks(work.segments)
        why = f"{len(work.video.frames)} frames, no segment of the {need} that a clip spans{breaks}"
    return LeftOut(what=work.video.name, why=why)


def _breaks(found: Sequence[Segment]) -> str:
    """How often a segment ends, by the reason."""
    counts = Counter(segment.begins for segment in found[1:])
    parts = [f"{reason}: {count}" for reason, count in counts.most_common()]
    return f" ({', '.join(parts)})" if parts else ""


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
                what = f"{cut.video.name}, {cut.video.place(cut.frames[0])} on"
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
    for video in {id(cut.video): cut.video for cut in cuts}.values():
        of_video = deque(cut for cut in cuts if cut.video is video)
        numbers = [number for cut in of_video for number in cut.frames]
        frames = list[UInt8Image]()
        for number, image in zip(numbers, video.read(numbers), strict=False):
            frames.append(_fitted(image, _square_size(video.frames[number]), config.size))
            if len(frames) == SEPTUPLET:
                yield of_video.popleft(), frames
                frames = []
        if of_video:
            raise SourceError(f"{video.name}: changed while it was read; run this again")


def _fitted(frame: UInt8Image, square: tuple[int, int], size: tuple[int, int]) -> UInt8Image:
    """Scale a frame down until it just covers `size`, and cut it to it around the centre.

    Args:
        frame: (H, W, 3).
        square: width and height as it is shown, in square pixels.
        size: width and height of the result.
    """
    scale = max(size[0] / square[0], size[1] / square[1])
    width = max(size[0], round(square[0] * scale))
    height = max(size[1], round(square[1] * scale))
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
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
        f"source.path: {shown_name(source)} gives {counts['train']} clips for training and "
        f"{counts['test']} for testing; at least one of each is needed: add videos or longer ones, "
        f"or lower source.size{shown}{more}"
    )


# --- record


def _write_origins(written: Sequence[_Cut], config: CutConfig, out: Path) -> None:
    """Write `clips.csv`: where each clip is from, in frames (from 0) and in seconds.

    The time step is that between a clip's frames. A folder of images has numbers in place of times.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    head = ["clip", "split", "video", "first_frame", "frame_step", "first_time", "time_step"]
    table.writerow(head)
    for cut in sorted(written, key=lambda cut: cut.clip):
        first, step = _times(cut)
        row = [cut.clip, cut.split, csv_cell(cut.video.name), cut.frames[0], config.frame_step]
        table.writerow([*row, seconds(first), seconds(step)])
    write_text_whole(out / "clips.csv", text.getvalue())


def _times(cut: _Cut) -> tuple[Fraction, Fraction]:
    """Time of a clip's first frame, and the mean step between its frames."""
    first, last = (cut.video.frames[number].time for number in (cut.frames[0], cut.frames[-1]))
    if first is None or last is None:
        raise ValueError("a frame without a time is in a clip")
    return first, (last - first) / (SEPTUPLET - 1)


def _record(
    kind: Literal["videos", "frames"],
    works: Sequence[_Work],
    written: Sequence[_Cut],
    config: CutConfig,
    left_out: Sequence[LeftOut],
) -> SourceRecord:
    counts = Counter(cut.split for cut in written)
    per_video = Counter((id(cut.video), cut.split) for cut in written)
    rate = "every frame" if config.frame_step == 1 else f"one frame of {config.frame_step}"
    about = {
        work.video.name: (
            f"{_about(work)}; clips for training: {per_video[id(work.video), 'train']}, "
            f"for testing: {per_video[id(work.video), 'test']}"
        )
        for work in works
    }
    return SourceRecord(
        kind=kind,
        train_clips=counts["train"],
        test_clips=counts["test"],
        provenance={"clips": f"{config.size[0]}x{config.size[1]}, {rate}", **about},
        left_out=tuple(left_out),
    )


def _about(work: _Work) -> str:
    """Sizes, number of frames and scenes of a video, and what ended its other segments."""
    firsts = [work.video.frames[segment.frames[0]] for segment in work.segments]
    sizes = dict.fromkeys("{}x{}".format(*_square_size(frame)) for frame in firsts)
    others = [s for s in work.segments[1:] if s.begins != SCENE_CUT]
    breaks = f"; other ends of segments{_breaks([work.segments[0], *others])}" if others else ""
    note = f", {work.video.note}" if work.video.note else ""
    return (
        f"{', '.join(sizes)}, {len(work.video.frames)} frames{note}, "
        f"scenes: {len(work.scenes) + 1}{breaks}"
    )
