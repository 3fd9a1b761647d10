"""PNG files of 8-bit RGB, the only images in a shard."""

import struct

import cv2
import numpy as np
from isal import isal_zlib

from stvsr.core.image import UInt8Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"

LAST_FILTER = 4
"""The filter of a line is a number from 0 to this."""

ANCILLARY = 0x20
"""Set in the first letter of a chunk that a decoder may pass over."""

HEADER_BYTES = 13
"""Bytes of an IHDR chunk's data."""

CRITICAL = frozenset({b"PLTE", b"IDAT", b"IEND"})
"""Chunks after IHDR that a decoder must know; a PNG with another one means more than we read."""
MAX_PIXELS = 2**26
"""An image of more pixels than this (8K has half of it) is not decoded."""

_AS_IT_IS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def read_size(content: bytes | memoryview) -> tuple[int, int]:
    """(H, W) of a PNG, from its header; nothing is decoded.

    Raises:
        ValueError: it is no PNG, or has no pixels or more than `MAX_PIXELS`.
    """
    if len(content) < 33 or bytes(content[:8]) != SIGNATURE or bytes(content[12:16]) != b"IHDR":
        raise ValueError("not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"a PNG of {width}x{height} pixels; at most {MAX_PIXELS} are read")
    return height, width


def check_header(content: bytes | memoryview, size: tuple[int, int]) -> None:
    """Refuse what does not begin as an 8-bit RGB PNG of `size` = (H, W); nothing is decoded.

    Its chunks are looked through too: readers differ in what they make of a second header, of one
    of another length, and of a critical chunk that they do not know.

    Raises:
        ValueError: says what the header holds, or which chunk is not allowed.
    """
    if len(content) < 33 or bytes(content[:8]) != SIGNATURE or bytes(content[12:16]) != b"IHDR":
        raise ValueError("not a PNG file")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    if (height, width, depth, colour) != (*size, 8, 2):
        raise ValueError(
            f"a PNG of {width}x{height} pixels, bit depth {depth}, colour type {colour}, where "
            f"{size[1]}x{size[0]}, 8, 2 (RGB) is needed"
        )
    _check_chunks(content)


def _check_chunks(content: bytes | memoryview) -> None:
    """Refuse a chunk IHDR of another length and, up to IEND, chunks that readers take differently.

    A file that ends too early is left to the decoder.
    """
    place, before, has_pixels = len(SIGNATURE), b"", False
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        is_header = place == len(SIGNATURE)
        if is_header and length != HEADER_BYTES:
            raise ValueError(f"its header (IHDR) has {length} bytes, allowed are {HEADER_BYTES}")
        if not (is_header or kind[0] & ANCILLARY or kind in CRITICAL):
            name = kind.decode("ascii", "backslashreplace")
            what = "a second header (IHDR)" if kind == b"IHDR" else f"the unknown chunk {name!r}"
            raise ValueError(f"{what} at byte {place}, which is not allowed")
        if kind == b"IDAT" and has_pixels and before != b"IDAT":
            raise ValueError(f"pixels (IDAT) at byte {place} after another chunk")
        if kind == b"IEND":
            return
        before, has_pixels = kind, has_pixels or kind == b"IDAT"
        place += 12 + length


def decode(
    content: bytes | memoryview, size: tuple[int, int], rows: int | None = None
) -> UInt8Image:
    """Decode an 8-bit RGB PNG of `size` = (H, W) to (H, W, 3), or (rows, W, 3), 0..255.

    libpng reads it, as it does for DALI on a CPU, so the two refuse the same files; Pillow takes
    one whose pixels end early for whole.

    Args:
        content: the file.
        size: what its header must say.
        rows: how many rows are wanted, from the first; None: all. The rest must be valid too.

    Raises:
        ValueError: the file is damaged or of another size or kind.
    """
    check_header(content, size)
    height, width = size
    if len(content) < height * (1 + 3 * width):  # it is compressed
        content = top_rows(memoryview(content), size, rows or height)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), _AS_IT_IS)
    if image is None:
        raise ValueError("its pixels are damaged or truncated")
    return np.asarray(image[:rows], np.uint8)


def top_rows(content: memoryview, size: tuple[int, int], rows: int) -> bytes | memoryview:
    """A PNG of the first `rows` rows of an 8-bit RGB PNG of `size` = (H, W), pixels not compressed.

    A decoder is done with it in a third of the time or less, and igzip inflates faster than zlib,
    so that both together take some 60 % of the time that decoding the whole takes. The file is
    checked as a whole all the same: one with anything unusual about it, let alone wrong, comes back
    as it is, for the decoder to check.

    Args:
        content: the file.
        size: what its header says, as `check_header` holds it to.
        rows: 1..H.
    """
    height, width = size
    stream = _pixel_stream(content)
    if stream is None:
        return content
    line = 1 + 3 * width
    inflater = isal_zlib.decompressobj()
    try:
        lines = inflater.decompress(stream, height * line + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stub takes the class for an instance
        return content
    if len(lines) != height * line or not inflater.eof or inflater.unused_data:
        return content
    if np.frombuffer(lines, np.uint8)[::line].max() > LAST_FILTER:
        return content
    return _stored_png(lines[: rows * line], (rows, width))


def _pixel_stream(content: memoryview) -> bytes | None:
    """The zlib stream of a plain PNG: one image, not interlaced, its chunks whole; else None."""
    stream: list[memoryview] = []
    place, kind = len(SIGNATURE), b""
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = bytes(content[place + 4 : place + 8]), content[place + 8 : place + 8 + length]
        following = place + 12 + length
        if (kind == b"IHDR") != (place == len(SIGNATURE) and length == HEADER_BYTES):
            return None
        if following > len(content) or kind == b"acTL" or (kind == b"IHDR" and any(data[10:])):
            return None
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            (crc,) = struct.unpack_from(">I", content, following - 4)
            if isal_zlib.crc32(content[place + 4 : following - 4]) != crc:
                return None
        elif not kind[0] & ANCILLARY:
            return None
        if kind == b"IDAT":
            stream.append(data)
        place = following
        if kind == b"IEND":
            break
    return b"".join(stream) if kind == b"IEND" else None


def encode_stored(image: UInt8Image) -> bytes:
    """Make a PNG whose pixels are stored, not compressed.

    Compressed bytes differ between versions of zlib and of Pillow; these are the same everywhere,
    and quicker to read. An LR frame has 1/16 of an HR frame's pixels, so this costs a shard about
    3 % of its size.

    Args:
        image: (H, W, 3), RGB, 0..255.
    """
    height, width, _ = image.shape
    lines = np.zeros((height, 1 + width * 3), np.uint8)  # each line opens with its filter: none
    lines[:, 1:] = image.reshape(height, -1)
    return _stored_png(lines.tobytes(), (height, width))


def _stored_png(lines: bytes, size: tuple[int, int]) -> bytes:
    """A PNG of filtered lines, each of which opens with the number of its filter."""
    height, width = size
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [SIGNATURE]
    for kind, data in ((b"IHDR", header), (b"IDAT", _stored_zlib(lines)), (b"IEND", b"")):
        crc = isal_zlib.crc32(data, isal_zlib.crc32(kind))
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)]
    return b"".join(parts)


def _stored_zlib(content: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950; RFC 1951, section 3.2.4)."""
    most = 0xFFFF
    stream = [b"\x78\x01"]
    for start in range(0, len(content), most):
        block = content[start : start + most]
        last = start + most >= len(content)
        stream += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join([*stream, struct.pack(">I", isal_zlib.adler32(content))])
