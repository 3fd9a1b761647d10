"""The kind of malformed videos. Every frame has its number drawn in, and a pattern of its video."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from stvsr.core.image import UInt8Image
from stvsr.data.clips.layout import FRAMES, SPLITS, frame_path, read_clip_list, split_list
from tests.malformed.damage import BYTES, in_bytes
from tests.malformed.kind import Bytes, Kind, verb
from tests.malformed.projects import SOURCE, write_params

SIDE = 64
BLOCK = 8
COUNT = 60
CLOSE = 24.0
"""Grey levels by which the mean of an 8x8 block may differ from what was drawn."""

VIDEOS = {"one.mp4": ("mpeg4", 0), "two.mkv": ("libx264", 1)}
SECRET = "../outside/secret.mp4"


def drawn(video: int, number: int) -> UInt8Image:
    """(64, 64, 3): a drifting pattern below eight blocks, white where a bit of the number is 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = [np.sin((x + 2 * number) / 6 + c + 2 * video) * np.cos(y / 9 + video) for c in range(3)]
    image = (128 + 70 * np.stack(waves, axis=-1)).astype(np.uint8)
    bits = np.array([number >> bit & 1 for bit in range(SIDE // BLOCK)], np.uint8)
    image[:BLOCK] = (16 + 220 * bits.repeat(BLOCK))[None, :, None]
    return image


def encode(path: Path, codec: str, video: int) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.bit_rate, stream.gop_size = 2_000_000, 12
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(drawn(video, number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _videos() -> None:
    source = {"kind": "videos", "path": "videos", "size": [SIDE, SIDE]}
    write_params(source=source)
    Path("videos").mkdir()
    for name, (codec, video) in VIDEOS.items():
        encode(Path("videos", name), codec, video)
    encode(Path(SECRET), "mpeg4", 5)
    Path("videos", "beside.bin").write_bytes(Path(SECRET).read_bytes())


# --- what is read


def _blocks(image: UInt8Image) -> NDArray[np.float64]:
    """Mean of each 8x8 block and colour."""
    side = SIDE // BLOCK
    return image.reshape(side, BLOCK, side, BLOCK, 3).mean(axis=(1, 3))


def _identified(image: UInt8Image) -> tuple[int, int] | None:
    """Video and number of a frame; None where it is not one that was drawn."""
    means = _blocks(image)
    number = sum(1 << bit for bit, level in enumerate(means[0, :, 1]) if level > 128)
    for video in range(len(VIDEOS)):
        if np.abs(means - _blocks(drawn(video, number))).max() < CLOSE:
            return video, number
    return None


def _video_of(clip: str) -> int | None:
    """The video whose consecutive frames a clip has; None where it has others."""
    images = [np.asarray(Image.open(frame_path(SOURCE, clip, number))) for number in FRAMES]
    found = [_identified(image) for image in images]
    first = found[0]
    if first is None or found != [(first[0], first[1] + n) for n in range(len(found))]:
        return None
    return first[0]


def _cut() -> dict[str, Any]:
    clips = [clip for split in SPLITS for clip in read_clip_list(split_list(SOURCE, split))]
    left_out = json.loads((SOURCE / "source.json").read_bytes())["left_out"]
    return {
        "clips": Counter(_video_of(clip) for clip in clips),
        "named": " ".join(item["what"] for item in left_out),
    }


def _same(whole: Any, found: Any) -> bool:
    """Whether all clips are of frames that were drawn, and a video without a clip is named.

    One that is cut is a shorter video in some containers, and gives fewer clips.
    """
    without = [name for name, (_, video) in VIDEOS.items() if not found["clips"][video]]
    return not found["clips"][None] and all(name in found["named"] for name in without)


# --- damage


def _text(text: str) -> Bytes:
    return lambda random, whole: text.encode()


def _at_start(length: int, change: Bytes) -> Bytes:
    return lambda random, whole: change(random, whole[:length]) + whole[length:]


def _begun(begin: bytes, noise: int = 0) -> Bytes:
    """Another begin, before what follows in the file, or before noise."""
    return lambda random, whole: begin + (random.randbytes(noise) if noise else whole[len(begin) :])


def _moved_box(random: Random, whole: bytes) -> bytes:
    """The length of a box, or of an element, is another."""
    at = random.choice([n for n in range(len(whole) - 4) if whole[n : n + 4] in BOXES] or [4])
    return whole[: at - 4] + random.randbytes(4) + whole[at:]


BOXES = {b"moov", b"mdat", b"trak", b"stts", b"stsz", b"stco", b"stss", b"stsd", b"mp4v", b"tkhd"}
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
)
PLACES = ("beside.bin", "../../outside/secret.mp4", "/dev/zero", "http://127.0.0.1:9/x.mp4")

PLAYLISTS: Mapping[str, Callable[[str], str]] = {
    "ffconcat": lambda place: f"ffconcat version 1.0\nfile '{place}'\n",
    "HLS": HLS.format,
    "DASH": DASH.format,
    "SMIL": lambda place: f'<smil><body><video src="{place}"/></body></smil>\n',
    "RTSP": lambda place: f"RTSPtext\nrtsp://127.0.0.1:9/{place}\n",
}
FOREIGN: Mapping[str, bytes] = {
    "EBML": b"\x1a\x45\xdf\xa3",
    "AVI": b"RIFF\xff\xff\xff\xffAVI LIST",
    "Ogg": b"OggS\0\2",
    "MPEG-PS": b"\0\0\1\xba",
    "FLV": b"FLV\1\1\0\0\0\t",
    "MXF": b"\x06\x0e\x2b\x34\x02\x05\x01\x01",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF89a",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "Y4M": b"YUV4MPEG2 W64 H64 F25:1 Ip A1:1 C420\nFRAME\n",
    "Y4M of a million": b"YUV4MPEG2 W1000000 H1000000 F25:1 Ip A1:1 C420\nFRAME\n",
    "SWF": b"FWS\x0f\xff\xff\0\0",
    "ID3": b"ID3\4\0\0\0\0\0\0",
}

STREAMS: Mapping[str, Bytes] = {
    **BYTES,
    **{f"again: {name}": BYTES[name] for name in ("flip_bit", "flip_bytes", "noise", "zeros")},
    **{f"header: {n}": _at_start(200, BYTES[n]) for n in ("flip_bit", "flip_bytes", "zeros")},
    "box of another length": _moved_box,
    **{
        f"{name} of {place}": _text(write(place))
        for name, write in PLAYLISTS.items()
        for place in PLACES
    },
    "SDP": _text(SDP),
    **{f"header of {name}": _begun(begin) for name, begin in FOREIGN.items()},
    **{f"{name} and noise": _begun(begin, noise=9000) for name, begin in FOREIGN.items()},
}

VIDEO = Kind(
    "video",
    _videos,
    [
        damage
        for name in VIDEOS
        for damage in in_bytes(f"videos/{name}", STREAMS)
        if damage.name != "folder"  # which is searched for videos
    ],
    [verb("source", left=_cut, same=_same, out=str(SOURCE))],
    share=4,
)
