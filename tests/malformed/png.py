"""Damage to PNG files, most of it with right checksums, so that a decoder has to see it itself."""

import struct
import zlib
from collections.abc import Callable, Mapping
from random import Random

from tests.malformed.damage import BYTES
from tests.malformed.kind import Bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Chunk = tuple[bytes, bytes]
Chunks = list[Chunk]
OnChunks = Callable[[Random, Chunks], Chunks]


def chunks_of(png: bytes) -> Chunks:
    found, at = [], len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks: Chunks) -> bytes:
    return SIGNATURE + b"".join(packed(*chunk) for chunk in chunks)


def packed(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def on_chunks(change: OnChunks) -> Bytes:
    return lambda random, whole: png_of(change(random, chunks_of(whole)))


def header(**fields: int) -> OnChunks:
    """Other numbers in IHDR: width, height, depth, colour, compression, filter, interlace."""
    names = ("width", "height", "depth", "colour", "compression", "filter", "interlace")

    def change(random: Random, chunks: Chunks) -> Chunks:
        values = dict(zip(names, struct.unpack(">IIBBBBB", chunks[0][1]), strict=True))
        values |= {
            name: value if value >= 0 else values[name] + value for name, value in fields.items()
        }
        return [(b"IHDR", struct.pack(">IIBBBBB", *values.values())), *chunks[1:]]

    return change


def stream(change: Callable[[Random, bytes], bytes]) -> OnChunks:
    """Another zlib stream in one IDAT."""

    def on_stream(random: Random, chunks: Chunks) -> Chunks:
        data = b"".join(data for kind, data in chunks if kind == b"IDAT")
        return [chunks[0], (b"IDAT", change(random, data)), (b"IEND", b"")]

    return on_stream


def lines(change: Callable[[Random, bytearray], bytes]) -> OnChunks:
    """Other filtered lines, compressed rightly."""
    return stream(
        lambda random, data: zlib.compress(change(random, bytearray(zlib.decompress(data))), 1)
    )


def before_pixels(*added: Chunk) -> OnChunks:
    def change(random: Random, chunks: Chunks) -> Chunks:
        return [chunks[0], *added, *chunks[1:]]

    return change


def _dropped(random: Random, chunks: Chunks) -> Chunks:
    at = random.randrange(len(chunks))
    return chunks[:at] + chunks[at + 1 :]


def _doubled(random: Random, chunks: Chunks) -> Chunks:
    at = random.randrange(len(chunks))
    return chunks[: at + 1] + chunks[at:]


def _shuffled(random: Random, chunks: Chunks) -> Chunks:
    return random.sample(chunks, len(chunks))


def _second_header(random: Random, chunks: Chunks) -> Chunks:
    size = struct.pack(">II", *random.choice([(160, 96), (96, 160), (64, 64), (2**31 - 1, 1)]))
    return [chunks[0], (b"IHDR", size + chunks[0][1][8:]), *chunks[1:]]


def _long_header(random: Random, chunks: Chunks) -> Chunks:
    return [(b"IHDR", chunks[0][1] + bytes(random.randrange(1, 9))), *chunks[1:]]


def _short_header(random: Random, chunks: Chunks) -> Chunks:
    return [(b"IHDR", chunks[0][1][: random.randrange(13)]), *chunks[1:]]


def _late_header(random: Random, chunks: Chunks) -> Chunks:
    return [(b"tEXt", b"a\0b"), *chunks]


def _after_the_end(random: Random, chunks: Chunks) -> Chunks:
    return [*chunks, *chunks[1:]]


def _pixels_interrupted(random: Random, chunks: Chunks) -> Chunks:
    data = b"".join(data for kind, data in chunks if kind == b"IDAT")
    at = random.randrange(1, len(data))
    between = random.choice([b"tEXt", b"tIME", b"IDOT"])
    return [chunks[0], (b"IDAT", data[:at]), (between, b"a\0b"), (b"IDAT", data[at:]), chunks[-1]]


def _animated(random: Random, chunks: Chunks) -> Chunks:
    pixels = b"".join(data for kind, data in chunks if kind == b"IDAT")
    size = chunks[0][1][:8]
    control = [
        struct.pack(">I", number) + size + struct.pack(">IIHHBB", 0, 0, 1, 25, 0, 0)
        for number in (0, 1)
    ]
    other = zlib.compress(bytes(len(zlib.decompress(pixels))))
    return [
        chunks[0],
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", control[0]),
        (b"IDAT", pixels),
        (b"fcTL", control[1]),
        (b"fdAT", struct.pack(">I", 2) + other),
        (b"IEND", b""),
    ]


def _wrong_crc(random: Random, whole: bytes) -> bytes:
    chunks = chunks_of(whole)
    at = random.randrange(len(chunks))
    parts = [packed(*chunk) for chunk in chunks]
    parts[at] = parts[at][:-4] + random.randbytes(4)
    return SIGNATURE + b"".join(parts)


def _wrong_length(random: Random, whole: bytes) -> bytes:
    chunks = chunks_of(whole)
    at = random.randrange(len(chunks))
    parts = [packed(*chunk) for chunk in chunks]
    length = random.choice([0, 1, len(chunks[at][1]) + 1, 2**31 - 1, 2**32 - 1])
    parts[at] = struct.pack(">I", length) + parts[at][4:]
    return SIGNATURE + b"".join(parts)


def _bad_filter(random: Random, raw: bytearray) -> bytes:
    line = 1 + 3 * 160
    raw[line * random.randrange(len(raw) // line)] = random.randrange(5, 256)
    return bytes(raw)


NOTHING = bytes(64 * 2**20)
BOMB = zlib.compress(NOTHING, 9)

GAMMA = (b"gAMA", struct.pack(">I", 100_000))
CHROMATICITIES = (b"cHRM", struct.pack(">8I", *[20_000] * 8))
LINEAR_PROFILE = (b"iCCP", b"x\0\0" + zlib.compress(bytes(3144)))
ROTATED = (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")

PNG: Mapping[str, Bytes] = {
    **{f"bytes: {name}": change for name, change in BYTES.items()},
    "wrong CRC": _wrong_crc,
    "wrong length": _wrong_length,
    "signature only": lambda random, whole: SIGNATURE,
    "other signature": lambda random, whole: b"GIF89a\0\0" + whole[8:],
    **{
        name: on_chunks(change)
        for name, change in {
            "dropped chunk": _dropped,
            "doubled chunk": _doubled,
            "shuffled chunks": _shuffled,
            "second IHDR": _second_header,
            "long IHDR": _long_header,
            "short IHDR": _short_header,
            "IHDR not first": _late_header,
            "chunks after IEND": _after_the_end,
            "chunk between IDATs": _pixels_interrupted,
            "animated": _animated,
            "huge": header(width=2**31 - 1, height=2**31 - 1),
            "wide": header(width=2**24),
            "no width": header(width=0),
            "no height": header(height=0),
            "fewer rows": header(height=-4),
            "fewer columns": header(width=-4),
            "depth 16": header(depth=16),
            "depth 4": header(depth=4),
            "grey": header(colour=0),
            "palette": header(colour=3),
            "with alpha": header(colour=6),
            "interlaced": header(interlace=1),
            "compression 1": header(compression=1),
            "filter method 64": header(filter=64),
            "critical unknown chunk": before_pixels((b"ABCD", b"1234")),
            "ancillary unknown chunk": before_pixels((b"abCd", b"1234")),
            "transparent colour": before_pixels((b"tRNS", bytes(6))),
            "long transparent colour": before_pixels((b"tRNS", bytes(300))),
            "palette beside colours": before_pixels((b"PLTE", bytes(range(30)))),
            "palette of 257": before_pixels((b"PLTE", bytes(3 * 257))),
            "gamma 1": before_pixels(GAMMA),
            "gamma 0": before_pixels((b"gAMA", bytes(4))),
            "chromaticities": before_pixels(CHROMATICITIES, GAMMA),
            "profile": before_pixels(LINEAR_PROFILE),
            "significant bits": before_pixels((b"sBIT", bytes([1, 2, 3]))),
            "rotated by Exif": before_pixels(ROTATED),
            "background": before_pixels((b"bKGD", bytes(6))),
            "bomb of text": before_pixels((b"zTXt", b"x\0\0" + BOMB)),
            "bomb of a profile": before_pixels((b"iCCP", b"x\0\0" + BOMB)),
            "bomb of pixels": lines(lambda random, raw: bytes(raw + NOTHING)),
            "empty IDAT": before_pixels((b"IDAT", b"")),
            "cut stream": stream(lambda random, data: data[: random.randrange(len(data))]),
            "wrong Adler-32": stream(lambda random, data: data[:-4] + random.randbytes(4)),
            "stream and more": stream(lambda random, data: data + random.randbytes(9)),
            "two streams": stream(lambda random, data: data + data),
            "dictionary": stream(lambda random, data: b"\x78\xbb" + data[2:]),
            "filter 5 and more": lines(_bad_filter),
            "rows missing": lines(lambda random, raw: bytes(raw[: len(raw) // 2])),
            "rows too many": lines(lambda random, raw: bytes(raw + raw[: 1 + 3 * 160])),
            "one byte too few": lines(lambda random, raw: bytes(raw[:-1])),
            "one byte too many": lines(lambda random, raw: bytes(raw + b"\0")),
        }.items()
    },
}
