"""Videos as a set: every segment of a video that is long enough is a clip."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stvsr.core.clip import SCALE
from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.sources.cutting import SegmentedVideo, faults_of, find_segments
from stvsr.data.sources.videos import VideoFile, list_videos
from stvsr.video.reader import DAMAGED, VideoError, shown_name
from stvsr.video.segments import Segment


class VideoFrames:
    """The frames of a video's clips, decoded in one pass as long as they are asked for in order.

    A frame before the last one that was read begins another pass.
    """

    def __init__(self, video: VideoFile, path: Path, numbers: Sequence[int]) -> None:
        """Take the numbers of the frames that clips have, in order; nothing is decoded yet."""
        self._video = video
        self._path = path
        self._numbers = numbers
        self._places = {number: place for place, number in enumerate(numbers)}
        self._next = len(numbers)
        self._images: Iterator[UInt8Image] = iter(())

    def read(self, number: int) -> UInt8Image:
        """Frame `number` of the video, cut at the right and at the bottom to multiples of `SCALE`.

        Raises:
            SourceError: the file changed since it was opened.
        """
        place = self._places[number]
        if place < self._next:
            self._next, self._images = place, self._video.read(self._numbers[place:])
        for image in self._images:
            self._next += 1
            if self._next > place:
                height, width, _ = image.shape
                return image[: height - height % SCALE, : width - width % SCALE]
        raise SourceError(f"{self._video.name}: changed while it was read; run this again")

    def file_state(self) -> str:
        """State of the file, which differs if it changes."""
        stat = self._path.stat()
        return f"{stat.st_size}@{stat.st_mtime_ns}"


class SegmentFrames:
    """A segment as `stvsr.data.clips.numbered.ClipFrames`."""

    def __init__(self, video: VideoFrames, numbers: Sequence[int]) -> None:
        self._video = video
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, place: int) -> UInt8Image:
        """See `ClipFrames`."""
        return self._video.read(self._numbers[place])

    def file_state(self) -> str:
        """See `ClipFrames`: state of the video, and which of its frames these are."""
        return f"{self._video.file_state()} {self._numbers[0]}-{self._numbers[-1]}"


class VideoClips(NamedTuple):
    """The contents of a set of videos.

    Attributes:
        clips: by name, such as "a.mp4/0001".
        missing: videos that cannot be read, are damaged or have no clip, and why, one line each.
        left_out: parts of the other videos that are in no clip, and why.
    """

    clips: dict[str, SegmentFrames]
    missing: list[str]
    left_out: list[str]


def open_videos(source: Path, least: int) -> VideoClips:
    """The clips of a video, or of the videos of a folder to any depth; each is decoded once.

    A clip is a segment: frames of one scene and size at even steps of time, without repeated and
    faulty ones.

    Args:
        source: the file or folder.
        least: frames that a clip has at least.

    Raises:
        SourceError: there is no video.
    """
    found = VideoClips({}, [], [])
    paths: list[Path] = []
    videos: list[VideoFile] = []
    for path in list_videos(source):
        name = shown_name(path.name if path == source else path.relative_to(source).as_posix())
        try:
            videos.append(VideoFile(path, name))
            paths.append(path)
        except VideoError as error:
            found.missing.append(f"{name}: {error.reason}")
    segmented = [SegmentedVideo(video) for video in videos]
    find_segments(segmented)
    for path, video, one in zip(paths, videos, segmented, strict=True):
        whole = [segment for segment in one.segments if len(segment.frames) >= least]
        lines = _left_out(video, [s for s in one.segments if s not in whole], least)
        found.clips.update(_clips(video, path, whole))
        if whole and not _is_damaged(video):
            found.left_out.extend(lines)
        else:
            found.missing.extend(lines or [f"{video.name}: no frame can be decoded"])
    return found


def _clips(
    video: VideoFile, path: Path, segments: Sequence[Segment]
) -> Iterator[tuple[str, SegmentFrames]]:
    frames = VideoFrames(video, path, [number for s in segments for number in s.frames])
    for number, segment in enumerate(segments, start=1):
        yield f"{video.name}/{number:04d}", SegmentFrames(frames, segment.frames)


def _is_damaged(video: VideoFile) -> bool:
    return bool(video.damage) or any(frame.fault == DAMAGED for frame in video.frames)


def _left_out(video: VideoFile, short: Sequence[Segment], least: int) -> list[str]:
    """The parts of a video that are in no clip, and why."""
    lines = [f"{fault.what}: {fault.why}" for fault in faults_of(video)]
    if short:
        frames = sum(len(segment.frames) for segment in short)
        lines.append(
            f"{video.name}: segments of fewer than {least} frames between cuts, gaps and faults: "
            f"{len(short)}, of {frames} frames"
        )
    return lines
