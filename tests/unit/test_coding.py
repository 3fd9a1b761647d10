"""Samples to RGB and back: every matrix, range, depth and layout, without a tint."""

from dataclasses import replace
from itertools import product

import av
import numpy as np
import pytest

from stvsr.video.coding import Coding, coding_of, from_rgb, make_frame, to_rgb

NAMES = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}
CODINGS = [
    Coding(bits=bits, matrix=matrix, is_full=is_full, layout=layout)
    for bits, matrix, is_full, layout in product(
        (8, 10), (1, 5, 6, 7, 9), (False, True), ((1, 1), (2, 1), (2, 2))
    )
]


def frame_of(rgb, coding: Coding) -> av.VideoFrame:
    depth = "" if coding.bits == 8 else f"{coding.bits}le"
    frame = make_frame(from_rgb(rgb, coding), f"yuv{NAMES[coding.layout]}p{depth}")
    frame.colorspace, frame.color_range = coding.matrix, 2 if coding.is_full else 1
    return frame


def bars() -> np.ndarray:
    colors = [(r, g, b) for r in (0, 0.75) for g in (0, 0.75) for b in (0, 0.75)]
    rgb = np.zeros((3, 32, 128), np.float32)
    for at, color in enumerate(colors):
        rgb[:, :, 16 * at : 16 * at + 16] = np.array(color)[:, None, None]
    return rgb


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_a_grey_ramp_and_colour_bars_come_back(coding: Coding) -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32), (3, 16, 256)).copy()
    for rgb, columns in ((ramp, slice(None)), (bars(), slice(8, None, 16))):
        frame = frame_of(rgb, coding)
        assert coding_of(frame, "h264") == coding
        difference = np.abs(to_rgb(frame, coding) - rgb)[..., columns]
        # half a level of luma, and half a level of chroma times at most 1.89
        assert difference.max() * 255 <= (1.5 if coding.bits == 8 else 0.4)
        assert np.abs((to_rgb(frame, coding) - rgb)[..., columns].mean(axis=(1, 2))).max() < 0.003


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("bits", [8, 10])
def test_the_levels_are_those_of_the_standard(matrix: int, bits: int) -> None:
    coding = Coding(bits=bits, matrix=matrix, layout=(1, 1))
    one = 1 << (bits - 8)
    white = [int(plane[0, 0]) for plane in from_rgb(np.ones((3, 2, 2), np.float32), coding)]
    black = [int(plane[0, 0]) for plane in from_rgb(np.zeros((3, 2, 2), np.float32), coding)]
    assert white == [235 * one, 128 * one, 128 * one]
    assert black == [16 * one, 128 * one, 128 * one]
    red = np.zeros((3, 2, 2), np.float32)
    red[0] = 1
    kr = {1: 0.2126, 6: 0.299, 9: 0.2627}[matrix]
    assert from_rgb(red, coding)[0][0, 0] == np.floor((16 + 219 * kr) * one + 0.5)
    assert from_rgb(red, coding)[2][0, 0] == 240 * one


def test_swscale_gives_the_same_colours_within_its_own_error() -> None:
    coding = Coding(matrix=1, layout=(1, 1))
    frame = frame_of(bars(), coding)
    theirs = frame.reformat(format="rgb24", src_colorspace=1, dst_colorspace=1).to_ndarray()
    ours = to_rgb(frame, coding).transpose(1, 2, 0) * 255
    assert np.abs(theirs - ours).max() <= 2


@pytest.mark.parametrize("layout", [(2, 2), (2, 1)])
@pytest.mark.parametrize("size", [(32, 48), (31, 47), (1, 1), (2, 3)])
def test_chroma_stays_in_its_place(layout: tuple[int, int], size: tuple[int, int]) -> None:
    """A smooth slope of color is not moved by reducing and enlarging its chroma."""
    coding = Coding(bits=16, matrix=1, is_full=True, layout=layout)
    slope = np.linspace(0.3, 0.7, size[1], dtype=np.float32)
    rgb = np.stack([np.broadcast_to(part, size) for part in (slope, 0 * slope + 0.5, 1 - slope)])
    frame = make_frame(from_rgb(rgb, coding), f"yuv{NAMES[layout]}p16le")
    frame.colorspace, frame.color_range = 1, 2
    back = to_rgb(frame, coding)
    inner = (..., slice(None), slice(8, -8)) if size[1] > 16 else ...
    assert np.abs(back - rgb)[inner].max() < (0.002 if size[1] > 16 else 0.25)


@pytest.mark.parametrize(
    ("pix_fmt", "bits"),
    [
        *(("rgb24", 8), ("gbrp", 8), ("rgb48le", 16), ("bgra", 8), ("gbrp10le", 10)),
        *(("nv12", 8), ("yuyv422", 8), ("p010le", 10), ("gray", 8), ("gray10le", 10)),
    ],
)
def test_other_layouts_of_samples_are_read_as_they_are(pix_fmt: str, bits: int) -> None:
    value = 200
    image = np.full((16, 32, 3), value, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame = frame.reformat(format=pix_fmt, dst_colorspace=1, dst_color_range=1)
    coding = coding_of(frame, "h264")
    if pix_fmt.startswith(("nv", "yuyv", "p010")):
        coding = replace(coding, matrix=1)
    assert coding.bits == bits
    if not pix_fmt.startswith("gray"):  # of which swscale decides the range
        assert np.abs(to_rgb(frame, coding) * 255 - value).max() <= 1.2


def test_a_transparent_pixel_is_refused_and_an_opaque_picture_is_not() -> None:
    image = np.full((4, 4, 4), 255, np.uint8)
    opaque = av.VideoFrame.from_ndarray(image, format="rgba")
    assert to_rgb(opaque, coding_of(opaque)).min() == 1
    image[2, 2, 3] = 7
    frame = av.VideoFrame.from_ndarray(image, format="rgba")
    with pytest.raises(ValueError, match="transparent"):
        to_rgb(frame, coding_of(frame))


@pytest.mark.parametrize(("size", "matrix"), [((1280, 16), 1), ((720, 592), 1), ((720, 576), 6)])
def test_an_untagged_frame_is_what_players_take_it_for(size: tuple[int, int], matrix: int) -> None:
    coding = coding_of(av.VideoFrame(*size, "yuv420p"))
    assert coding.matrix == matrix
    assert "assumed" in coding.guessed
    assert not coding.is_full


@pytest.mark.parametrize(("codec", "is_full"), [("h264", False), ("ffv1", True), ("png", True)])
def test_grey_of_a_video_codec_has_studio_range(codec: str, is_full: bool) -> None:
    assert coding_of(av.VideoFrame(16, 16, "gray"), codec).is_full == is_full
