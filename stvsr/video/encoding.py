"""Encoding: RGB frames to the packets of a stream, in parts that fit together."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from stvsr.core.errors import InputError
from stvsr.video.coding import BT709, RGB, Coding, Plane, from_rgb, make_frame, to_levels

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".webm": "webm"}
"""FFmpeg's names of the containers that are written, by suffix."""

IMAGES = ".png"
"""Suffix of images; a folder of them is written where OUTPUT has no other suffix."""

LOOKAHEAD_BYTES = 2**30
"""Memory at most of the frames that an encoder looks ahead at."""


@dataclass(frozen=True)
class Codec:
    """A codec that is written.

    Attributes:
        encoder: FFmpeg's name of it.
        suffixes: of the containers that take it.
        bits: of a sample that it may have.
        layouts: of chroma that it may have.
        crf: its default quality; lower is better.
        largest_crf: the worst quality that it has.
        options: of the encoder.
        tag: four characters by which a player of Apple's knows it in MP4; or empty.
        least: pixels of a side at least.
    """

    encoder: str
    suffixes: tuple[str, ...]
    bits: tuple[int, ...]
    layouts: tuple[str, ...]
    crf: int
    largest_crf: int
    options: dict[str, str] = field(default_factory=dict)
    tag: str = ""
    least: int = 1


