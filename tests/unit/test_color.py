import pytest
import torch

from stvsr.core.color import rgb_to_y


@pytest.mark.parametrize(
    ("rgb", "y"),
    [((0, 0, 0), 16.0), ((255, 255, 255), 235.0), ((255, 0, 0), 81.481), ((0, 0, 255), 40.966)],
)
def test_known_colours_have_the_y_of_bt601(rgb, y):
    image = torch.tensor(rgb, dtype=torch.uint8).reshape(3, 1, 1)
    assert rgb_to_y(image).item() == pytest.approx(y, abs=1e-9)


def test_y_is_not_rounded_and_keeps_leading_dimensions():
    image = torch.randint(0, 256, (2, 5, 3, 4, 6), dtype=torch.uint8)
    y = rgb_to_y(image)
    assert y.shape == (2, 5, 4, 6)
    assert y.dtype == torch.float64
    assert not torch.equal(y, y.round())
