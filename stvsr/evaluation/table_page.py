"""The tables as one self-contained HTML page, with pictures of the methods side by side."""

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.core.clip import SCALE
from stvsr.core.color import rgb_to_y
from stvsr.core.errors import SourceError
from stvsr.evaluation.clip_pictures import (
    PicturedClip,
    picture_png,
    read_picture,
    read_pictured,
)
from stvsr.evaluation.page import page_template
from stvsr.evaluation.scores import Crop
from stvsr.evaluation.set_scores import SetScores
from stvsr.metrics import psnr_y

CROP = 128
"""Side of the crops, in HR pixels."""

DIFFERENCE_GAIN = 4
"""Factor by which difference maps are made brighter."""


@dataclass(frozen=True)
class Table:
    """One table, however it is written.

    Attributes:
        title: the set, or what the table is of.
        notes: the conditions, and what was missing or left out.
        header: names of the columns.
        rows: cells; the first one is the method.
        scores: what it was made of, the best first; none for an overview.
    """

    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    scores: tuple[SetScores, ...] = ()


@dataclass(frozen=True)
class Panel:
    """The pictures of one method, as PNGs in base 64; "" where there is none.

    Attributes:
        label: the method.
        psnr_y: of the whole frame; None for the ground truth.
        crop: the part in which methods and baseline differ most.
        difference: its difference to the ground truth on Y.
        profile: one row of the frames over time.
    """

    label: str
    psnr_y: float | None
    crop: str
    difference: str
    profile: str


@dataclass(frozen=True)
class ClipPanels:
    """The methods side by side on one clip.

    Attributes:
        shown: which clip, frame and row.
        crop: where the crops were cut.
        panels: ground truth, baseline, then the methods.
    """

    shown: PicturedClip
    crop: Crop
    panels: tuple[Panel, ...]


def table_page(tables: Sequence[Table], note: str, folders: Mapping[int, Path]) -> str:
    """The page as text.

    Args:
        tables: what it shows, in order.
        note: how the figures are read.
        folders: folder of each score by the score's `id`; one without pictures has none.

    Raises:
        SourceError: a picture is missing or damaged.
    """
    sections = [(table, list(_clip_panels(table, folders))) for table in tables]
    return page_template("table.html.j2").render(
        sections=sections, note=note, difference_gain=DIFFERENCE_GAIN
    )


def _clip_panels(table: Table, folders: Mapping[int, Path]) -> Iterator[ClipPanels]:
    """The clips that have pictures; a method whose score has others of a clip is left out there."""
    stems: dict[tuple[str, int], dict[str, Path]] = {}
    shown: dict[tuple[str, int], PicturedClip] = {}
    for score in table.scores:
        for stem, pictured in read_pictured(folders[id(score)]).items():
            key = pictured.clip, pictured.frame
            shown.setdefault(key, pictured)
            if pictured == shown[key]:
                of_methods = stems.setdefault(key, {})
                of_methods[_unique(score.method, of_methods)] = stem
    for key, of_methods in stems.items():
        yield _panels_of(shown[key], of_methods)


def _unique(method: str, taken: Collection[str]) -> str:
    """The method's name, with a number behind it if another score has the same."""
    names = (method if number == 1 else f"{method} ({number})" for number in count(1))
    return next(name for name in names if name not in taken)


def _panels_of(shown: PicturedClip, stems: Mapping[str, Path]) -> ClipPanels:
    first = next(iter(stems.values()))
    truth, baseline = read_picture(first, "truth"), read_picture(first, "bicubic_linear")
    frames = {method: read_picture(stem, "method") for method, stem in stems.items()}
    for method, frame in frames.items():
        if frame.shape != truth.shape:
            raise SourceError(
                f"{stems[method]}_method.png: found {frame.shape[-1]}x{frame.shape[-2]} pixels, "
                f"expected {truth.shape[-1]}x{truth.shape[-2]} as the ground truth's",
                remedy="run `stvsr score` again",
            )
    crop = most_different_crop(frames.values(), baseline, CROP)
    pictures = {"bicubic+linear": (baseline, read_picture(first, "profile_bicubic_linear"))} | {
        method: (frame, read_picture(stems[method], "profile_method"))
        for method, frame in frames.items()
    }
    panels = [
        Panel(
            label=label,
            psnr_y=float(psnr_y(frame, truth)),
            crop=_png(_cut(frame, crop)),
            difference=_png(difference_map(_cut(frame, crop), _cut(truth, crop))),
            profile=_png(profile),
        )
        for label, (frame, profile) in pictures.items()
    ]
    profile = _png(read_picture(first, "profile_truth"))
    truth_panel = Panel("ground truth", None, _png(_cut(truth, crop)), "", profile)
    return ClipPanels(shown, crop, (truth_panel, *panels))


def most_different_crop(frames: Iterable[Tensor], baseline: Tensor, size: int) -> Crop:
    """The square in which frames differ most from the baseline's, on the grid of LR pixels.

    Args:
        frames: of the methods, (3, H, W), uint8.
        baseline: its frame, of the same shape and type.
        size: side of the square in HR pixels; cut down to what the frames have.
    """
    y = rgb_to_y(baseline)
    height, width = y.shape
    size = min(size, height, width) // SCALE * SCALE
    difference = torch.stack([(rgb_to_y(frame) - y).abs() for frame in frames]).sum(dim=0)
    means = F.avg_pool2d(difference[None], size, stride=SCALE)[0]
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return Crop(top=row * SCALE, left=column * SCALE, size=size)


def difference_map(frame: Tensor, truth: Tensor) -> Tensor:
    """Absolute difference on Y, brighter by `DIFFERENCE_GAIN`: grey (3, H, W), uint8."""
    difference = (rgb_to_y(frame) - rgb_to_y(truth)).abs() * DIFFERENCE_GAIN
    return difference.clamp(0, 255).round().byte().expand(3, -1, -1)


def _cut(frame: Tensor, crop: Crop) -> Tensor:
    rows = slice(crop.top, crop.top + crop.size)
    return frame[:, rows, crop.left : crop.left + crop.size]


def _png(frame: Tensor) -> str:
    return base64.b64encode(picture_png(frame.permute(1, 2, 0).numpy())).decode()
