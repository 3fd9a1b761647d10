"""Clips rendered from a folder of photographs: unlimited in number, each by its seed and number.

A clip is a photograph under a moving camera with layers in front of it: pieces of other
photographs, bars, wires and text, nearer ones moved more by the camera, each with a movement of its
own. Movements are steady, accelerating or swinging; layers may ripple; some clips have motion blur,
a change of brightness, noise, a layer that does not move, or no motion at all.

PATH/train and PATH/test hold the photographs of the two splits. Frames are drawn as the sample's,
but with a cubic filter, which takes a quarter of the time and may round otherwise on another
processor.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from stvsr.core.errors import SourceError
from stvsr.core.image import UInt8Image
from stvsr.data.clips.layout import MOTIONS, SPLITS, Motion, SourceRecord, Split
from stvsr.data.sources import drawing
from stvsr.data.sources.drawing import FINE, Floats, Map, Point
from stvsr.data.sources.scene import Scene, render_scenes, write_rendered_record

SUFFIXES = (".jpg", ".png")

SPEEDS: dict[Motion, tuple[float, float]] = {
    "slow": (0.2, 1.5),
    "medium": (1.5, 5.0),
    "fast": (5.0, 14.0),
}
"""Least and greatest camera speed of a motion class, pixels per frame."""

TURNS: dict[Motion, float] = {"slow": 0.003, "medium": 0.008, "fast": 0.014}
"""Greatest rotation (radians) and zoom (natural logarithm) per frame, either way."""

TRIES = 24
"""Places for the camera that are drawn to find some where it stays inside the photograph."""

PLACES = 3
"""Such places, of which the one with most to see is taken."""

KNOTS = 6
"""Control points of a ripple along each side of the frame."""

BLUR_STEPS = 4
"""Moments that are averaged in a frame with motion blur."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?%&"


@dataclass(frozen=True)
class _Path:
    """A movement in the plane over the time t = -3 … 3: steady, bent, and swinging."""

    velocity: Point = (0.0, 0.0)
    bend: Point = (0.0, 0.0)
    swing: Point = (0.0, 0.0)
    rate: float = 1.0
    phase: float = 0.0
    spin: float = 0.0
    growth: float = 0.0

    def offset(self, t: float) -> Point:
        """Displacement at time t, in frame pixels."""
        wave = math.sin(self.rate * t + self.phase)
        x, y = (
            v * t + b * t * t / 2 + s * wave
            for v, b, s in zip(self.velocity, self.bend, self.swing, strict=True)
        )
        return x, y


Warp = Callable[[float], Map]
"""The map from frame to picture pixels at a time."""


@dataclass(frozen=True)
class _Ripple:
    """A smooth displacement of the whole frame that swings, in frame pixels."""

    x: Floats
    y: Floats
    rate: float
    phase: float

    def strength(self, t: float) -> float:
        return math.sin(self.rate * t + self.phase)


@dataclass(frozen=True)
class _Layer:
    """A picture to warp into each frame: whole (no mask) or cut out by its mask, 255 inside."""

    picture: UInt8Image
    mask: UInt8Image | None
    warp: Warp
    ripple: _Ripple | None = None


@dataclass(frozen=True)
class _Look:
    """How a clip's frames are shown: exposure as a share of a frame's time, gain, noise."""

    exposure: float
    gain: float
    fade: float
    offset: float
    noise: int


