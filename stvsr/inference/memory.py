"""Memory: how large a tile may be, by a simple model of what upscaling takes."""

import re

from stvsr.core.clip import SCALE
from stvsr.core.errors import InputError
from stvsr.inference.upscale import Upscaling
from stvsr.models import StvsrModel

PROCESS = 350 << 20
"""Bytes of a process with torch, PyAV and a network, before the first frame."""

PER_PIXEL = 12
"""Bytes of a pixel of a frame: three channels of float32."""

PER_ACTIVATION = 520
"""Bytes for each input pixel of a tile and channel of the network, with windows of 6 frames.

With `PER_OUTPUT` this is 17 kB per pixel of a tile for the small STDAN; 13 kB were measured on a
CPU (tiles of 128 pixels).
"""

PER_OUTPUT = 4 * PER_PIXEL
"""Bytes for each output pixel of a tile and output frame of a window."""

WINDOW = 6
"""Frames of the windows for which that is stated."""

ENCODER_FRAMES = 6
"""Output frames that reading, conversion and encoder hold, as float32."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as "8GiB", "500M" or "1.5 GB".

    Raises:
        InputError: it is of another form.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"--memory: found {text}; expected a size such as 8GiB or 500MB")
    number, unit, binary = found.groups()
    base = 1024 if binary or not unit else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))


def needed(model: StvsrModel, how: Upscaling, size: tuple[int, int], tile: int) -> int:
    """Bytes that upscaling takes at most, about.

    Args:
        model: the network.
        how: window and scales.
        size: width and height of the input's frames.
        tile: side of a tile.
    """
    width, height = size
    frame = PER_PIXEL * width * height
    made = how.made
    held = frame * 3 * how.window + frame * how.space**2 * (made + ENCODER_FRAMES)
    pixels = min(tile, width) * min(tile, height)
    return PROCESS + held + pixels * _per_tile_pixel(model, how)


def _per_tile_pixel(model: StvsrModel, how: Upscaling) -> int:
    weights = [parameter.shape[0] for parameter in model.parameters() if parameter.ndim == 4]
    channels = sorted(weights)[len(weights) // 2] if weights else 3
    per_frame = int(PER_ACTIVATION * channels * model.memory_factor)
    activations = per_frame * how.made // (2 * WINDOW - 1)
    return activations + PER_OUTPUT * SCALE**2 * how.made


def tile_for(memory: int, model: StvsrModel, how: Upscaling, size: tuple[int, int]) -> int:
    """The largest tile, a multiple of 8 up to 1024, that fits into `memory` bytes.

    Raises:
        InputError: not even the smallest one does; the text says how much it takes.
    """
    smallest = -(-2 * how.tile_overlap // 8) * 8
    tile = 1024
    while tile > smallest and needed(model, how, size, tile) > memory:
        tile -= 8
    least = needed(model, how, size, tile)
    if least > memory:
        raise InputError(
            f"--memory: found {memory >> 20} MiB; expected at least {(least >> 20) + 1} MiB for "
            f"frames of {size[0]}x{size[1]} pixels"
        )
    return tile
