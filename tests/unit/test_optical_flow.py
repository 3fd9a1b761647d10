"""The flow finds known displacements, agrees with OpenCV's, and never breaks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from stvsr.ops.optical_flow import farneback_flow

PHOTOGRAPH = Path(__file__).parents[1] / "data" / "bicubic" / "lr_x4_0001.png"

MARGIN = 20


def moved_pair(
    x: float, y: float, size: tuple[int, int] = (64, 112)
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph's crop, and where its content is `x`, `y` pixels further right and down."""
    H, W = size
    photograph = np.asarray(cv2.imread(str(PHOTOGRAPH), cv2.IMREAD_COLOR_RGB))
    first = photograph[40 : 40 + H + 2 * MARGIN, 60 : 60 + W + 2 * MARGIN]
    second = cv2.warpAffine(
        first, np.array([[1.0, 0.0, x], [0.0, 1.0, y]]), first.shape[1::-1], flags=cv2.INTER_CUBIC
    )
    inner = slice(MARGIN, MARGIN + H), slice(MARGIN, MARGIN + W)
    return first[inner], second[inner]


def as_frame(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def length(flow: Tensor) -> Tensor:
    return flow.norm(dim=1)


@pytest.mark.parametrize("size", [(64, 112), (32, 32)])
def test_a_known_displacement_is_found_as_opencv_finds_it(size: tuple[int, int]) -> None:
    first, second = moved_pair(2.25, -1.75, size)
    flow = farneback_flow(as_frame(first), as_frame(second))
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    opencv = cv2.calcOpticalFlowFarneback(*greys, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    displacement = torch.tensor([2.25, -1.75])[:, None, None]
    assert length(flow - displacement).mean() < 0.15
    assert length(flow - torch.from_numpy(opencv).permute(2, 0, 1)).mean() < 0.1


def test_what_stands_still_does_not_move() -> None:
    still = as_frame(moved_pair(0, 0)[0])
    torch.testing.assert_close(farneback_flow(still, still), torch.zeros(1, 2, 64, 112))


def test_pairs_together_give_what_each_gives_alone() -> None:
    first, second = (as_frame(image) for image in moved_pair(1, 2))
    both = farneback_flow(torch.cat([first, second]), torch.cat([second, first]))
    alone = [farneback_flow(first, second), farneback_flow(second, first)]
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 40)])
@pytest.mark.parametrize("value", [0.0, 1e4])
def test_frames_without_anything_to_see_have_a_finite_flow(
    size: tuple[int, int], value: float
) -> None:
    frames = value * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    flow = farneback_flow(frames, frames.flip(0))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()
    assert flow.abs().max() <= max(size)
