"""Optical flow by polynomial expansion, on any device and for a batch of pairs.

Source: Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion" (SCIA 2003). Each
neighbourhood is a quadratic polynomial x'Ax + b'x + c; a displacement d changes its b by -2Ad.
The settings are OpenCV's that STINet names; `tests/unit/test_optical_flow.py` compares with it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.ops.precision import compute_dtype, without_autocast

LUMA = (0.299, 0.587, 0.114)
"""Weights of RGB in the grey picture."""

RADIUS, SIGMA = 5, 1.2
"""The neighbourhood of a polynomial: pixels to each side, and its Gaussian's deviation."""

WINDOW = 15
"""Side of the square over which displacements are averaged."""

LEVELS, SMALLEST = 3, 32
"""Levels of the pyramid, each half the size of the one before, while both sides have that."""

ITERATIONS = 3
"""Estimates at each level."""

STILL = 1e-3
"""Added to the determinant, so that where there is nothing to see nothing moves."""


@torch.no_grad()
@without_autocast
def farneback_flow(first: Tensor, second: Tensor) -> Tensor:
    """Where each pixel of the first frames is in the second ones.

    Args:
        first: (B, 3, H, W), RGB in [0, 1].
        second: as `first`.

    Returns:
        (B, 2, H, W) in float32, or in float64 for such frames: (x, y) in pixels, so that
        first[y, x] is at second[y + flow_y, x + flow_x]. No gradients.
    """
    dtype = compute_dtype(first.dtype)
    frames = torch.cat([first, second]).to(dtype)
    # a copy of numbers would wait for the GPU
    weights = torch.stack([frames.new_full((), 255 * weight) for weight in LUMA])
    grey = (frames * weights[:, None, None]).sum(1, keepdim=True)
    flow = None
    for level in reversed(range(_levels(*first.shape[-2:]))):
        before, after = _expand(_shrink(grey, level)).chunk(2)
        flow = _start(flow, before)
        for _ in range(ITERATIONS):
            flow = _improve(flow, before, after)
    assert flow is not None  # noqa: S101  # there is at least one level
    return flow


def _levels(height: int, width: int) -> int:
    """Levels of the pyramid of a frame: at least one."""
    levels = 1
    while levels < LEVELS and min(height, width) >> levels >= SMALLEST:
        levels += 1
    return levels


def _shrink(images: Tensor, level: int) -> Tensor:
    """Images (B, 1, H, W), blurred and made 2 ** level times smaller."""
    if level == 0:
        return images
    blurred = images
    deviation = (2**level - 1) / 2
    radius = max(1, round(2.5 * deviation))
    taps = _gaussian(radius, deviation)
    for dim in (-1, -2):
        (blurred,) = _correlate(blurred, [taps], dim)
    size = [round(side / 2**level) for side in images.shape[-2:]]
    return F.interpolate(blurred, size, mode="bilinear", align_corners=False)


def _start(flow: Tensor | None, expanded: Tensor) -> Tensor:
    """The flow that a level begins with: none, or the coarser level's."""
    if flow is None:
        return torch.zeros_like(expanded[:, :2])
    size = expanded.shape[-2:]
    larger = F.interpolate(flow, size, mode="bilinear", align_corners=False)
    return 2 * larger


def _expand(images: Tensor) -> Tensor:
    """Each neighbourhood's polynomial, by least squares with Gaussian weights (the paper, eq. 2).

    Args:
        images: (B, 1, H, W).

    Returns:
        (B, 5, H, W): b_x, b_y, A_xx, A_yy, A_xy.
    """
    weights = _gaussian(RADIUS, SIGMA)
    places = range(-RADIUS, RADIUS + 1)
    powers = [[w * x**p for w, x in zip(weights, places, strict=True)] for p in range(3)]
    square = sum(powers[2])
    fourth = sum(w * x**4 for w, x in zip(weights, places, strict=True))
    flat, slope, bow = _correlate(images, powers, -1)
    one, y, yy = _correlate(flat, powers, -2)
    x, xy = _correlate(slope, powers[:2], -2)
    (xx,) = _correlate(bow, powers[:1], -2)
    spread = fourth - square**2
    return torch.cat(
        [
            x / square,
            y / square,
            (xx - square * one) / spread,
            (yy - square * one) / spread,
            xy / (2 * square**2),
        ],
        dim=1,
    )


