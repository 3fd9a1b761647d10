"""Video files as a source of clips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.clips.layout import LeftOut, SourceRecord
from stvsr.data.sources.cutting import CutConfig, cut_into_clips, seconds, visible
from stvsr.data.sources.scenes import THUMBNAIL
from stvsr.video.color import thumbnail
from stvsr.video.reader import Scan, VideoError, VideoReader, shown_name
from stvsr.video.segments import ScannedFrame

SUFFIXES = {
    *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264"),
    *(".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogv", ".qt", ".ts", ".vob", ".webm"),
    *(".wmv", ".y4m"),
}
"""Files of a folder that are taken for videos; a single file may have any name."""


class VideoFile:
    """A `stvsr.data.sources.cutting.Video` that is a file."""

    def __init__(self, path: Path, name: str) -> None:
        """Look at the file's header.

        Raises:
            VideoError: it is no video.
        """
        self.name = name
        self._reader = VideoReader(path)
        self._scan = Scan()
        self.expected = self._reader.expected
        self.note = self._reader.choice
        self.damage = ""

    @property
    def frames(self) -> Sequence[ScannedFrame]:
        """The scan's findings."""
        return self._scan.frames

    def place(self, number: int) -> str:
        """Where frame `number` is, in words."""
        time = self.frames[number].time
        return f"frame {number}" if time is None else f"frame {number} at {seconds(time)} s"

    def scan(self) -> Iterator[tuple[int, UInt8Image]]:
        """Decode every frame; yield number and thumbnail of those that repeat no other."""
        for number, frame in self._reader.scan(self._scan):
            yield number, thumbnail(frame, THUMBNAIL)
        self.damage = self._scan.damage

    def read(self, numbers: Sequence[int]) -> Iterator[UInt8Image]:
        """Decode again; yield the frames of these numbers, in order, upright RGB (H, W, 3)."""
        wanted = set(numbers)
        for frame in self._reader.frames(self._scan, numbers[-1] + 1):
            if frame.number in wanted:
                yield frame.rgb()


def shown_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a video as it is shown, in square pixels; None where no frame decodes.

    Raises:
        VideoError: it is no video.
    """
    geometry = VideoReader(path).first_geometry()
    if geometry is None:
        return None
    width, height = geometry.square_size
    return round(width), round(height)


def cut_videos(source: Path, config: CutConfig, out: Path) -> SourceRecord:
    """Cut the videos of a file or a folder into clips, written to the empty folder `out`.

    Args:
        source: a video, or a folder that is searched to any depth; files and folders whose names
            begin with a dot are passed over.
        config: how videos are cut.
        out: where clips, lists and record are written.

    Raises:
        SourceError: no video is found, or nothing can be cut from any of them for training or
            for testing; the text has the reason for each.
    """
    left_out: list[LeftOut] = []
    videos = []
    for path in list_videos(source, "source.path: "):
        name = shown_name(path.name if path == source else path.relative_to(source).as_posix())
        try:
            videos.append(VideoFile(path, name))
        except VideoError as error:
            left_out.append(LeftOut(what=name, why=error.reason))
    return cut_into_clips(videos, "videos", source, config, out, left_out)


def list_videos(source: Path, named: str = "") -> list[Path]:
    """A video, or those of a folder, to any depth, in the order of their names.

    Args:
        source: the file or folder.
        named: what a refusal begins with.

    Raises:
        SourceError: the folder holds none.
    """
    if not source.is_dir():
        return [source]
    videos = videos_in(source)
    if not videos:
        files = [path for path in visible(source) if not path.is_dir()]
        kinds = Counter(path.suffix.lower() or "no suffix" for path in files).most_common(4)
        found = ", ".join(f"{count} {suffix}" for suffix, count in kinds) or "nothing"
        raise SourceError(
            f"{named}{shown_name(source)} holds no video (found: {shown_name(found)}); "
            f"allowed are files with the suffixes {', '.join(sorted(SUFFIXES))}"
        )
    return videos


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder, to any depth, in the order of their names; perhaps none."""
    files = [path for path in visible(folder) if not path.is_dir()]
    return [path for path in files if path.suffix.lower() in SUFFIXES]
