"""XPSNR of a video against another one, by FFmpeg's filter of that name.

Source: Helmrich et al., "A Study of the Extended Perceptually Weighted Peak Signal-to-Noise Ratio
(XPSNR) for Video Compression with Different Resolutions and Bit Depths" (2020). The error of each
block is weighted by how busy the block is, in space and against the frame before.
"""

from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from numpy.typing import NDArray

from stvsr.core.errors import InputError

LEAST_PIXELS = 4096
"""The filter divides by zero in frames so small that its blocks, which grow with them, vanish."""

_TICK = Fraction(1, 25)


def has_xpsnr() -> bool:
    """True if this build of PyAV has the filter."""
    return "xpsnr" in av.filter.filters_available


class Xpsnr:
    """XPSNR of the luma, frame by frame; a frame's depends on the frames before it too."""

    def __init__(self) -> None:
        self._graph = Graph()  # its parts do not keep it alive
        self._inputs: list[FilterContext] = []
        self._sink: FilterContext | None = None
        self._frames = 0

    def add(self, luma: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        """The XPSNR of the next frame, in dB; infinite where both are equal.

        Args:
            luma: (H, W), 16..235.
            truth: the same of the ground truth.

        Raises:
            InputError: the frames have fewer than `LEAST_PIXELS`.
        """
        height, width = luma.shape
        if width * height < LEAST_PIXELS:
            raise InputError(
                f"XPSNR: found frames of {width}x{height}, expected at least {LEAST_PIXELS} pixels"
            )
        sink = self._sink or self._open(height, width)
        for source, plane in zip(self._inputs, (luma, truth), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
            frame.pts, frame.time_base = self._frames, _TICK
            source.push(frame)
        self._frames += 1
        return float(sink.pull().metadata["lavfi.xpsnr.xpsnr.y"])

    def _open(self, height: int, width: int) -> FilterContext:
        graph, gray = self._graph, av.VideoFormat("gray")
        self._inputs = [
            graph.add_buffer(width=width, height=height, format=gray, time_base=_TICK, name=name)
            for name in ("output", "truth")
        ]
        xpsnr, self._sink = graph.add("xpsnr"), graph.add("buffersink")
        for place, source in enumerate(self._inputs):
            source.link_to(xpsnr, 0, place)
        xpsnr.link_to(self._sink)
        graph.configure()
        return self._sink
