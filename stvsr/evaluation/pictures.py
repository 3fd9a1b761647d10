"""Pictures of a result: one crop of the input, the baseline, the network and the ground truth."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.core.clip import SCALE, ClipBatch, interpolated_indices
from stvsr.core.color import rgb_to_y
from stvsr.evaluation.scores import Crop
from stvsr.metrics import to_uint8
from stvsr.models import upscale_bicubic_linear

PANELS = ("input", "bicubic+linear", "network", "ground truth")
"""Panels of a strip, from left to right."""

STRIP_GAP = 4
"""Transparent pixels between two panels of a strip."""

_LABEL_HEIGHT = 22
_ROW_LABEL_WIDTH = 98
_ZOOM = 2


@dataclass(frozen=True)
class Strips:
    """The panels of one crop of one clip, each (3, size, size), uint8.

    Attributes:
        crop: where they were cut.
        input_frame: place in the clip, from 1, of the input frame that is shown.
        interpolated_frame: place of the interpolated frame, the next one.
        input_panels: `PANELS` of the input frame.
        interpolated_panels: `PANELS` of the interpolated frame; the input is there the mean of
            the two LR frames around it, since there is none at its time.
    """

    crop: Crop
    input_frame: int
    interpolated_frame: int
    input_panels: tuple[Tensor, ...]
    interpolated_panels: tuple[Tensor, ...]


@torch.inference_mode()
def cut_strips(model: nn.Module, clip: ClipBatch, size: int) -> Strips:
    """Run the network and the baseline on a clip and cut the part with most moving detail.

    Args:
        model: the network, in evaluation mode, on the clip's device.
        clip: one clip, float32.
        size: side of the crop in HR pixels; cut down to what the frames have.
    """
    sr_clip = to_uint8(model(clip.lr_clip))[0].cpu()
    baseline = to_uint8(upscale_bicubic_linear(clip.lr_clip))[0].cpu()
    truth = to_uint8(clip.hr_clip)[0].cpu()
    lr_clip = clip.lr_clip[0].cpu()

    gaps = interpolated_indices(len(truth))
    middle = gaps[len(gaps) // 2]
    crop = busiest_crop(truth[middle - 1], truth[middle], truth[middle + 1], size)
    before, after = lr_clip[middle // 2], lr_clip[middle // 2 + 1]

    def panels(lr_frame: Tensor, frame: int) -> tuple[Tensor, ...]:
        enlarged = lr_frame.repeat_interleave(SCALE, -2).repeat_interleave(SCALE, -1)
        pictures = (to_uint8(enlarged), baseline[frame], sr_clip[frame], truth[frame])
        return tuple(_cut(picture, crop) for picture in pictures)

    return Strips(
        crop=crop,
        input_frame=middle,
        interpolated_frame=middle + 1,
        input_panels=panels(before, middle - 1),
        interpolated_panels=panels((before + after) / 2, middle),
    )


def busiest_crop(before: Tensor, frame: Tensor, after: Tensor, size: int) -> Crop:
    """The square of a frame with the most detail times motion, on the grid of LR pixels.

    It is a function of the ground truth alone, so it favours no method.

    Args:
        before: the frame before, (3, H, W), uint8.
        frame: the frame.
        after: the frame after.
        size: side of the square in HR pixels.
    """
    height, width = frame.shape[-2:]
    size = min(size, height, width) // SCALE * SCALE
    y = rgb_to_y(frame)
    detail = F.pad(y.diff(dim=-1).abs(), (0, 1)) + F.pad(y.diff(dim=-2).abs(), (0, 0, 0, 1))
    motion = (rgb_to_y(after) - rgb_to_y(before)).abs()
    means = F.avg_pool2d(torch.stack((detail, motion)), size, stride=SCALE)
    interest = means[0] * means[1]
    row, column = divmod(int(interest.argmax()), interest.shape[-1])
    return Crop(top=row * SCALE, left=column * SCALE, size=size)


def strip_png(panels: Sequence[Tensor]) -> bytes:
    """A PNG file's bytes: the panels in a row, transparent between them, without labels."""
    size = panels[0].shape[-1]
    picture = Image.new("RGBA", ((size + STRIP_GAP) * len(panels) - STRIP_GAP, size))
    for place, panel in enumerate(panels):
        picture.paste(_to_image(panel), (place * (size + STRIP_GAP), 0))
    return _to_png(picture)


def labelled_png(strips: Strips) -> bytes:
    """A PNG file's bytes: both strips under each other, enlarged, with labels."""
    size = strips.crop.size * _ZOOM
    width = _ROW_LABEL_WIDTH + (size + STRIP_GAP) * len(PANELS)
    picture = Image.new("RGB", (width, _LABEL_HEIGHT + 2 * (size + STRIP_GAP)), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for place, label in enumerate(PANELS):
        left = _ROW_LABEL_WIDTH + place * (size + STRIP_GAP)
        draw.text((left + size / 2, _LABEL_HEIGHT / 2), label, "black", font, anchor="mm")
    rows = (
        ("input\nframe", strips.input_panels),
        ("interpolated\nframe", strips.interpolated_panels),
    )
    for number, (label, panels) in enumerate(rows):
        top = _LABEL_HEIGHT + number * (size + STRIP_GAP)
        draw.text((8, top + size / 2 - 18), label, "black", font)
        for place, panel in enumerate(panels):
            left = _ROW_LABEL_WIDTH + place * (size + STRIP_GAP)
            enlarged = _to_image(panel).resize((size, size), Image.Resampling.NEAREST)
            picture.paste(enlarged, (left, top))
    return _to_png(picture)


def before_after(model: nn.Module, clip: ClipBatch, size: int = 112) -> bytes:
    """A PNG file's bytes: input, bicubic+linear, network and ground truth of a clip's busiest crop.

    Args:
        model: the network, in evaluation mode, on the clip's device.
        clip: one clip, float32.
        size: side of the crop in HR pixels.
    """
    return labelled_png(cut_strips(model, clip, size))


def _cut(frame: Tensor, crop: Crop) -> Tensor:
    rows = slice(crop.top, crop.top + crop.size)
    return frame[:, rows, crop.left : crop.left + crop.size]


def _to_image(panel: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(panel.permute(1, 2, 0).numpy()))


def _to_png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()
