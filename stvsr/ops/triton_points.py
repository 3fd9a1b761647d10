"""A sampled point in Triton: its position, its four pixels, their blend, and all of it backward.

Called within the kernels of `stvsr.ops.triton_kernels`, whose names for sizes hold here too.
"""

import triton
import triton.language as tl


@triton.jit
def position(offset, point, pixel, h, H, W, SIDE: tl.constexpr, mask):
    """A point's position, [BLOCK] each: y and x in pixels, from one group's offsets (K, 2, hW)."""
    here = offset + point * 2 * h * W + pixel
    y = tl.load(here, mask=mask, other=0.0) + pixel // W + point // SIDE - SIDE // 2
    x = tl.load(here + h * W, mask=mask, other=0.0) + pixel % W + point % SIDE - SIDE // 2
    # a point further out counts as 0 just the same, and stays within an integer's range
    y = tl.minimum(tl.maximum(y, -2.0), H + 1.0)
    x = tl.minimum(tl.maximum(x, -2.0), W + 1.0)
    return y, x


@triton.jit
def _corner_mask(row, column, H, W, channel, CG: tl.constexpr, mask):
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W) & mask
    return inside[None, :] & (channel < CG)[:, None]


@triton.jit
def _corner_place(row, column, H, W, channel):
    return channel[:, None] * (H * W) + (row * W + column)[None, :]


@triton.jit
def corners(image, y, x, H, W, channel, CG: tl.constexpr, mask):
    """The four pixels around [CG_P, BLOCK] of one group's image (CG, HW), 0 outside."""
    row, column = tl.floor(y).to(tl.int32), tl.floor(x).to(tl.int32)
    above_left = tl.load(
        image + _corner_place(row, column, H, W, channel),
        mask=_corner_mask(row, column, H, W, channel, CG, mask),
        other=0.0,
    ).to(tl.float32)
    above_right = tl.load(
        image + _corner_place(row, column + 1, H, W, channel),
        mask=_corner_mask(row, column + 1, H, W, channel, CG, mask),
        other=0.0,
    ).to(tl.float32)
    below_left = tl.load(
        image + _corner_place(row + 1, column, H, W, channel),
        mask=_corner_mask(row + 1, column, H, W, channel, CG, mask),
        other=0.0,
    ).to(tl.float32)
    below_right = tl.load(
        image + _corner_place(row + 1, column + 1, H, W, channel),
        mask=_corner_mask(row + 1, column + 1, H, W, channel, CG, mask),
        other=0.0,
    ).to(tl.float32)
    return above_left, above_right, below_left, below_right


@triton.jit
def blend(above_left, above_right, below_left, below_right, y, x):
    """Bilinear sample [CG_P, BLOCK] of four corners."""
    down, right = (y - tl.floor(y))[None, :], (x - tl.floor(x))[None, :]
    above = above_left * (1 - right) + above_right * right
    below = below_left * (1 - right) + below_right * right
    return above * (1 - down) + below * down


@triton.jit
def slopes(above_left, above_right, below_left, below_right, y, x, grad):
    """Gradient [BLOCK] of y and x for the gradient [CG_P, BLOCK] of the sample."""
    down, right = (y - tl.floor(y))[None, :], (x - tl.floor(x))[None, :]
    by_y = (below_left - above_left) * (1 - right) + (below_right - above_right) * right
    by_x = (above_right - above_left) * (1 - down) + (below_right - below_left) * down
    return tl.sum(grad * by_y, axis=0), tl.sum(grad * by_x, axis=0)


@triton.jit
def spread(image, y, x, H, W, channel, CG: tl.constexpr, mask, grad):
    """Add the gradient [CG_P, BLOCK] of a sample to its four corners in (CG, HW)."""
    row, column = tl.floor(y).to(tl.int32), tl.floor(x).to(tl.int32)
    down, right = (y - tl.floor(y))[None, :], (x - tl.floor(x))[None, :]
    tl.atomic_add(
        image + _corner_place(row, column, H, W, channel),
        grad * (1 - down) * (1 - right),
        mask=_corner_mask(row, column, H, W, channel, CG, mask),
    )
    tl.atomic_add(
        image + _corner_place(row, column + 1, H, W, channel),
        grad * (1 - down) * right,
        mask=_corner_mask(row, column + 1, H, W, channel, CG, mask),
    )
    tl.atomic_add(
        image + _corner_place(row + 1, column, H, W, channel),
        grad * down * (1 - right),
        mask=_corner_mask(row + 1, column, H, W, channel, CG, mask),
    )
    tl.atomic_add(
        image + _corner_place(row + 1, column + 1, H, W, channel),
        grad * down * right,
        mask=_corner_mask(row + 1, column + 1, H, W, channel, CG, mask),
    )
