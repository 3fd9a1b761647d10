"""Further measures, which a score has where they are asked for: of frames in their order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from stvsr.core.color import rgb_to_y
from stvsr.core.errors import ParamsError
from stvsr.core.image import UInt8Image
from stvsr.video.flow import grey, optical_flow
from stvsr.video.xpsnr import Xpsnr, has_xpsnr


class Meter(Protocol):
    """A measure of one clip, of several methods side by side."""

    def add(self, outputs: Sequence[Tensor], truth: Tensor) -> Sequence[float | None]:
        """Measure the next frame that is scored.

        Args:
            outputs: the frame of each method, (3, H, W), uint8.
            truth: the ground truth, of the same shape and type.

        Returns:
            One value for each method; None where this frame has none, as the first frame of a
            clip by a measure of motion.
        """


@dataclass(frozen=True)
class Measure:
    """A further measure.

    Attributes:
        label: its name in tables.
        form: how its values are written, such as "{:.2f}".
        open: makes a meter for a clip.
        fault: why it cannot be measured here; "" if it can.
    """

    label: str
    form: str
    open: Callable[[], Meter]
    fault: Callable[[], str] = lambda: ""


class TofMeter:
    """tOF: the mean length of the difference of optical flows, in pixels; 0 is best.

    The flows are those from the frame before that is scored, of the output and of the ground truth.

    Source: Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video
    Generation" (TecoGAN, 2020), with Farneback's flow; the paper's code leaves out a border, which
    here is up to the protocol.
    """

    def __init__(self) -> None:
        self._before: list[UInt8Image] = []

    def add(self, outputs: Sequence[Tensor], truth: Tensor) -> Sequence[float | None]:
        """See `Meter`."""
        before, self._before = (
            self._before,
            [grey(frame.permute(1, 2, 0).numpy()) for frame in (*outputs, truth)],
        )
        if not before:
            return [None] * len(outputs)
        *flows, wanted = map(optical_flow, before, self._before)
        return [float(np.linalg.norm(flow - wanted, axis=-1).mean()) for flow in flows]


class XpsnrMeter:
    """XPSNR of the rounded luma, in dB; see `stvsr.video.xpsnr`."""

    def __init__(self) -> None:
        self._of: list[Xpsnr] = []

    def add(self, outputs: Sequence[Tensor], truth: Tensor) -> Sequence[float | None]:
        """See `Meter`; a frame that equals the ground truth has none."""
        self._of = self._of or [Xpsnr() for _ in outputs]
        luma = _luma(truth)
        values = [one.add(_luma(out), luma) for one, out in zip(self._of, outputs, strict=True)]
        return [value if np.isfinite(value) else None for value in values]


def _xpsnr_fault() -> str:
    return "" if has_xpsnr() else "this build of PyAV has no filter xpsnr; install the one of pip"


FURTHER: Mapping[str, Measure] = {
    "tof": Measure("tOF", "{:.3f}", TofMeter),
    "xpsnr": Measure("XPSNR", "{:.2f}", XpsnrMeter, _xpsnr_fault),
}
"""Every further measure, in the order in which tables show them."""


def parse_measures(text: str) -> tuple[str, ...]:
    """The further measures of a list such as "tof,xpsnr", each once, in the order of tables.

    Raises:
        ParamsError: there is no such measure, or it cannot be measured here.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names - FURTHER.keys()):
        raise ParamsError(
            f"--measures: found {unknown[0]!r:.40}; allowed: {', '.join(FURTHER)}, beside PSNR and "
            "SSIM, which every score has"
        )
    for name in names:
        if fault := FURTHER[name].fault():
            raise ParamsError(f"--measures: {name}: {fault}")
    return tuple(name for name in FURTHER if name in names)


class Meters:
    """The further measures of one clip, of several methods side by side."""

    def __init__(self, names: Iterable[str]) -> None:
        self._meters = {name: FURTHER[name].open() for name in names}

    def add(self, outputs: Sequence[Tensor], truth: Tensor) -> list[list[dict[str, float]]]:
        """Measure the next frames that are scored.

        Args:
            outputs: the frames of each method, (T, 3, H, W), uint8.
            truth: the ground truth, of the same shape and type.

        Returns:
            For each method a mapping for each frame. A measure that one of the methods does not
            have on a frame, none of them has.
        """
        rows: list[list[dict[str, float]]] = [[{} for _ in truth] for _ in outputs]
        if not self._meters:
            return rows
        on_cpu = [output.cpu() for output in outputs]
        for at, true in enumerate(truth.cpu()):
            for name, meter in self._meters.items():
                values = meter.add([output[at] for output in on_cpu], true)
                for of_method, value in zip(rows, values, strict=True):
                    if value is not None and None not in values:
                        of_method[at][name] = value
        return rows


def _luma(frame: Tensor) -> UInt8Image:
    return np.asarray(rgb_to_y(frame).round().byte().numpy())
