import numpy as np
import pytest

from stvsr.core.config import ValidationError
from stvsr.data.shards.degrade import DegradationConfig, degrade

NAMES = ("bicubic", "bicubic-uint8", "gaussian-bd", "pillow")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_lr_frame_is_a_quarter_and_a_flat_frame_stays_flat(name):
    lr_frame = degrade(np.full((32, 48, 3), 77, np.uint8), DegradationConfig(name=name))
    assert lr_frame.shape == (8, 12, 3)
    assert lr_frame.dtype == np.uint8
    assert np.all(lr_frame == 77)


def test_the_four_degradations_differ():
    frames = [degrade(noise(32, 48), DegradationConfig(name=name)).tobytes() for name in NAMES]  # type: ignore[arg-type]
    assert len(set(frames)) == len(NAMES)


def test_gaussian_bd_samples_at_every_fourth_pixel_from_the_first():
    hr_frame = np.zeros((32, 32, 3), np.uint8)
    hr_frame[12, 16] = 255
    lr_frame = degrade(hr_frame, DegradationConfig(name="gaussian-bd"))[..., 0]
    assert np.unravel_index(lr_frame.argmax(), lr_frame.shape) == (3, 4)  # type: ignore[comparison-overlap]
    assert lr_frame[3, 3] == lr_frame[3, 5] == lr_frame[2, 4] == lr_frame[4, 4] > 0


def test_gaussian_bd_equals_the_blur_written_with_a_full_kernel():
    hr_frame = noise(24, 28)
    y, x = np.mgrid[-6:7, -6:7]
    kernel = np.exp(-(x**2 + y**2) / (2 * 1.6**2))
    kernel /= kernel.sum()
    padded = np.pad(hr_frame.astype(float), ((6, 6), (6, 6), (0, 0)), mode="reflect")
    expected = [
        [
            (padded[4 * i : 4 * i + 13, 4 * j : 4 * j + 13] * kernel[..., None]).sum((0, 1))
            for j in range(7)
        ]
        for i in range(6)
    ]
    lr_frame = degrade(hr_frame, DegradationConfig(name="gaussian-bd"))
    np.testing.assert_allclose(lr_frame, expected, atol=0.5 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_size_that_four_does_not_divide_is_refused(name):
    with pytest.raises(ValueError, match="30x32: both sides must be multiples of 4"):
        degrade(np.zeros((32, 30, 3), np.uint8), DegradationConfig(name=name))


def test_name_and_parameters_travel_as_one_value():
    published = DegradationConfig(name="gaussian-bd")
    assert published.model_dump() == {"name": "gaussian-bd", "sigma": 1.6}
    assert published == DegradationConfig.model_validate_json('{"name": "gaussian-bd"}')
    assert published == DegradationConfig.model_validate_json(published.model_dump_json())
    assert published != DegradationConfig(name="gaussian-bd", sigma=1.5)
    assert str(published) == "gaussian-bd (sigma 1.6)"
    for name in ("bicubic", "bicubic-uint8", "pillow"):
        assert DegradationConfig(name=name).model_dump() == {"name": name}
        assert str(DegradationConfig(name=name)) == name


def test_a_wider_blur_leaves_less_contrast():
    spreads = [
        degrade(noise(64, 64), DegradationConfig(name="gaussian-bd", sigma=sigma)).std()
        for sigma in (0.8, 1.6, 3.2)
    ]
    assert spreads == sorted(spreads, reverse=True)


def test_a_sigma_without_a_blur_is_refused():
    with pytest.raises(ValidationError, match="found 2 with name 'bicubic'; allowed with it: null"):
        DegradationConfig(name="bicubic", sigma=2.0)


def test_an_unknown_degradation_is_refused():
    with pytest.raises(ValidationError, match="gaussian-bd"):
        DegradationConfig.model_validate({"name": "bicubik"})
