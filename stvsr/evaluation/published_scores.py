"""Figures that papers print, to be read beside measured ones: space x4, time x2, on Y.

Source: the tables of the papers of each method, as the STINet paper (2022) collects them.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PublishedScore:
    """A method's figures on a set.

    Attributes:
        psnr_y: in dB.
        ssim_y: in [-1, 1].
    """

    psnr_y: float
    ssim_y: float


_COLUMNS = ("vid4", "vimeo-slow", "vimeo-medium", "vimeo-fast")

_ROWS: dict[str, tuple[tuple[float, float], ...]] = {
    "STARnet": ((25.99, 0.7819), (33.10, 0.9164), (34.86, 0.9356), (36.19, 0.9368)),
    "Zooming Slow-Mo": ((26.31, 0.7976), (33.36, 0.9138), (35.41, 0.9361), (36.81, 0.9415)),
    "TMNet": ((26.43, 0.8016), (33.51, 0.9159), (35.60, 0.9380), (37.04, 0.9435)),
    "RSTT-L": ((26.43, 0.7994), (33.50, 0.9147), (35.66, 0.9381), (36.80, 0.9403)),
    "STDAN": ((26.28, 0.8041), (33.66, 0.9176), (35.70, 0.9387), (37.10, 0.9437)),
    "STINet": ((26.79, 0.8049), (34.04, 0.9180), (35.87, 0.9390), (37.43, 0.9465)),
}

PUBLISHED: dict[str, dict[str, PublishedScore]] = {
    method: {name: PublishedScore(*figures) for name, figures in zip(_COLUMNS, row, strict=True)}
    for method, row in _ROWS.items()
}
"""Figures by method, then by set."""

OUR_MODELS: dict[str, Literal["STDAN", "Zooming Slow-Mo", "STINet", "RSTT-L", "TMNet"]] = {
    "stdan-published": "STDAN",
    "zooming_slowmo-published": "Zooming Slow-Mo",
    "stinet-published": "STINet",
    "rstt-published": "RSTT-L",
    "rstt-L": "RSTT-L",
    "tmnet-published": "TMNet",
}
"""Networks of this package that are a paper's, by the name in their facts."""
