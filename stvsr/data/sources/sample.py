"""The built-in sample: clips rendered from photographs that ship inside two PyPI packages.

Every clip is a photograph under a moving camera (pan, zoom, rotation) with cut-outs of other
photographs that move against it. Train and test use different photographs. Frames are drawn on a
grid twice as fine and reduced with a Lanczos filter, from photographs of at least the frame's own
resolution, so that they hold real detail without aliasing.

The same seed gives the same pixels on every machine: all randomness comes from seeded generators,
all resampling is fixed-point arithmetic on 8-bit images.
"""

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.clips.layout import (
    FRAMES,
    MOTIONS,
    Motion,
    SourceRecord,
    Split,
)
from stvsr.data.sources import drawing
from stvsr.data.sources.drawing import Point
from stvsr.data.sources.scene import Scene, render_scenes, write_rendered_record

BACKGROUNDS: dict[Split, tuple[str, ...]] = {
    "train": (
        "sklearn/datasets/images/china.jpg",
        "skimage/data/astronaut.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/camera.png",
        "skimage/data/ihc.png",
    ),
    "test": (
        "skimage/data/coffee.png",
        "sklearn/datasets/images/flower.jpg",
        "skimage/data/rocket.jpg",
    ),
}
"""Photographs that fill the frame; no photograph serves both splits."""

CUTOUTS: dict[Split, tuple[str, ...]] = {
    "train": (
        *BACKGROUNDS["train"],
        "skimage/data/chelsea.png",
        "skimage/data/brick.png",
        "skimage/data/gravel.png",
    ),
    "test": (*BACKGROUNDS["test"], "skimage/data/coins.png"),
}
"""Photographs that the moving layers are cut from."""

SPEEDS: dict[Motion, tuple[float, float]] = {
    "slow": (0.3, 1.1),
    "medium": (2.0, 4.2),
    "fast": (6.5, 12.0),
}
"""Least and greatest camera speed of a motion class, in pixels of a frame 448 wide per frame."""

TURNS: dict[Motion, float] = {"slow": 0.0015, "medium": 0.006, "fast": 0.012}
"""Greatest rotation (radians) and zoom (natural logarithm) per frame, either way."""


@dataclass(frozen=True)
class _Path:
    """A smooth movement in the plane over the time t = -3 … 3 of a clip's seven frames."""

    velocity: Point
    bend: Point
    spin: float
    growth: float

    def offset(self, t: float) -> Point:
        """Displacement at time t, in frame pixels."""
        (vx, vy), (bx, by) = self.velocity, self.bend
        return vx * t + bx * t * t / 2, vy * t + by * t * t / 2

    def scale(self, t: float) -> float:
        return math.exp(self.growth * t)


@dataclass(frozen=True)
class _Layer:
    """A picture to warp into each frame: whole (no mask) or cut out by its mask.

    Attributes:
        picture: (h, w, 3) RGB.
        mask: (h, w), 255 where the layer covers what is behind; None: everywhere.
        warps: for each frame the 2x3 map from frame to picture pixels.
    """

    picture: UInt8Image
    mask: UInt8Image | None
    warps: tuple[NDArray[np.float64], ...]


def make_sample(
    train_clips: int, test_clips: int, size: tuple[int, int], seed: int, out: Path
) -> SourceRecord:
    """Render the sample into the empty folder `out`, on all cores.

    Clips take the motion classes slow, medium and fast in turn; the lists of the classes are
    written for both splits.

    Args:
        train_clips: clips to render for training.
        test_clips: clips to render for testing, from other photographs.
        size: width and height of the frames.
        seed: decides every scene.
        out: where the layout of `stvsr.data.clips.layout` is written.

    Raises:
        SourceError: the packages that carry the photographs are not installed.
    """
    for name in {*CUTOUTS["train"], *CUTOUTS["test"]}:
        _photograph_path(name)
    clips: dict[Split, int] = {"train": train_clips, "test": test_clips}
    render_scenes(_frames, clips, CUTOUTS, size, seed, out)
    names = {split: [Path(name).name for name in CUTOUTS[split]] for split in BACKGROUNDS}
    return write_rendered_record("sample", clips, names, size, seed, out)


def _frames(scene: Scene) -> Iterator[bytes]:
    layers = _compose(scene)
    for index in range(len(FRAMES)):
        yield drawing.png(_draw(layers, index, scene.size))