_MPEG = (".mp4", ".m4v", ".mov", ".mkv")
CODECS = {
    "h264": Codec("libx264", _MPEG, (8, 10), ("420", "444"), 18, 51),
    "h265": Codec(
        "libx265",
        _MPEG,
        (8, 10),
        ("420", "444"),
        20,
        51,
        {"x265-params": "log-level=none"},
        "hvc1",
        64,  # below it, x265 (of PyAV 18.1) writes beyond its memory
    ),
    "vp9": Codec(
        "libvpx-vp9",
        (".webm", ".mkv", ".mp4"),
        (8,),
        ("420", "444"),
        24,
        63,
        {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    "av1": Codec(
        "libsvtav1", (".webm", ".mkv", ".mp4"), (8, 10), ("420",), 28, 63, {"preset": "8"}
    ),
    "png": Codec("png", (IMAGES,), (8,), ("444",), 0, 0, {"pred": "paeth"}),
    "png16": Codec("png", (IMAGES,), (16,), ("444",), 0, 0, {"pred": "paeth"}),
}
"""Codecs by the names that `--codec` takes."""

LAYOUTS = {"420": (2, 2), "444": (1, 1)}


class Coded(NamedTuple):
    """A frame as it is stored: its bytes, its time in ticks, and whether it needs no other."""

    data: bytes
    pts: int
    is_key: bool


@dataclass(frozen=True)
class Format:
    """How a video is written.

    Attributes:
        suffix: of the container, or `IMAGES`.
        codec: name in `CODECS`.
        crf: constant quality.
        width: pixels.
        height: pixels.
        coding: of the samples.
        aspect: width of a pixel over its height.
        base: seconds per tick.
        rate: frames per second, on average.
    """

    suffix: str
    codec: str
    crf: int
    width: int
    height: int
    coding: Coding
    aspect: Fraction
    base: Fraction
    rate: Fraction

    @property
    def is_images(self) -> bool:
        """True where the result is a folder of images."""
        return self.suffix == IMAGES

    @property
    def pix_fmt(self) -> str:
        """FFmpeg's name of the pixel format."""
        if self.is_images:
            return "rgb24" if self.coding.bits == 8 else "rgb48be"
        layout = next(name for name, sides in LAYOUTS.items() if sides == self.coding.layout)
        return f"yuv{layout}p" + ("" if self.coding.bits == 8 else f"{self.coding.bits}le")


FASTEST_AV1 = 240
"""Frames per second that the AV1 encoder takes."""


def check_codec(suffix: str, codec: str | None, crf: int | None) -> str | None:
    """Refuse a container, codec or quality that is not written; returns the codec.

    Raises:
        InputError: the text says what is possible.
    """
    allowed = [name for name, known in CODECS.items() if suffix in known.suffixes]
    if not allowed:
        known = ", ".join(CONTAINERS)
        raise InputError(f"OUTPUT: found {suffix}; expected {known}, .png or a folder")
    if codec is not None and codec not in allowed:
        raise InputError(f"--codec: found {codec}; for {suffix} expected {', '.join(allowed)}")
    name = codec or _usual(suffix, deep=False)
    if crf is not None and not 0 <= crf <= CODECS[name].largest_crf:
        raise InputError(f"--crf: found {crf}; for {name} expected 0..{CODECS[name].largest_crf}")
    return codec


def _usual(suffix: str, deep: bool) -> str:
    """The codec that plays everywhere in a container, for more than 8 bits or not."""
    usual = {".webm": ("vp9", "av1"), IMAGES: ("png", "png16")}
    return usual.get(suffix, ("h264", "h265"))[deep]


def choose_format(
    suffix: str,
    codec: str | None,
    crf: int | None,
    source: Coding,
    size: tuple[int, int],
    *,
    aspect: Fraction,
    base: Fraction,
    rate: Fraction,
    keeps_chroma: bool,
) -> Format:
    """The format of an output: what is asked for, or what plays everywhere.

    8-bit stays 8-bit, more becomes 10-bit; 4:4:4 stays 4:4:4, and RGB is written as BT.709.

    Args:
        suffix: of the output's name.
        codec: name in `CODECS`; None for the container's usual one.
        crf: quality; None for the codec's usual one.
        source: how the input is coded.
        size: width and height of the output.
        aspect: width of a pixel over its height.
        base: seconds per tick.
        rate: frames per second.
        keeps_chroma: the output is as large as the input, whose chroma is to be kept.

    Raises:
        InputError: the container, codec, quality or size is not possible; the text says what is.
    """
    name = check_codec(suffix, codec, crf) or _usual(suffix, source.bits > 8)
    if codec is None and min(size) < CODECS[name].least:
        name = _usual(suffix, deep=False)
    known_codec = CODECS[name]
    if min(size) < known_codec.least:
        raise InputError(
            f"--codec: found {name} for {size[0]}x{size[1]} pixels; expected at least "
            f"{known_codec.least} in height and width; choose another codec"
        )
    if name == "av1" and rate > FASTEST_AV1:
        raise InputError(
            f"--codec: found av1 for {float(rate):g} frames/s; expected {FASTEST_AV1} at most: "
            "choose another codec, or a smaller --time"
        )
    check_codec(suffix, name, crf)
    odd = bool(size[0] % 2 or size[1] % 2)
    full = source.layout == (1, 1) and not source.is_grey and source.matrix != RGB
    wide = keeps_chroma and source.layout != (2, 2) and not source.is_grey
    layout = "444" if (full or wide or odd) and "444" in known_codec.layouts else "420"
    if suffix == IMAGES:
        layout = "444"
    elif odd and layout == "420":
        raise InputError(
            f"--codec: found {name} for {size[0]}x{size[1]} pixels; it takes even sizes: choose "
            "another codec, or --space 2 or 4"
        )
    bits = (10 if source.bits > 8 else 8) if 10 in known_codec.bits else known_codec.bits[0]
    coding = replace(
        source,
        bits=bits,
        layout=LAYOUTS[layout],
        is_grey=False,
        is_centred=False,
        is_full=source.is_full and source.matrix != RGB and suffix != IMAGES,
        matrix=BT709 if source.matrix == RGB else source.matrix,
    )
    quality = known_codec.crf if crf is None else crf
    return Format(suffix, name, quality, *size, coding, aspect, base, rate)


def configure(context: VideoCodecContext, form: Format) -> None:
    """Prepare an encoder; two that are prepared alike make parts of one stream."""
    context.width, context.height = form.width, form.height
    context.pix_fmt = form.pix_fmt
    context.time_base = form.base
    context.framerate = form.rate.limit_denominator(1001)
    context.sample_aspect_ratio = form.aspect.limit_denominator(65535)
    if not form.is_images:
        context.color_range = int(ColorRange.JPEG if form.coding.is_full else ColorRange.MPEG)
        context.colorspace = form.coding.matrix
        context.color_trc = form.coding.transfer
        context.color_primaries = form.coding.primaries
        context.flags = int(context.flags) | int(Flags.global_header)
    if CODECS[form.codec].tag and form.suffix != ".mkv":
        context.codec_tag = CODECS[form.codec].tag


def encoder_options(form: Format) -> dict[str, str]:
    """Options of the encoder of a format."""
    options = dict(CODECS[form.codec].options)
    if not form.is_images:
        options["crf"] = str(form.crf)
    if form.codec in ("h264", "h265"):
        frame = form.width * form.height * 3 * (1 + (form.coding.bits > 8))
        options["rc-lookahead"] = str(max(5, min(40, LOOKAHEAD_BYTES // frame)))
    return options


class Encoder:
    """Encodes one part of a stream: it begins with a key frame and needs no other part."""

    def __init__(self, form: Format) -> None:
        """Open the encoder.

        Raises:
            InputError: it does not take this size or format.
        """
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise
        self._form = form
        context = av.CodecContext.create(CODECS[form.codec].encoder, "w")
        if not isinstance(context, VideoCodecContext):
            raise TypeError(form.codec)
        configure(context, form)
        context.options = encoder_options(form)
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"--codec: found {form.codec}, whose encoder refuses {form.width}x{form.height} "
                f"pixels ({_reason(error)}); choose another codec or a smaller --space"
            ) from None
        self._context = context

    def encode(self, rgb: Plane, pts: int) -> Iterator[Coded]:
        """Encode a frame; what is finished by now comes back.

        Args:
            rgb: (3, H, W) in [0, 1].
            pts: time in ticks.

        Raises:
            InputError: the encoder fails.
        """
        frame = to_frame(rgb, self._form)
        frame.pts, frame.time_base = pts, self._form.base
        yield from self._encoded(frame)

    def finish(self) -> Iterator[Coded]:
        """Encode the frames that are left.

        Raises:
            InputError: the encoder fails.
        """
        yield from self._encoded(None)

    def _encoded(self, frame: av.VideoFrame | None) -> Iterator[Coded]:
        try:
            packets: list[Any] = self._context.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"--codec: found {self._form.codec}, whose encoder failed at a frame "
                f"({_reason(error)}); choose another codec"
            ) from None
        for packet in packets:
            yield Coded(bytes(packet), int(packet.pts), packet.is_keyframe)


def to_frame(rgb: Plane, form: Format) -> av.VideoFrame:
    """RGB (3, H, W) in [0, 1] as a frame in the format."""
    coding = form.coding
    if form.is_images:
        peak = np.float32((1 << coding.bits) - 1)
        image: Any = np.ascontiguousarray(to_levels(rgb * peak, coding.bits).transpose(1, 2, 0))
        frame = av.VideoFrame.from_ndarray(image, format="rgb24" if coding.bits == 8 else "rgb48le")
        if coding.bits > 8:
            frame = frame.reformat(format="rgb48be")
        return frame
    frame = make_frame(from_rgb(rgb, coding), form.pix_fmt)
    frame.colorspace, frame.color_trc = coding.matrix, coding.transfer
    frame.color_primaries = coding.primaries
    frame.color_range = int(ColorRange.JPEG if coding.is_full else ColorRange.MPEG)
    return frame


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def libraries() -> str:
    """Versions of what decodes and encodes."""
    return f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}"
