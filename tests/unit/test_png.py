import io
import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from PIL import Image

from stvsr.core.image import UInt8Image
from stvsr.data.clips import png


def noise(height: int, width: int) -> UInt8Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (64, 112), (150, 200)])
def test_a_stored_png_is_read_back_by_pillow(size: tuple[int, int]) -> None:
    """The largest does not fit into one stored block of 65,535 bytes."""
    image = noise(*size)
    content = png.encode_stored(image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), image)
    np.testing.assert_array_equal(png.decode(content, size), image)


def test_a_png_of_another_size_is_refused_before_it_is_decoded() -> None:
    content = png.encode_stored(noise(8, 16))
    with pytest.raises(ValueError, match=r"a PNG of 16x8 pixels, .* where 8x16"):
        png.decode(content, (16, 8))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_only_8_bit_rgb_is_taken(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (16, 8)).save(file, "PNG")
    with pytest.raises(ValueError, match=r"8, 2 \(RGB\) is needed"):
        png.decode(file.getvalue(), (8, 16))


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(60), png.SIGNATURE])
def test_what_is_no_png_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a PNG file"):
        png.decode(content, (8, 16))


def test_a_truncated_png_is_refused() -> None:
    content = png.encode_stored(noise(64, 112))
    with pytest.raises(ValueError, match="truncated"):
        png.decode(content[: len(content) // 2], (64, 112))


def test_a_png_whose_pixels_end_early_is_refused() -> None:
    """Its chunks and its zlib stream are whole; Pillow decodes the rest as zeros."""
    content = png.encode_stored(noise(8, 16))
    short = png.encode_stored(noise(4, 16))
    with pytest.raises(ValueError, match="truncated"):
        png.decode(content[:33] + short[33:], (8, 16))


# rows that are wanted, of files as they are out there

SIZE = (64, 112)
LINE = 1 + 3 * 112


def compressed(level: int = 6) -> bytes:
    """A smooth picture, for which an encoder uses several filters."""
    image = Image.fromarray(noise(8, 14)).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def file_of(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    return png.SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def with_stream(stream: bytes) -> bytes:
    header, *_, end = chunks(compressed())
    return file_of([header, (b"IDAT", stream), end])


def stream() -> bytes:
    return b"".join(data for kind, data in chunks(compressed()) if kind == b"IDAT")


def lines() -> bytes:
    return zlib.decompress(stream())


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("rows", [1, 40, 64])
def test_the_first_rows_are_those_of_the_whole(level: int, rows: int) -> None:
    content = compressed(level)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(png.decode(content, SIZE, rows), whole[:rows])
    cut = png.top_rows(memoryview(content), SIZE, rows)
    np.testing.assert_array_equal(png.decode(cut, (rows, SIZE[1])), whole[:rows])


UNUSUAL = {
    "whole": lambda: compressed(),
    "a file in two chunks": lambda: file_of(
        [
            chunks(compressed())[0],
            (b"IDAT", stream()[:99]),
            (b"IDAT", stream()[99:]),
            (b"IEND", b""),
        ]
    ),
    "a text chunk": lambda: file_of(
        [chunks(compressed())[0], (b"tEXt", b"a\0b"), *chunks(compressed())[1:]]
    ),
    "a damaged text chunk": lambda: file_of(
        [chunks(compressed())[0], (b"tEXt", b"a\0b"), *chunks(compressed())[1:]]
    ).replace(b"a\0b", b"a\0c"),
    "an unknown chunk that must be known": lambda: file_of(
        [chunks(compressed())[0], (b"ABCD", b""), *chunks(compressed())[1:]]
    ),
    "garbage behind the end": lambda: compressed() + b"xyz",
    "too many lines": lambda: with_stream(zlib.compress(lines() + bytes(LINE))),
    "too few lines": lambda: with_stream(zlib.compress(lines()[:-LINE])),
    "half a stream": lambda: with_stream(stream()[:500]),
    "a wrong Adler-32": lambda: with_stream(stream()[:-4] + b"abcd"),
    "zeros in the stream": lambda: with_stream(stream()[:300] + bytes(64) + stream()[364:]),
    "zeros in the file": lambda: compressed()[:300] + bytes(64) + compressed()[364:],
    "an unknown filter in the last line": lambda: with_stream(
        zlib.compress(lines()[:-LINE] + b"\x09" + lines()[1 - LINE :])
    ),
    "no end": lambda: compressed()[:-12],
    "half a file": lambda: compressed()[: len(compressed()) // 2],
    "interlaced": lambda: file_of(
        [(b"IHDR", chunks(compressed())[0][1][:12] + b"\x01"), *chunks(compressed())[1:]]
    ),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_a_file_is_judged_as_a_whole_and_as_libpng_does(what: str) -> None:
    """What is wrong lies below the first row, the only one that is asked for."""
    content = UNUSUAL[what]()
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if expected is None:
        with pytest.raises(ValueError, match=r"damaged or truncated|unknown chunk"):
            png.decode(content, SIZE, 1)
    else:
        np.testing.assert_array_equal(png.decode(content, SIZE, 1), expected[:1])
        np.testing.assert_array_equal(png.decode(content, SIZE), expected)


def with_chunk(kind: bytes, data: bytes, place: int) -> bytes:
    parts = chunks(compressed())
    return file_of([*parts[:place], (kind, data), *parts[place:]])


HEADER = chunks(compressed())[0][1]

TAKEN_DIFFERENTLY = {
    "a second header": (with_chunk(b"IHDR", HEADER, 1), r"second header \(IHDR\) at byte 33"),
    "a second header after the pixels": (with_chunk(b"IHDR", HEADER, -1), "second header"),
    "a longer header": (
        file_of([(b"IHDR", HEADER + b"\0"), *chunks(compressed())[1:]]),
        "14 bytes",
    ),
    "a shorter header": (file_of([(b"IHDR", HEADER[:12]), *chunks(compressed())[1:]]), "12 bytes"),
    "an unknown critical chunk": (with_chunk(b"ABCD", b"data", 1), "unknown chunk 'ABCD'"),
    "a critical chunk of no letters": (with_chunk(b"\0\1\xff\n", b"", 1), "unknown chunk"),
}


@pytest.mark.parametrize(
    ("content", "reason"), TAKEN_DIFFERENTLY.values(), ids=TAKEN_DIFFERENTLY.keys()
)
def test_chunks_that_readers_take_differently_are_refused(content: bytes, reason: str) -> None:
    for check in (png.check_header, png.decode):
        with pytest.raises(ValueError, match=reason) as caught:
            check(content, SIZE)
        assert str(caught.value).isprintable()
    assert png.top_rows(memoryview(content), SIZE, 8) == content


def test_chunks_that_a_decoder_may_pass_over_are_passed_over() -> None:
    content = with_chunk(b"abCd", b"data", 1)
    np.testing.assert_array_equal(png.decode(content, SIZE), png.decode(compressed(), SIZE))
