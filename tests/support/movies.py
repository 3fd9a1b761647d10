"""Small files with sound, subtitles, chapters and attachments, and what they hold."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.stream import AttachmentStream, Disposition
from av.video.stream import VideoStream

from stvsr.core.image import UInt8Image

WIDTH, HEIGHT = 48, 32
CORNERS = ((200, 60, 50), (60, 170, 70), (60, 70, 190), (210, 205, 200))
"""Top left, top right, bottom left, bottom right."""

TEXTS = {
    "srt": "1\n00:00:00,040 --> 00:00:00,120\nhello\n\n2\n00:00:00,130 --> 00:00:00,160\nagain\n",
    "ass": "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    "Style: Default,Arial,20\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
    "MarginR, MarginV, Effect, Text\nDialogue: 0,0:00:00.04,0:00:00.12,Default,,0,0,0,,hi\n",
}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT, scene: int = 0) -> UInt8Image:
    """Four flat corners, and between them a grey pattern that moves by a pixel a frame."""
    x, y = np.meshgrid(np.arange(width) + number + 17 * scene, np.arange(height))
    grey = 118 + 30 * np.sin(x / 3) * np.cos(y / (5 + scene))
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if scene % 2:
        image = 255 - image // 4
    size = (min(width, height) // 3) & ~1
    for corner, color in enumerate(CORNERS):
        rows = slice(0, size) if corner < 2 else slice(height - size, height)
        columns = slice(0, size) if corner % 2 == 0 else slice(width - size, width)
        image[rows, columns] = color
    return image


@dataclass(frozen=True)
class Movie:
    """How a file is made; what is not said is a plain MP4."""

    frames: Sequence[UInt8Image] = field(default_factory=lambda: [picture(n) for n in range(6)])
    times: Sequence[int] = ()
    rate: Fraction = Fraction(25)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=lambda: {"crf": "1", "bf": "2"})
    tags: Mapping[str, int] = field(default_factory=dict)
    aspect: Fraction | None = None
    matrix: Sequence[int] = ()
    sounds: Sequence[str] = ()
    texts: Sequence[str] = ()
    has_chapters: bool = False
    has_attachment: bool = False
    cover: str = ""
    timecode: str = ""

    def write(self, path: Path) -> Path:
        """Write the file; its suffix names the container."""
        with av.open(path, "w") as container:
            container.metadata["title"] = "A title"
            video = self._add_video(container)
            sounds = [self._add_sound(container, at, name) for at, name in enumerate(self.sounds)]
            texts = [self._add_text(container, path, kind) for kind in self.texts]
            cover = self._add_cover(container) if self.cover else None
            if self.has_chapters:
                container.set_chapters([_chapter(1, 0, 100), _chapter(2, 100, 240)])
            if self.has_attachment:
                container.add_attachment("note.txt", "text/plain", b"a note")
            if cover is not None:
                _encode(container, cover, [np.full((24, 24, 3), 90, np.uint8)], [0], Fraction(1))
            times = self.times or range(len(self.frames))
            _encode(container, video, self.frames, times, self.rate)
            for sound in sounds:
                _make_sound(container, sound)
            for text, stream in texts:
                for packet in text.demux():
                    if packet.size:
                        packet.stream = stream
                        container.mux_one(packet)
                text.close()
        return path

    def _add_video(self, container) -> VideoStream:
        stream = container.add_stream(self.codec, rate=self.rate, options=dict(self.options))
        stream.height, stream.width = self.frames[0].shape[:2]
        stream.pix_fmt = self.pix_fmt
        stream.metadata["language"] = "deu"
        if self.timecode:
            stream.metadata["timecode"] = self.timecode
        if self.aspect:
            stream.codec_context.sample_aspect_ratio = self.aspect
        if self.matrix:
            stream.set_display_matrix(self.matrix)
        for name, value in self.tags.items():
            setattr(stream.codec_context, name, value)
        return stream

    def _add_sound(self, container, at: int, codec: str) -> AudioStream:
        stream = container.add_stream(codec, rate=48000)
        stream.layout = "stereo"
        stream.metadata["language"] = ("eng", "fra")[at % 2]
        stream.metadata["title"] = f"sound {at}"
        if at:
            stream.disposition = Disposition.comment
        return stream

    def _add_text(self, container, path: Path, kind: str):
        file = path.with_suffix(f".{kind}")
        file.write_text(TEXTS[kind])
        opened = av.open(file)
        stream = container.add_stream_from_template(opened.streams[0])
        stream.metadata["language"] = "eng"
        return opened, stream

    def _add_cover(self, container) -> VideoStream:
        stream = container.add_stream(self.cover, rate=1)
        stream.width = stream.height = 24
        stream.pix_fmt = "yuvj420p" if self.cover == "mjpeg" else "rgb24"
        stream.disposition = Disposition.attached_pic
        return stream


def _chapter(number: int, start: int, end: int) -> Any:
    title = {"title": f"Chapter {number}"}
    base = Fraction(1, 1000)
    return {"id": number, "start": start, "end": end, "time_base": base, "metadata": title}


def _encode(container, stream, images: Iterable[UInt8Image], times, rate: Fraction) -> None:
    full = stream.codec_context.color_range == 2 or str(stream.pix_fmt).startswith("yuvj")
    for image, time in zip(images, times, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt, dst_color_range=2 if full else 1)
        frame.pts, frame.time_base = time, 1 / rate
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _make_sound(container, stream) -> None:
    context = stream.codec_context
    size = context.frame_size or 1024
    for at in range(max(2, 9600 // size)):
        samples = np.sin(np.arange(at * size, (at + 1) * size) / 20).astype(np.float32)
        data = np.stack([samples, samples]) * 0.2
        if context.format.name.startswith("s16"):
            data = (data * 32767).astype(np.int16)
        if not context.format.is_planar:
            data = np.ascontiguousarray(data.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(data, format=context.format.name, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, at * size, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


# --- what a file holds


def frame_times(path: Path) -> list[Fraction]:
    """Presentation times of the frames that players show, from the beginning of the file."""
    with av.open(path) as container:
        starts = [
            Fraction(stream.start_time * (stream.time_base or 1))
            for stream in container.streams
            if stream.start_time is not None and stream.type in ("video", "audio")
        ]
        stream = _video(container)
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
    origin = max(min(starts, default=Fraction(0)), Fraction(0))
    return [time - origin for time in times]


def tick(path: Path) -> Fraction:
    """Seconds of a tick of the video stream."""
    with av.open(path) as container:
        base = _video(container).time_base
        assert base is not None
        return base


def duration(path: Path) -> Fraction:
    """How long the video is shown, by what the container says of its stream."""
    with av.open(path) as container:
        stream = _video(container)
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * stream.time_base
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        end = 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
        return end - Fraction(stream.start_time or 0) * Fraction(stream.time_base or 1)


def tags(path: Path) -> dict[str, int]:
    """What the first frame says of its colors."""
    with av.open(path) as container:
        frame = next(container.decode(_video(container)))
        names = ("colorspace", "color_range", "color_trc", "color_primaries")
        return {name: int(getattr(frame, name)) for name in names}


def packets(path: Path) -> list[tuple[str, list[str]]]:
    """Kind and packets' hashes of each stream but the video, in order."""
    with av.open(path) as container:
        found: dict[int, list[str]] = {}
        kinds = {stream.index: stream.type for stream in container.streams}
        video = _video(container).index
        for packet in container.demux():
            if packet.size and packet.stream.index != video:
                digest = hashlib.sha256(bytes(packet)).hexdigest()[:12]
                found.setdefault(packet.stream.index, []).append(digest)
        return [(kinds[index], found[index]) for index in sorted(found)]


def beside(path: Path) -> dict[str, object]:
    """Title, chapters, attachments, and the video's language."""
    with av.open(path) as container:
        return {
            "title": container.metadata.get("title"),
            "chapters": [_shown_chapter(chapter) for chapter in container.chapters()],
            "attachments": [
                (stream.name, bytes(stream.data))
                for stream in container.streams
                if isinstance(stream, AttachmentStream)
                and not str(stream.name).startswith("cover.")
            ],
            "language": _video(container).metadata.get("language", "und"),
        }


def _shown_chapter(chapter: Any) -> tuple[float, float, str]:
    start, end = (round(float(chapter[at] * chapter["time_base"]), 3) for at in ("start", "end"))
    return start, end, chapter["metadata"].get("title")


def _video(container) -> Any:
    return next(
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    )
