"""PNG files that are small on the disk and would be huge in memory."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from stvsr.data.clips import png

SIZE = (96, 160)
INFLATED = 256 * 2**20

READ = """
import sys
from pathlib import Path
from stvsr.data.clips import png

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

png.decode(Path(sys.argv[1]).read_bytes(), (96, 160))
before = peak()
try:
    png.decode(Path(sys.argv[2]).read_bytes(), (96, 160))
except ValueError as refusal:
    print(refusal, file=sys.stderr)
print(peak() - before)
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 8, 2, 0, 0, 0))
    return b"".join([png.SIGNATURE, header, *chunks, chunk(b"IEND", b"")])


@pytest.fixture(scope="module")
def nothing() -> bytes:
    """256 MiB of zeros, deflated to 256 KiB."""
    return zlib.compress(bytes(INFLATED), 9)


PIXELS = zlib.compress(bytes(SIZE[0] * (1 + 3 * SIZE[1])))


@pytest.mark.parametrize("bomb", ["pixels", "profile", "text"])
def test_a_bomb_takes_no_more_memory_than_a_frame(
    tmp_path: Path, nothing: bytes, bomb: str
) -> None:
    content = {
        "pixels": png_of(chunk(b"IDAT", nothing)),
        "profile": png_of(chunk(b"iCCP", b"x\0\0" + nothing), chunk(b"IDAT", PIXELS)),
        "text": png_of(chunk(b"zTXt", b"x\0\0" + nothing), chunk(b"IDAT", PIXELS)),
    }[bomb]
    (tmp_path / "sound.png").write_bytes(png_of(chunk(b"IDAT", PIXELS)))
    (tmp_path / "bomb.png").write_bytes(content)
    command = [sys.executable, "-c", READ, tmp_path / "sound.png", tmp_path / "bomb.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # type: ignore[arg-type]
    assert int(done.stdout) < 16 * 2**10  # KiB
