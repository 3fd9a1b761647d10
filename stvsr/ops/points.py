"""Positions of the sampled points: window positions and the grids of torch's bilinear sampler."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_PIXELS = 8192
"""Pixels whose K samples are in memory at once on the torch path; so few stay in a cache."""

Chunk = tuple[slice, slice]
"""Some images, and some of their rows."""


def window_points(points: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The (dy, dx) of a k x k window's points around its middle, row by row: two (K,) tensors."""
    side = math.isqrt(points)
    steps = torch.arange(side, device=like.device, dtype=like.dtype) - side // 2
    return steps.repeat_interleave(side), steps.repeat(side)


def chunks(images: int, height: int, width: int) -> Iterator[Chunk]:
    """Cut a batch of images into chunks of about `CHUNK_PIXELS`: whole images, or bands of one."""
    together = max(1, CHUNK_PIXELS // (height * width))
    band = height if together > 1 else max(1, CHUNK_PIXELS // width)
    for first in range(0, images, together):
        for top in range(0, height, band):
            yield slice(first, first + together), slice(top, min(top + band, height))


@dataclass(frozen=True)
class Points:
    """The sampled points of a chunk of I images, as torch's sampler wants them.

    Attributes:
        grid: (I, G, 2, K, h, W), the x and then the y of each point, in -1..1 from the image's
            left edge to its right (`align_corners=False`).
        size: (H, W) of the images that are sampled.
    """

    grid: Tensor
    size: tuple[int, int]

    @classmethod
    def from_offset(cls, offset: Tensor, chunk: Chunk, height: int) -> "Points":
        """Points of one chunk in images of H = `height` rows.

        Offsets (B, G, K, 2, h, W), in pixels, are those of all images and of their first h rows.
        """
        images, rows = chunk
        size = (height, offset.shape[-1])
        dy, dx = offset[images, ..., rows, :].unbind(3)
        row = torch.arange(rows.start, rows.stop, device=offset.device, dtype=offset.dtype)
        column = torch.arange(size[1], device=offset.device, dtype=offset.dtype)
        window_y, window_x = window_points(offset.shape[2], offset)
        x = _to_unit(column + window_x[:, None, None], size[1])
        y = _to_unit(row[:, None] + window_y[:, None, None], size[0])
        grid = dx.new_empty(*dx.shape[:2], 2, *dx.shape[2:])
        torch.add(x, dx, alpha=2 / size[1], out=grid[:, :, 0])
        torch.add(y, dy, alpha=2 / size[0], out=grid[:, :, 1])
        return cls(grid, size)

    def keep(self, index: Tensor) -> "Points":
        """Only the points `index` (I, T_top, h, W) of each pixel."""
        spread = index[:, None, None].expand(*self.grid.shape[:3], -1, -1, -1)
        return Points(self.grid.gather(3, spread), self.size)

    def sample(self, images: Tensor) -> Tensor:
        """Sample images (I, G, C/G, H, W) at the points: (I, G, C/G, K, h, W)."""
        sampled: Tensor = torch.ops.aten.grid_sampler_2d(
            images.flatten(0, 1), self._flat(), 0, 0, False
        )
        return sampled.view(*images.shape[:3], *self.grid.shape[3:])

    def sample_backward(self, grad: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of `sample`: of the images (I, G, C/G, H, W), of offsets (I, G, K, 2, h, W)."""
        grad_images, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad.flatten(3, 4).flatten(0, 1),
            images.flatten(0, 1),
            self._flat(),
            0,
            0,
            False,
            [True, True],
        )
        H, W = self.size
        to_grid = grad_grid.unflatten(1, self.grid.shape[3:5]).unflatten(0, self.grid.shape[:2])
        grad_x, grad_y = to_grid.unbind(-1)
        return grad_images.view(images.shape), torch.stack([grad_y * (2 / H), grad_x * (2 / W)], 3)

    def _flat(self) -> Tensor:
        return self.grid.flatten(3, 4).flatten(0, 1).permute(0, 2, 3, 1)


def _to_unit(position: Tensor, length: int) -> Tensor:
    """Pixel positions 0..length-1 to the sampler's coordinates, -1..1 between the outer edges."""
    return (position * 2 + 1) / length - 1