def photographs(folder: Path, split: Split) -> tuple[Path, ...]:
    """The photographs of a split, in the order of their names.

    Raises:
        SourceError: there are none.
    """
    found = sorted(p for p in (folder / split).glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SourceError(
            f"{folder / split}: found no photographs; expected {' or '.join(SUFFIXES)} files in "
            f"{folder}/train and {folder}/test"
        )
    return tuple(found)


def render_clips(
    folder: Path, train_clips: int, test_clips: int, size: tuple[int, int], seed: int, out: Path
) -> SourceRecord:
    """Render clips into the empty folder `out`, on all cores.

    Clip n of a seed is the same however many are rendered. The motion classes take turns.

    Args:
        folder: has the photographs, in `train/` and `test/`.
        train_clips: clips to render for training.
        test_clips: clips to render for testing.
        size: width and height of the frames.
        seed: decides every scene.
        out: where the layout of `stvsr.data.clips.layout` is written.

    Raises:
        SourceError: a split has no photographs, or one cannot be read.
    """
    clips: dict[Split, int] = {"train": train_clips, "test": test_clips}
    found = {split: photographs(folder, split) for split in SPLITS}
    paths = {split: tuple(map(str, of_split)) for split, of_split in found.items()}
    render_scenes(_frames, clips, paths, size, seed, out)
    names = {split: [path.stem for path in of_split] for split, of_split in found.items()}
    return write_rendered_record("rendered", clips, names, size, seed, out)


def _frames(scene: Scene) -> Iterator[bytes]:
    rng = scene.random()
    layers, look = _compose(rng, scene), _look(rng)
    for t in drawing.times():
        yield drawing.png(_shown(rng, layers, look, t, scene.size), compression=1)


# --- scenes


def _compose(rng: Generator, scene: Scene) -> list[_Layer]:
    """Choose a clip's photographs, layers and movements."""
    chosen = rng.choice(len(scene.photographs), size=min(4, len(scene.photographs)), replace=False)
    behind, *others = (scene.photographs[index] for index in chosen)
    camera = _movement(rng, scene.motion, scene.size[0])
    if scene.motion == "slow" and rng.random() < 0.2:
        camera = _Path()
    layers = [_background(rng, _photograph(behind), camera, scene)]
    count = int(rng.choice(4, p=(0.2, 0.35, 0.3, 0.15)))
    layers += [_front(rng, _photograph(other), camera, scene) for other in others[:count]]
    if rng.random() < 0.15:
        layers.append(_text(rng, camera, scene))
    return layers


def _movement(rng: Generator, motion: Motion, width: int) -> _Path:
    """A movement of a motion class in any direction: steady, accelerating, swinging or shaken."""
    slowest, fastest = SPEEDS[motion]
    speed = math.exp(rng.uniform(math.log(slowest), math.log(fastest))) * min(1.0, width / 256)
    heading = rng.uniform(0.0, 2.0 * math.pi)
    cos, sin = math.cos(heading), math.sin(heading)
    spin, growth = rng.uniform(-1.0, 1.0, 2) * TURNS[motion] * (rng.random(2) < 0.6)
    velocity, bend, swing = (speed * cos, speed * sin), (0.0, 0.0), (0.0, 0.0)
    rate = 1.0
    match rng.choice(4, p=(0.4, 0.3, 0.15, 0.15)):
        case 1:  # accelerating along, and veering off, its way
            along, across = rng.uniform(-0.3, 0.3) * speed, rng.uniform(-0.2, 0.2) * speed
            bend = along * cos - across * sin, along * sin + across * cos
        case 2:  # swinging to and fro
            rate = rng.uniform(0.5, 1.6)
            swing, velocity = (speed / rate * cos, speed / rate * sin), (0.0, 0.0)
        case 3:  # shaken, as a camera held in a hand
            rate, shake = rng.uniform(1.5, 3.0), rng.uniform(0.2, 0.8)
            swing = (shake * sin, -shake * cos)
    phase = rng.uniform(0.0, 2.0 * math.pi)
    return _Path(velocity, bend, swing, rate, phase, float(spin), float(growth))


def _background(rng: Generator, photograph: UInt8Image, camera: _Path, scene: Scene) -> _Layer:
    """The photograph that fills the frame, where the camera stays inside it and sees most."""
    rows, columns = photograph.shape[:2]
    width, height = scene.size
    most = max(0.75, min(1.9, 0.9 * columns / width, 0.9 * rows / height))
    found: list[tuple[float, float, Warp]] = []
    for _ in range(TRIES):
        density = math.exp(rng.uniform(math.log(0.7), math.log(most)))
        x, y = columns * rng.uniform(0.2, 0.8), rows * rng.uniform(0.2, 0.8)
        warp: Warp = partial(_camera_warp, camera, (x, y), density, scene.size)
        outside = max(
            drawing.beyond(warp(t), scene.size, (columns, rows)) for t in (-3.0, 0.0, 3.0)
        )
        top, left = (max(0, int(at - density * 64)) for at in (y, x))
        seen = photograph[top : int(y + density * 64), left : int(x + density * 64)]
        found.append((max(outside, 0.0), -drawing.detail(seen) / density, warp))
        if sum(outside <= 0.0 for outside, *_ in found) == PLACES:
            break
    warp = min(found, key=lambda place: place[:2])[-1]
    return _Layer(photograph, None, warp, _ripple(rng, scene.size) if rng.random() < 0.2 else None)


def _camera_warp(
    path: _Path, centre: Point, density: float, size: tuple[int, int], t: float
) -> Map:
    dx, dy = path.offset(t)
    aim = centre[0] + density * dx, centre[1] + density * dy
    return drawing.similarity(
        drawing.middle(size), aim, density * math.exp(path.growth * t), path.spin * t
    )


def _front(rng: Generator, photograph: UInt8Image, camera: _Path, scene: Scene) -> _Layer:
    """A piece of a photograph in front of the background: rounded, angular, a bar or wires."""
    height = scene.size[1]
    density = rng.uniform(0.8, 1.6)
    half = 0.48 * min(photograph.shape[:2])
    shape = rng.choice(4, p=(0.5, 0.2, 0.18, 0.12))
    if shape < 2:
        reach = int(min(rng.uniform(0.1, 0.4) * height * density, half))
        piece = _piece(rng, photograph, reach, tries=4)
        mask = drawing.blob(rng, 2 * reach) if shape == 0 else _polygon(rng, 2 * reach)
    else:
        reach = int(half)
        piece = _piece(rng, photograph, reach, tries=1)
        mask = _bars(rng, 2 * reach, thin=bool(shape == 3))
    if rng.random() < 0.25:  # out of focus
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(1.0, 4.0)), np.uint8)
    warp = _own_warp(rng, camera, 2 * reach, density, scene)
    return _Layer(piece, mask, warp, _ripple(rng, scene.size) if rng.random() < 0.3 else None)


