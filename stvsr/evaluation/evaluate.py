"""Scores of a trained network beside those of the bicubic+linear baseline on the test clips."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from stvsr.artifact import START_FOLDER, load_artifact
from stvsr.core.clip import ClipBatch, input_indices
from stvsr.core.device import pick_device
from stvsr.core.files import whole_folder
from stvsr.core.progress import progress
from stvsr.data.loading.loader import eval_clips
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.storage import Address
from stvsr.evaluation.config import EvaluateConfig
from stvsr.evaluation.facts import model_facts
from stvsr.evaluation.measures import ON_Y, measure_frames, output_to_uint8
from stvsr.evaluation.pictures import Strips, cut_strips, labelled_png, strip_png
from stvsr.evaluation.scores import (
    FrameScore,
    Scores,
    Strip,
    compare,
    frame_scores,
    group_scores,
    headline,
    median_gain_clip,
)
from stvsr.evaluation.tables import clips_csv, frames_csv, positions_csv
from stvsr.metrics import to_uint8
from stvsr.models import upscale_bicubic_linear

logger = logging.getLogger(__name__)


def evaluate(model_folder: Path, shards_at: Address, out: Path, config: EvaluateConfig) -> Scores:
    """Score a model folder on a set of shards, and draw strips of the median clips.

    Args:
        model_folder: what training wrote. The network that it started from, which is in there if
            there is one, is scored too.
        shards_at: folder or fsspec address of the set to score on.
        out: folder that gets metrics.json (the headline, for DVC), scores.json (everything),
            clips.csv, frames.csv, positions.csv, strips/ and before_after.png; it appears whole
            or not at all.
        config: how many clips, on which device, and how large the strips are.

    Returns:
        The content of scores.json.

    Raises:
        ParamsError: the device is not there.
        CheckpointError: the model folder is missing or damaged, or the network's output is not
            finite.
        ShardError: the shards are missing or damaged.
        ServiceError: the store they are in does not answer or refuses.
    """
    device = pick_device(config.device, "evaluate.device")
    model, card = load_artifact(model_folder)
    model.to(device)
    start, start_facts = None, None
    if (model_folder / START_FOLDER).exists():
        start, start_card = load_artifact(model_folder / START_FOLDER)
        start.to(device)
        start_facts = model_facts(start, start_card)
    shards = ShardSet.open(shards_at)
    indices = range(min(len(shards), config.clips or len(shards)))
    motions = {shards.keys[index]: shards.meta(index).motion for index in indices}
    clips = progress(eval_clips(shards, indices, device=device), len(indices), "scoring clips")
    frames = score_frames(model, clips, motions, start)

    groups = group_scores(frames)
    chosen = {
        motion: median_gain_clip([frame for frame in frames if frame.motion == motion])
        for motion in groups
        if motion != "all"
    }
    cut = {
        motion: _cut_strips_of(model, shards, clip, config.strip_size, device)
        for motion, clip in chosen.items()
    }
    scores = Scores(
        model=model_facts(model, card),
        start=start_facts,
        degradation=str(shards.lineage.degradation),
        data_hash=shards.lineage.data_hash,
        frames_left_out=sum(not frame.is_scored for frame in frames),
        groups=groups,
        strips={motion: _strip(clip, frames, cut[motion]) for motion, clip in chosen.items()},
    )
    _warn(scores)
    with whole_folder(out) as partial:
        _write(partial, scores, frames, cut)
    return scores


@torch.inference_mode()
def score_frames(
    model: nn.Module,
    clips: Iterable[ClipBatch],
    motions: Mapping[str, str],
    start: nn.Module | None = None,
) -> list[FrameScore]:
    """Score every frame of every clip, of the network's output, the baseline's and the start's.

    Args:
        model: the network, in evaluation mode, on the clips' device.
        clips: float32 batches, in which the input frames are every other of the HR frames.
        motions: motion class by clip.
        start: the network that training started from, likewise; None where there is none.

    Raises:
        CheckpointError: a network's output has NaN or infinite values; the text names the clip.
    """
    scored: list[FrameScore] = []
    for batch in clips:
        hr_clip = to_uint8(batch.hr_clip)
        sr_clip = output_to_uint8(model(batch.lr_clip), batch.keys)
        baseline = to_uint8(upscale_bicubic_linear(batch.lr_clip))
        started = output_to_uint8(start(batch.lr_clip), batch.keys) if start else None
        frames = range(hr_clip.shape[1])
        for clip, key in enumerate(batch.keys):
            scored += frame_scores(
                key,
                motions[key],
                frames,
                input_indices(len(frames)),
                measure_frames(sr_clip[clip], hr_clip[clip], ON_Y),
                measure_frames(baseline[clip], hr_clip[clip], ON_Y),
                None if started is None else measure_frames(started[clip], hr_clip[clip], ON_Y),
            )
    return scored


def _cut_strips_of(
    model: nn.Module, shards: ShardSet, clip: str, size: int, device: torch.device
) -> Strips:
    (batch,) = eval_clips(shards, [shards.keys.index(clip)], device=device)
    return cut_strips(model, batch, size)


def _strip(clip: str, frames: Sequence[FrameScore], strips: Strips) -> Strip:
    return Strip(
        clip=clip,
        gain_psnr_y=compare([frame for frame in frames if frame.clip == clip]).gain_psnr_y,
        crop=strips.crop,
        input_frame=strips.input_frame,
        interpolated_frame=strips.interpolated_frame,
    )


def _warn(scores: Scores) -> None:
    if not scores.same_degradation:
        logger.warning(
            "the network was trained on %s and is scored on %s: its scores are for "
            "LR frames unlike those it was trained on",
            scores.model.degradation,
            scores.degradation,
        )
    if scores.frames_left_out:
        logger.warning(
            "%d frames equal the ground truth, have an infinite PSNR, and count in no mean",
            scores.frames_left_out,
        )


def _write(
    folder: Path, scores: Scores, frames: Sequence[FrameScore], cut: Mapping[str, Strips]
) -> None:
    texts = {
        "scores.json": scores.model_dump_json(indent=1) + "\n",
        "metrics.json": json.dumps(headline(scores), indent=1, allow_nan=False) + "\n",
        "clips.csv": clips_csv(frames),
        "frames.csv": frames_csv(frames),
        "positions.csv": positions_csv(frames),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "strips").mkdir()
    for motion, strips in cut.items():
        (folder / "strips" / f"{motion}_input.png").write_bytes(strip_png(strips.input_panels))
        (folder / "strips" / f"{motion}_interpolated.png").write_bytes(
            strip_png(strips.interpolated_panels)
        )
    picture = cut.get("medium") or next(iter(cut.values()))
    (folder / "before_after.png").write_bytes(labelled_png(picture))
