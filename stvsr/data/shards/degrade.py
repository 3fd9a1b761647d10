"""From high to low resolution, by name: the published sets were not all degraded alike."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stvsr.core.clip import SCALE
from stvsr.core.config import Config, Field, FieldError, model_serializer, model_validator
from stvsr.core.image import UInt8Image
from stvsr.core.resize import downsample_bicubic, downsample_bicubic_uint8

GAUSSIAN_SIGMA = 1.6
"""Standard deviation of the blur of `gaussian-bd` in HR pixels, as in the literature."""

GAUSSIAN_REACH = 4
"""Sigmas at which its kernel is cut, to each side, as scipy and the published code do."""


class DegradationConfig(Config):
    """How LR frames are made from HR frames; it travels with the shards into the registry."""

    name: Literal["bicubic", "bicubic-uint8", "gaussian-bd", "pillow"] = "bicubic"
    """`bicubic`: MATLAB's imresize on double, the benchmark's. `bicubic-uint8`: MATLAB's imresize
    on uint8, which rounds between its passes. `gaussian-bd`: Gaussian blur, then every 4th pixel
    ("BD" in the literature). `pillow`: Pillow's bicubic."""
    sigma: float | None = Field(default=None, gt=0, le=8)
    """Standard deviation of the blur of `gaussian-bd`, in HR pixels; null: 1.6 with it, none with
    the others, which have no parameters."""

    @model_validator(mode="before")
    @classmethod
    def _published_sigma(cls, values: object) -> object:
        is_blur = isinstance(values, Mapping) and values.get("name") == "gaussian-bd"
        if isinstance(values, Mapping) and is_blur and values.get("sigma") is None:
            return {**values, "sigma": GAUSSIAN_SIGMA}
        return values

    @model_validator(mode="after")
    def _sigma_has_a_blur(self) -> "DegradationConfig":
        if self.sigma is not None and self.name != "gaussian-bd":
            raise FieldError(
                "sigma",
                f"found {self.sigma:g} with name {self.name!r}; allowed with it: null, since only "
                "gaussian-bd blurs",
            )
        return self

    @model_serializer(mode="wrap")
    def _what_it_has(
        self, fields: Callable[["DegradationConfig"], dict[str, object]]
    ) -> dict[str, object]:
        """The name, and the parameters that this degradation has."""
        return {key: value for key, value in fields(self).items() if value is not None}

    def __str__(self) -> str:
        return describe_degradation(self.model_dump())


def describe_degradation(degradation: Mapping[str, object]) -> str:
    """A degradation in a few words: its name, and its parameters where it has any."""
    parameters = [f"{key} {value}" for key, value in sorted(degradation.items()) if key != "name"]
    name = str(degradation.get("name", "unknown"))
    return f"{name} ({', '.join(parameters)})" if parameters else name


def degrade(hr_frame: UInt8Image, config: DegradationConfig) -> UInt8Image:
    """Make the LR frame of one HR frame.

    Args:
        hr_frame: (H, W, 3), RGB, 0..255; H and W multiples of 4.
        config: which degradation.

    Returns:
        (H / 4, W / 4, 3), RGB, 0..255.

    Raises:
        ValueError: H or W is no multiple of 4.
    """
    _check_size(hr_frame)
    match config.name:
        case "bicubic":
            return downsample_bicubic(hr_frame)
        case "bicubic-uint8":
            return downsample_bicubic_uint8(hr_frame)
        case "gaussian-bd":
            return _blur_and_subsample(hr_frame, config.sigma or GAUSSIAN_SIGMA)
        case "pillow":
            return _pillow_bicubic(hr_frame)


def _blur_and_subsample(hr_frame: UInt8Image, sigma: float) -> UInt8Image:
    """Blur with a normalised Gaussian (13x13 for 1.6), then keep HR pixels 0, 4, 8, … of both axes.

    LR pixel (y, x) therefore is on HR pixel (4y, 4x), not in the middle of its 4x4 block as
    with the bicubic ones. Borders are mirrored without repeating the edge pixel; float64, one
    rounding (half up) at the end.

    Source: Jo et al., Deep Video Super-Resolution Network Using Dynamic Upsampling Filters, 2018.
    """
    rows = _blurred_rows(hr_frame.astype(np.float64), sigma)
    both = _blurred_rows(rows.transpose(1, 0, 2), sigma).transpose(1, 0, 2)
    return np.ascontiguousarray(np.clip(np.floor(both + 0.5), 0, 255).astype(np.uint8))


def _blurred_rows(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """(H, W, 3) -> (H / 4, W, 3): rows 0, 4, 8, … of the vertically blurred image."""
    radius = int(GAUSSIAN_REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(image, ((radius, radius), (0, 0), (0, 0)), mode="reflect")
    height = image.shape[0]
    total = np.zeros((height // SCALE, *image.shape[1:]))
    for tap, weight in enumerate(weights):
        total += padded[tap : tap + height : SCALE] * weight
    return total


def _pillow_bicubic(hr_frame: UInt8Image) -> UInt8Image:
    """Pillow's antialiased bicubic (a = -0.5): width first, rounded to 8 bit between the passes."""
    height, width, _ = hr_frame.shape
    size = (width // SCALE, height // SCALE)
    return np.asarray(Image.fromarray(hr_frame).resize(size, Image.Resampling.BICUBIC))


def _check_size(hr_frame: UInt8Image) -> None:
    height, width = hr_frame.shape[:2]
    if height % SCALE or width % SCALE:
        raise ValueError(f"a frame of {width}x{height}: both sides must be multiples of {SCALE}")