def _own_warp(rng: Generator, camera: _Path, side: int, density: float, scene: Scene) -> Warp:
    """The movement of a layer: the camera's, as strong as the layer is near, and its own."""
    width, height = scene.size
    nearness = rng.uniform(0.8, 2.0)
    own = _movement(rng, MOTIONS[int(rng.integers(len(MOTIONS)))], width)
    if rng.random() < 0.3:
        own = _Path()
    place = width * rng.uniform(0.15, 0.85), height * rng.uniform(0.15, 0.85)
    return partial(
        _placed, camera, own, nearness, place, drawing.middle((side, side)), density, rng.random()
    )


def _placed(
    camera: _Path,
    own: _Path,
    nearness: float,
    place: Point,
    centre: Point,
    density: float,
    angle: float,
    t: float,
) -> Map:
    (cx, cy), (ox, oy) = camera.offset(t), own.offset(t)
    here = place[0] - nearness * cx + ox, place[1] - nearness * cy + oy
    growth = (camera.growth - own.growth) * t
    turn = angle + (camera.spin - 2.0 * own.spin) * t
    return drawing.similarity(here, centre, density * math.exp(growth), turn)


def _text(rng: Generator, camera: _Path, scene: Scene) -> _Layer:
    """Letters: still, as a logo or subtitles, or moving with the scene."""
    size = int(rng.integers(12, 44))
    lines = [
        "".join(rng.choice(list(LETTERS), size=int(rng.integers(3, 14))))
        for _ in range(int(rng.integers(1, 4)))
    ]
    side = 2 * scene.size[0]
    letters, outlines = (Image.new("L", (side, side)) for _ in range(2))
    font = ImageFont.load_default(2 * size)
    stroke = int(rng.choice((0, 2, 4)))
    for image, width in ((letters, 0), (outlines, stroke)):
        ImageDraw.Draw(image).multiline_text(
            (side / 2, side / 2), "\n".join(lines), 255, font, "mm", stroke_width=width
        )
    mask, inside = np.asarray(outlines), np.asarray(letters)
    dark, light = rng.integers(0, 80, 3), rng.integers(150, 256, 3)
    ink, edge = (light, dark) if rng.random() < 0.7 else (dark, light)
    if not stroke:
        edge = ink
    flat = [np.broadcast_to(colour.astype(np.uint8), (side, side, 3)) for colour in (ink, edge)]
    picture = drawing.blend(flat[1], flat[0], inside)
    if rng.random() < 0.5:
        place = scene.size[0] * rng.uniform(0.3, 0.7), scene.size[1] * rng.uniform(0.2, 0.9)
        still = drawing.similarity(place, drawing.middle((side, side)), 2.0, 0.0)
        return _Layer(picture, mask, lambda _: still)
    return _Layer(picture, mask, _own_warp(rng, camera, side, 2.0, scene))


