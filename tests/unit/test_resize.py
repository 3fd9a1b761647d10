from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stvsr.core.resize import cubic, downsample_bicubic, downsample_bicubic_uint8

REFERENCE = Path(__file__).parents[1] / "data" / "bicubic"


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("downsample", "expected"),
    [
        (downsample_bicubic, "lr_x4_double_0001.png"),
        (downsample_bicubic_uint8, "lr_x4_0001.png"),
    ],
)
def test_every_pixel_equals_matlab(downsample, expected):
    lr_frame = downsample(read(REFERENCE / "hr_0001.png"))
    assert np.count_nonzero(lr_frame != read(REFERENCE / expected)) == 0


def slow_imresize(image: np.ndarray, shifts: tuple[int, int]) -> np.ndarray:
    """MATLAB's algorithm written down pixel by pixel, in exact integers of 1/4096.

    `shifts`: by how many bits the sums of each pass are rounded; by none, they are kept.
    """
    for shift in shifts:
        length = image.shape[0]
        rows = []
        for y in range(length // 4):
            total = 0
            for tap in range(-6, 10):
                weight = cubic(np.array((4 * y + tap - (4 * y + 1.5)) / 4)) / 4 * 4096
                at = (4 * y + tap) % (2 * length)
                total = total + int(weight) * image[min(at, 2 * length - 1 - at)].astype(np.int64)
            rows.append(total)
        image = np.stack(rows).transpose(1, 0, 2)
        if shift:
            image = np.clip((image + 2 ** (shift - 1)) >> shift, 0, 255)
    return image.astype(np.uint8)


@pytest.mark.parametrize("size", [(8, 16), (4, 4), (28, 12)])
@pytest.mark.parametrize(
    ("downsample", "shifts"),
    [(downsample_bicubic, (0, 24)), (downsample_bicubic_uint8, (12, 12))],
)
def test_both_variants_equal_exact_integer_arithmetic(downsample, shifts, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(downsample(image), slow_imresize(image, shifts))


@pytest.mark.parametrize("downsample", [downsample_bicubic, downsample_bicubic_uint8])
def test_a_flat_image_stays_flat(downsample):
    assert np.all(downsample(np.full((8, 12, 3), 200, np.uint8)) == 200)


@pytest.mark.parametrize("downsample", [downsample_bicubic, downsample_bicubic_uint8])
def test_flipped_in_is_flipped_out(downsample):
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(downsample(image[::-1, ::-1]), downsample(image)[::-1, ::-1])


def test_a_size_that_four_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"shape \(10, 12, 3\).*multiples of 4"):
        downsample_bicubic(np.zeros((10, 12, 3), np.uint8))