def _improve(flow: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """One estimate of the flow (B, 2, H, W) from the one before and the polynomials (eqs 9-14)."""
    moved, certainty = _sample(after, flow)
    A_xx, A_yy, A_xy = ((before[:, 2:] + moved[:, 2:]) / 2).unbind(1)
    x, y = flow.unbind(1)
    b_x, b_y = ((before[:, :2] - moved[:, :2]) / 2).unbind(1)
    b_x, b_y = b_x + A_xx * x + A_xy * y, b_y + A_xy * x + A_yy * y
    terms = torch.stack(
        [
            A_xx**2 + A_xy**2,
            A_xy * (A_xx + A_yy),
            A_yy**2 + A_xy**2,
            A_xx * b_x + A_xy * b_y,
            A_xy * b_x + A_yy * b_y,
        ],
        dim=1,
    )
    G_xx, G_xy, G_yy, h_x, h_y = _averaged(certainty * terms).unbind(1)
    determinant = (G_xx * G_yy - G_xy**2).clamp(min=0) + STILL
    solved = [G_yy * h_x - G_xy * h_y, G_xx * h_y - G_xy * h_x]
    farthest = max(flow.shape[-2:])
    return (torch.stack(solved, dim=1) / determinant[:, None]).clamp(-farthest, farthest)


def _sample(maps: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, H, W) at each pixel's place plus its flow, bilinear, and how certain that is.

    The certainty (B, 1, H, W) is 0 where the place is outside, and low near the frame's edges,
    where a part of the polynomial's neighbourhood is missing.
    """
    H, W = maps.shape[-2:]
    columns, rows = (torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (W, H))
    x, y = columns + flow[:, 0], rows[:, None] + flow[:, 1]
    inside = (x >= 0) & (x <= W - 1) & (y >= 0) & (y <= H - 1)
    certainty = inside * _edge_certainty(rows)[:, None] * _edge_certainty(columns)
    grid = torch.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], dim=-1)
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return sampled, certainty[:, None]


def _edge_certainty(places: Tensor) -> Tensor:
    """1 inside, and towards the ends of 0, 1, …, n - 1 the squared share of a neighbourhood."""
    to_edge = torch.minimum(places, places.flip(0))
    return ((to_edge + 1) / (RADIUS + 1)).clamp(max=1).square()


def _averaged(maps: Tensor) -> Tensor:
    """The mean over the window around each pixel."""
    half = WINDOW // 2
    rows = F.avg_pool2d(_padded(maps, -2, half), (WINDOW, 1), stride=1)
    return F.avg_pool2d(_padded(rows, -1, half), (1, WINDOW), stride=1)


def _gaussian(radius: int, deviation: float) -> list[float]:
    """Weights that sum to 1."""
    weights = [math.exp(-(x**2) / (2 * deviation**2)) for x in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def _correlate(images: Tensor, filters: list[list[float]], dim: int) -> list[Tensor]:
    """Filters along a dimension: sums of shifted images, since a GPU's convolutions round more."""
    taps = len(filters[0])
    size = images.shape[dim]
    padded = _padded(images, dim, taps // 2)
    shifted = [padded.narrow(dim, start, size) for start in range(taps)]
    return [
        sum((w * image for w, image in zip(weights, shifted, strict=True)), start=0 * images)
        for weights in filters
    ]


def _padded(images: Tensor, dim: int, count: int) -> Tensor:
    """Images with their first and last row or column repeated."""
    sides = (count, count, 0, 0) if dim == -1 else (0, 0, count, count)
    return F.pad(images, sides, mode="replicate")