def _ripple(rng: Generator, size: tuple[int, int]) -> _Ripple:
    """A displacement from random control points under cubic B-splines, on the fine grid."""
    amplitude = math.exp(rng.uniform(math.log(0.5), math.log(5.0)))
    across, down = (_spline(FINE * side) for side in size)
    x, y = (
        sum(
            (down[:, i, None] * _weighted(across, row) for i, row in enumerate(knots)),
            np.zeros((FINE * size[1], FINE * size[0])),
        )
        for knots in amplitude * rng.uniform(-1.0, 1.0, (2, KNOTS, KNOTS))
    )
    return _Ripple(x, y, rng.uniform(0.3, 1.5), rng.uniform(0.0, 2.0 * math.pi))


def _weighted(splines: Floats, knots: Floats) -> Floats:
    return np.asarray(sum(splines[:, i] * knot for i, knot in enumerate(knots)), np.float64)


@lru_cache(maxsize=8)
def _spline(n: int) -> Floats:
    """(n, KNOTS) weights of uniform cubic B-splines at n places."""
    at = np.arange(n) * (KNOTS - 3) / n
    away = np.abs(at[:, None] - (np.arange(KNOTS) - 1.0))
    near = (4.0 - 6.0 * away**2 + 3.0 * away**3) / 6.0
    far = np.maximum(2.0 - away, 0.0) ** 3 / 6.0
    return np.where(away < 1.0, near, far)


def _look(rng: Generator) -> _Look:
    return _Look(
        exposure=rng.uniform(0.3, 0.9) if rng.random() < 0.15 else 0.0,
        gain=rng.uniform(0.75, 1.15),
        fade=rng.uniform(-0.04, 0.04) if rng.random() < 0.1 else 0.0,
        offset=rng.uniform(-12.0, 16.0),
        noise=int(rng.integers(1, 5)) if rng.random() < 0.1 else 0,
    )


# --- pieces and masks


def _piece(rng: Generator, photograph: UInt8Image, reach: int, tries: int) -> UInt8Image:
    """A square of 2 * reach pixels, of some the one with most to see."""
    rows, columns = photograph.shape[:2]
    pieces = []
    for _ in range(tries):
        x = int(rng.integers(reach, columns - reach + 1))
        y = int(rng.integers(reach, rows - reach + 1))
        pieces.append(photograph[y - reach : y + reach, x - reach : x + reach])
    return np.ascontiguousarray(max(pieces, key=drawing.detail))


def _polygon(rng: Generator, side: int) -> UInt8Image:
    """(side, side) mask of a polygon of 3 to 8 corners, as a star or convex."""
    corners = int(rng.integers(3, 9))
    points = []
    for corner in range(corners):
        angle = 2.0 * math.pi * (corner + rng.uniform(-0.3, 0.3)) / corners
        radius = rng.uniform(0.5, 0.95) * side / 2
        points.append((side / 2 + radius * math.cos(angle), side / 2 + radius * math.sin(angle)))
    return _filled([points], side)