def _compose(scene: Scene) -> list[_Layer]:
    """Choose a clip's photographs, cut-outs and movements."""
    rng = scene.random()
    backgrounds = BACKGROUNDS[scene.split]
    behind = backgrounds[(scene.number // len(MOTIONS) + scene.number) % len(backgrounds)]
    others = [name for name in CUTOUTS[scene.split] if name != behind]
    count = 1 + int(rng.integers(0, 3))
    chosen = rng.choice(len(others), size=count, replace=False)
    cutouts = [_cutout(rng, _photograph(others[index]), scene) for index in chosen]
    return [_background(rng, _photograph(behind), scene), *cutouts]


def _movement(rng: Generator, motion: Motion, width: int) -> _Path:
    """A movement of a motion class: any direction, slightly bent, with some zoom and rotation."""
    slowest, fastest = SPEEDS[motion]
    speed = rng.uniform(slowest, fastest) * width / 448
    heading = rng.uniform(0.0, 2.0 * math.pi)
    veer = rng.uniform(-0.08, 0.08) * speed
    cos, sin = math.cos(heading), math.sin(heading)
    turn = TURNS[motion]
    spin, growth = rng.uniform(-turn, turn), rng.uniform(-turn, turn)
    return _Path((speed * cos, speed * sin), (-veer * sin, veer * cos), spin, growth)


def _background(rng: Generator, photograph: UInt8Image, scene: Scene) -> _Layer:
    """The photograph that fills the frame, under the camera movement that stays inside it best.

    Of 64 movements drawn, the one whose frame leaves the photograph least is taken; what is
    beyond its border, if anything, is mirrored.
    """
    width, height = scene.size
    rows, columns = photograph.shape[:2]
    best, least = None, math.inf
    for _ in range(64):
        path = _movement(rng, scene.motion, width)
        density = rng.uniform(1.0, 1.3)
        centre = columns * rng.uniform(0.3, 0.7), rows * rng.uniform(0.3, 0.7)
        warps = tuple(_camera_warp(path, t, centre, density, scene.size) for t in drawing.times())
        beyond = max(drawing.beyond(warp, scene.size, (columns, rows)) for warp in warps)
        if beyond < least:
            best, least = warps, beyond
        if least <= 0.0:
            break
    return _Layer(photograph, None, best or ())


def _camera_warp(
    path: _Path, t: float, centre: Point, density: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    dx, dy = path.offset(t)
    aim = centre[0] + density * dx, centre[1] + density * dy
    return drawing.similarity(drawing.middle(size), aim, density * path.scale(t), path.spin * t)


def _cutout(rng: Generator, photograph: UInt8Image, scene: Scene) -> _Layer:
    """A rounded piece of a photograph that floats through the frame on its own path."""
    width, height = scene.size
    rows, columns = photograph.shape[:2]
    density = rng.uniform(1.0, 1.5)
    radius = min(rng.uniform(0.12, 0.3) * height * density, 0.45 * min(rows, columns))
    reach = math.ceil(radius)
    pieces = []
    for _ in range(6):
        x = int(rng.integers(reach, columns - reach))
        y = int(rng.integers(reach, rows - reach))
        pieces.append(photograph[y - reach : y + reach, x - reach : x + reach])
    piece = max(pieces, key=drawing.detail)  # an empty sky would float unseen

    path = _movement(rng, scene.motion, width)
    start = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8)
    middle = drawing.middle((2 * reach, 2 * reach))
    warps = []
    for t in drawing.times():
        dx, dy = path.offset(t)
        place = start[0] + dx, start[1] + dy
        warps.append(drawing.similarity(place, middle, density / path.scale(t), -path.spin * t))
    return _Layer(np.ascontiguousarray(piece), drawing.blob(rng, 2 * reach), tuple(warps))


def _draw(layers: list[_Layer], index: int, size: tuple[int, int]) -> UInt8Image:
    """Frame `index` (0..6) of the stacked layers, (H, W, 3) RGB."""
    canvas = np.zeros((drawing.FINE * size[1], drawing.FINE * size[0], 3), np.uint8)
    for layer in layers:
        warp = drawing.from_fine_grid(layer.warps[index])
        rows, columns = _window(layer, warp, canvas.shape[:2])
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        tables = drawing.fixed_point(*drawing.places(warp, rows, columns))
        picture = cv2.remap(
            layer.picture, *tables, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
        )
        front = np.asarray(picture, np.uint8)
        if layer.mask is not None:
            mask = np.asarray(cv2.remap(layer.mask, *tables, cv2.INTER_LINEAR), np.uint8)
            front = drawing.blend(canvas[rows, columns], front, mask)
        canvas[rows, columns] = front
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.LANCZOS))


def _window(
    layer: _Layer, warp: NDArray[np.float64], extent: tuple[int, ...]
) -> tuple[slice, slice]:
    """The rows and columns of the fine grid that a layer covers: all, or around its cut-out."""
    if layer.mask is None:
        return slice(0, extent[0]), slice(0, extent[1])
    side = layer.mask.shape[0]
    corners = np.array([[-1, -1, 1], [side, -1, 1], [-1, side, 1], [side, side, 1]], float)
    x, y = cv2.invertAffineTransform(warp) @ corners.T
    rows = slice(max(0, math.floor(y.min())), min(extent[0], math.ceil(y.max()) + 1))
    return rows, slice(max(0, math.floor(x.min())), min(extent[1], math.ceil(x.max()) + 1))


@lru_cache(maxsize=32)
def _photograph(name: str) -> UInt8Image:
    """(h, w, 3) RGB."""
    with Image.open(_photograph_path(name)) as image:
        return np.asarray(image.convert("RGB"))


def _photograph_path(name: str) -> Path:
    """Where a photograph is, without importing the package that carries it."""
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, inside)).is_file():
            return path
    distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
    raise SourceError(
        f"the sample's photograph {name} is not on this machine; it ships inside {distribution}: "
        f'install it with `pip install "stvsr[data]"`'
    )
