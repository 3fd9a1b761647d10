"""Comparison of two networks on the same frames, clip by clip, with an interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stvsr.artifact import Card
from stvsr.core.clip import ClipBatch
from stvsr.core.config import Config, Count
from stvsr.core.device import pick_device
from stvsr.core.progress import progress
from stvsr.data.loading.loader import eval_clips
from stvsr.data.shards.degrade import DegradationConfig
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.storage import Address
from stvsr.evaluation.config import EvaluateConfig
from stvsr.evaluation.evaluate import score_frames
from stvsr.evaluation.intervals import bootstrap_interval
from stvsr.evaluation.methods import NetworkMethod
from stvsr.evaluation.protocols import find_protocol
from stvsr.evaluation.score import Scoring, score_clip
from stvsr.evaluation.scores import (
    Decibel,
    FrameScore,
    Value,
    by_clip,
    clip_means,
    gain,
    of_baseline,
    of_network,
)
from stvsr.evaluation.sets import open_set, refuse_incomplete
from stvsr.metrics import finite_mean
from stvsr.models import StvsrModel

Network = tuple[StvsrModel, Card]
"""A network, and what it is."""


class SetComparison(Config):
    """A network's PSNR-Y minus its rival's on one set, on all frames, paired over clips."""

    set: str
    """Name of the set."""
    protocol: str
    """Name of the scoring protocol."""
    degradation: str
    """How the LR frames were made."""
    clips: Count
    """Clips that were scored."""
    network: Decibel | None
    """Mean PSNR-Y of the network in dB; null where no frame could be scored."""
    rival: Decibel | None
    """Mean PSNR-Y of its rival."""
    difference: float | None
    """Mean over clips of network minus rival, in dB."""
    low: float | None
    """Lower end of the difference's interval (`stvsr.evaluation.intervals`); null for one clip."""
    high: float | None
    """Upper end."""

    def is_better(self, margin: float) -> bool:
        """True if the whole interval of the difference is above `margin`."""
        return self.low is not None and self.low > margin

    def __str__(self) -> str:
        scores = " against ".join(
            "none" if score is None else f"{score:.2f}" for score in (self.network, self.rival)
        )
        text = f"{self.set}: {scores} dB on {self.clips} clips"
        if self.difference is not None:
            text += f", difference {self.difference:+.3f}"
        if self.low is None or self.high is None:
            return f"{text}, too few clips for an interval"
        return f"{text} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Conditions:
    """Conditions under which both networks are scored.

    Attributes:
        shards: the project's test shards.
        evaluate: how many of their clips, and the device.
        protocol: name of the protocol on the other sets.
        degradation: how LR frames are made on them.
    """

    shards: Address
    evaluate: EvaluateConfig
    protocol: str
    degradation: DegradationConfig


def compare_on_shards(network: Network, rival: Network | None, on: Conditions) -> SetComparison:
    """Compare two networks on the test shards, as `stvsr evaluate` scores them.

    Args:
        network: the one.
        rival: the other; None is the baseline bicubic+linear.
        on: the conditions.

    Raises:
        ParamsError: the device is not there.
        ShardError: the shards are missing or damaged.
        CheckpointError: a network's output is not finite.
    """
    device = pick_device(on.evaluate.device, "evaluate.device")
    shards = ShardSet.open(on.shards)
    indices = range(min(len(shards), on.evaluate.clips or len(shards)))
    motions = {shards.keys[index]: shards.meta(index).motion for index in indices}
    models = [model.to(device) for model, _ in filter(None, (network, rival))]

    def score(batch: ClipBatch) -> list[FrameScore]:
        return _paired([score_frames(model, [batch], motions) for model in models])

    clips = progress(eval_clips(shards, indices, device=device), len(indices), "comparing on test")
    frames = [frame for batch in clips for frame in score(batch)]
    return _compared(frames, "test", "all frames", str(shards.lineage.degradation))


def compare_on_set(
    name: str, network: Network, rival: Network | None, on: Conditions
) -> SetComparison:
    """Compare two networks on a set, as `stvsr score` scores them.

    Args:
        name: name of a benchmark, or path of a folder of clips.
        network: the one.
        rival: the other; None is the baseline bicubic+linear.
        on: the conditions.

    Raises:
        ParamsError: there is no such set, protocol or device.
        SourceError: the set is not whole.
    """
    device = pick_device(on.evaluate.device, "evaluate.device")
    scoring = Scoring(find_protocol(on.protocol), on.degradation, "", device)
    opened = open_set(name, least=scoring.protocol.span)
    refuse_incomplete(opened)
    methods = [
        NetworkMethod(model.to(device), card) for model, card in filter(None, (network, rival))
    ]
    for method in methods:
        method.refuse(opened.clips, scoring.protocol)

    def rows() -> Iterator[FrameScore]:
        for clip in progress(opened.clips, len(opened.clips), f"comparing on {Path(name).name}"):
            yield from _paired([score_clip(m, clip, scoring, opened.size) for m in methods])

    protocol = scoring.protocol
    return _compared(
        list(rows()), name, protocol.name, scoring.lr_from, per_folder=protocol.weighs_folders
    )


def _paired(scored: Sequence[Sequence[FrameScore]]) -> list[FrameScore]:
    """A network's rows; where a second one was scored, that has the baseline's place in them."""
    network, *rivals = scored
    if not rivals:
        return list(network)
    return [
        replace(frame, bicubic_linear=other.network)
        for frame, other in zip(network, rivals[0], strict=True)
    ]


def _compared(
    frames: Sequence[FrameScore],
    name: str,
    protocol: str,
    degradation: str,
    *,
    per_folder: bool = False,
) -> SetComparison:
    def means(value: Value) -> list[float]:
        return clip_means(frames, value, per_folder=per_folder)

    differences = means(gain("psnr_y"))
    low, high = bootstrap_interval(differences) or (None, None)
    return SetComparison(
        set=name,
        protocol=protocol,
        degradation=degradation,
        clips=len(by_clip(frames)),
        network=finite_mean(means(of_network("psnr_y"))),
        rival=finite_mean(means(of_baseline("psnr_y"))),
        difference=finite_mean(differences),
        low=low,
        high=high,
    )