def _bars(rng: Generator, side: int, *, thin: bool) -> UInt8Image:
    """(side, side) mask of one to five parallel bars, or of thin wires, from edge to edge."""
    bars = []
    for _ in range(int(rng.integers(1, 6))):
        wide = rng.uniform(1.5, 5.0) if thin else rng.uniform(6.0, 50.0)
        left, lean = rng.uniform(0.1, 0.9) * side, rng.uniform(-0.1, 0.1) * side
        bars.append([(left, 2.0), (left + wide, 2.0), (left + wide + lean, side - 3.0),
                     (left + lean, side - 3.0)])  # fmt: skip
    return _filled(bars, side)


def _filled(polygons: Sequence[Sequence[Point]], side: int) -> UInt8Image:
    """(side, side) mask of polygons with soft edges, 255 inside."""
    finer = 4
    drawn = np.zeros((finer * side, finer * side), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(drawn, [np.rint(np.array(polygon) * finer).astype(np.int32)], (255,))
    return np.asarray(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=24)
def _photograph(path: str) -> UInt8Image:
    """(h, w, 3) RGB."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read as a photograph ({error})") from None


# --- frames


def _shown(
    rng: Generator, layers: Sequence[_Layer], look: _Look, t: float, size: tuple[int, int]
) -> UInt8Image:
    """The frame at time t, (H, W, 3) RGB, as a camera of this look shows it."""
    if look.exposure:
        moments = [look.exposure * (k / (BLUR_STEPS - 1) - 0.5) for k in range(BLUR_STEPS)]
        drawn = (_draw(layers, t + moment, size, cv2.INTER_LINEAR) for moment in moments)
        total = sum(frame.astype(np.uint16) for frame in drawn)
        frame = np.asarray((total + BLUR_STEPS // 2) // BLUR_STEPS, np.uint8)
    else:
        frame = _draw(layers, t, size)
    gain = look.gain + look.fade * t
    levels = np.rint(np.clip(np.arange(256) * gain + look.offset, 0, 255)).astype(np.uint8)
    frame = np.asarray(levels[frame], np.uint8)
    if look.noise:
        noise = rng.integers(-look.noise, look.noise + 1, (2, *frame.shape), np.int16).sum(axis=0)
        frame = np.clip(frame + noise, 0, 255).astype(np.uint8)
    return frame


def _draw(
    layers: Sequence[_Layer],
    t: float,
    size: tuple[int, int],
    interpolation: int = cv2.INTER_CUBIC,
) -> UInt8Image:
    """The stacked layers at time t, (H, W, 3) RGB."""
    canvas = np.zeros((FINE * size[1], FINE * size[0], 3), np.uint8)
    for layer in layers:
        warp = drawing.from_fine_grid(layer.warp(t))
        rows, columns = _window(layer, warp, canvas.shape[:2])
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        x, y = drawing.places(warp, rows, columns)
        if layer.ripple:
            strength = FINE * layer.ripple.strength(t)
            dx, dy = (strength * d[rows, columns] for d in (layer.ripple.x, layer.ripple.y))
            x, y = (u + row[0] * dx + row[1] * dy for u, row in zip((x, y), warp, strict=True))
        tables = drawing.fixed_point(x, y)
        picture = cv2.remap(
            layer.picture, *tables, interpolation, borderMode=cv2.BORDER_REFLECT_101
        )
        front = np.asarray(picture, np.uint8)
        if layer.mask is not None:
            mask = np.asarray(cv2.remap(layer.mask, *tables, cv2.INTER_LINEAR), np.uint8)
            front = drawing.blend(canvas[rows, columns], front, mask)
        canvas[rows, columns] = front
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.LANCZOS))


def _window(layer: _Layer, warp: Map, extent: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of the fine grid that a layer covers: all, or around its mask."""
    if layer.mask is None:
        return slice(0, extent[0]), slice(0, extent[1])
    side = layer.mask.shape[0]
    corners = np.array([[-1, -1, 1], [side, -1, 1], [-1, side, 1], [side, side, 1]], float)
    x, y = cv2.invertAffineTransform(warp) @ corners.T
    margin = 12 * FINE if layer.ripple else 0
    rows = slice(max(0, math.floor(y.min()) - margin), min(extent[0], math.ceil(y.max()) + margin))
    return rows, slice(
        max(0, math.floor(x.min()) - margin), min(extent[1], math.ceil(x.max()) + margin)
    )
