"""Numerical kernels, each beside a plain-torch reference.

Shapes in this room: `B` batch, `C` channels, `E` embedding channels, `G` deformable groups,
`K` sampled points per pixel (k * k, row by row), `N` key frames, `T_top` kept points, `H W` pixels.
An offset is (dy, dx) in pixels, relative to the point's place in the k x k window around the pixel.
Bilinear sampling; what is outside the image counts as 0, corner by corner.
"""

from stvsr.ops.attention import deformable_attention
from stvsr.ops.deform_conv import modulated_deform_conv2d
from stvsr.ops.optical_flow import farneback_flow
from stvsr.ops.sampling import deformable_sample
from stvsr.ops.windows import cross_window_attention, window_attention

__all__ = [
    "cross_window_attention",
    "deformable_attention",
    "deformable_sample",
    "farneback_flow",
    "modulated_deform_conv2d",
    "window_attention",
]
