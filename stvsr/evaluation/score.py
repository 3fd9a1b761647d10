"""Score a method on a set under a protocol: clip by clip, window by window."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stvsr.core.clip import SCALE
from stvsr.core.errors import InputError, SourceError
from stvsr.core.files import whole_folder
from stvsr.core.fingerprint import code_fingerprint
from stvsr.core.image import UInt8Image
from stvsr.core.progress import progress
from stvsr.data.shards.degrade import DegradationConfig, degrade
from stvsr.evaluation import intervals
from stvsr.evaluation.clip_pictures import ClipPictures, Pictures
from stvsr.evaluation.journal import ScoreJournal
from stvsr.evaluation.measures import crop_border, measure_frames
from stvsr.evaluation.meters import Meters
from stvsr.evaluation.methods import Method, predict_bicubic_linear
from stvsr.evaluation.protocols import Protocol, Window
from stvsr.evaluation.scores import FrameScore, frame_scores
from stvsr.evaluation.set_scores import SCORES_FILE, SetScores, summarise
from stvsr.evaluation.sets import OpenSet, SetClip
from stvsr.evaluation.speed import Speed
from stvsr.evaluation.tables import clips_csv, frames_csv

logger = logging.getLogger(__name__)

Recorder = Callable[[SetScores, Path], None]
"""Takes note of a result that is whole, in its folder."""


@dataclass(frozen=True)
class Scoring:
    """Conditions of a score.

    Attributes:
        protocol: which frames count.
        degradation: how LR frames are made where the set does not bring them.
        lr_folder: the set's folder of LR frames; "" where they are made.
        device: of the network.
        measures: further measures, keys of `stvsr.evaluation.meters.FURTHER`.
    """

    protocol: Protocol
    degradation: DegradationConfig
    lr_folder: str
    device: torch.device
    measures: tuple[str, ...] = ()

    @property
    def lr_from(self) -> str:
        """Origin of the LR frames, in a few words."""
        return f"read from {self.lr_folder}" if self.lr_folder else str(self.degradation)


def score_set(
    name: str,
    method: Method,
    opened: OpenSet,
    scoring: Scoring,
    out: Path,
    *,
    speed: Sequence[Speed] = (),
    record: Recorder | None = None,
) -> SetScores:
    """Score a method, and the bicubic+linear baseline on the same frames.

    Killed at any moment, the same call resumes with the clip that was not finished and gives the
    same bytes.

    Args:
        name: the method's name in tables.
        method: what is scored.
        opened: the set; its whole clips are scored.
        scoring: the conditions.
        out: folder that gets scores.json, clips.csv, frames.csv and pictures; it appears whole or
            not at all.
        speed: what was measured of the network, for the result.
        record: gets the result when it is whole; until it has ended well, no clip is forgotten.

    Returns:
        The content of scores.json.

    Raises:
        SourceError: there is no clip, or a frame is missing, damaged or of the wrong size.
        InputError: a clip is shorter than a window of the protocol.
        ParamsError: the method does not make the frames that the protocol counts.
        StvsrError: what `record` raises.
    """
    _refuse_clips(opened, scoring.protocol)
    method.refuse(opened.clips, scoring.protocol)
    _warn(method, scoring)
    journal = ScoreJournal(out, _conditions(scoring))
    pictures = Pictures(out, opened.clips)
    frames = _score_clips(name, method, opened, scoring, journal, pictures)
    scores = SetScores(
        method=name,
        model=method.facts,
        set=opened.name,
        protocol=scoring.protocol.name,
        degradation=scoring.lr_from,
        crop=scoring.protocol.crop,
        clips=len(opened.clips),
        frames=len(frames),
        frames_left_out=sum(not frame.is_scored for frame in frames),
        missing=opened.missing,
        left_out=opened.left_out,
        interval=intervals.ABOUT,
        code=code_fingerprint([__name__]),
        speed=tuple(speed),
        groups=summarise(frames, per_folder=scoring.protocol.weighs_folders),
    )
    with whole_folder(out) as partial:
        _write(partial, scores, frames)
        pictures.copy_to(partial)
    if record:
        record(scores, out)
    journal.remove()
    pictures.remove()
    return scores


def _score_clips(
    name: str,
    method: Method,
    opened: OpenSet,
    scoring: Scoring,
    journal: ScoreJournal,
    pictures: Pictures,
) -> list[FrameScore]:
    """Score the clips that the journal does not hold."""
    journal.open()
    if len(journal):
        logger.info("resuming: %d of %d clips were scored before", len(journal), len(opened.clips))
    frames: list[FrameScore] = []
    for clip in progress(opened.clips, len(opened.clips), f"scoring {name}"):
        state = _state(method, clip)
        scored = journal.find(clip.name, state)
        if scored is None or not pictures.are_there(clip):
            taken = pictures.of(clip, scoring.protocol)
            scored = score_clip(method, clip, scoring, opened.size, taken)
            journal.add(state, scored)
        frames += scored
    return frames


@torch.inference_mode()
def score_clip(
    method: Method,
    clip: SetClip,
    scoring: Scoring,
    size: tuple[int, int] | None,
    pictures: ClipPictures | None = None,
) -> list[FrameScore]:
    """Score every frame of a clip that the protocol counts; a window of it is in memory at a time.

    Args:
        method: what is scored.
        clip: what it is scored on.
        scoring: the conditions.
        size: (W, H) that the HR frames must have; None: that of the first.
        pictures: takes and writes the clip's pictures.
    """
    protocol, device = scoring.protocol, scoring.device
    reader = _ClipReader(clip, scoring, size)
    meters = Meters(scoring.measures)
    scored: list[FrameScore] = []
    for window in protocol.windows(len(clip.hr)):
        hr = reader.hr_frames(window).to(device)
        lr_clip = reader.lr_clip(window).to(device).div(255)
        sr = method.predict(clip, protocol, window, lr_clip)
        if sr.shape != hr.shape:
            raise SourceError(
                f"{clip.name}: found frames of {_size(sr)}, expected {_size(hr)} as the ground "
                "truth's; score frames of the same size"
            )
        baseline = predict_bicubic_linear(window, lr_clip)
        if pictures:
            pictures.add(window, {"truth": hr, "bicubic_linear": baseline, "method": sr})
        scored += frame_scores(
            clip.name,
            clip.motion,
            window.scored,
            window.inputs,
            *_measure((sr, baseline), hr, protocol.crop, meters),
        )
    if pictures:
        pictures.write()
    return sorted(scored, key=lambda row: row.frame)


def _measure(
    outputs: Sequence[Tensor], hr: Tensor, crop: int, meters: Meters
) -> list[list[dict[str, float]]]:
    """Scores of the frames of each method, (n, 3, H, W): for each a mapping for each frame."""
    further = meters.add([crop_border(output, crop) for output in outputs], crop_border(hr, crop))
    return [
        [row | more for row, more in zip(measure_frames(output, hr, crop=crop), of, strict=True)]
        for output, of in zip(outputs, further, strict=True)
    ]


class _ClipReader:
    """Frames of a clip as tensors; those of the last windows are kept."""

    def __init__(self, clip: SetClip, scoring: Scoring, size: tuple[int, int] | None) -> None:
        self.clip = clip
        self.degradation = scoring.degradation
        self.size = size
        keep = lru_cache(maxsize=2 * scoring.protocol.span)
        self._hr = keep(self._read_hr)
        self._lr = keep(self._read_lr)

    def hr_frames(self, window: Window) -> Tensor:
        """(n, 3, H, W), uint8: the ground truth of the frames that are scored."""
        return _stack(self._hr(frame) for frame in window.scored)

    def lr_clip(self, window: Window) -> Tensor:
        """(1, T_in, 3, H / 4, W / 4), float32 in 0..255: the input frames."""
        return _stack(self._lr(frame) for frame in window.inputs)[None].to(torch.float32)

    def _read_hr(self, frame: int) -> UInt8Image:
        image = self.clip.hr.read(frame)
        height, width, _ = image.shape
        self.size = self.size or (width, height)
        if (width, height) != self.size or width % SCALE or height % SCALE:
            raise SourceError(
                f"{self.clip.name}: frame {frame + 1}: found {width}x{height} pixels, expected "
                f"{self.size[0]}x{self.size[1]}, multiples of {SCALE}; replace or crop the frames"
            )
        return image

    def _read_lr(self, frame: int) -> UInt8Image:
        hr = self._hr(frame)
        if self.clip.lr is None:
            return degrade(hr, self.degradation)
        lr = self.clip.lr.read(frame)
        height, width, _ = lr.shape
        if (SCALE * height, SCALE * width) != hr.shape[:2]:
            raise SourceError(
                f"{self.clip.name}: LR frame {frame + 1}: found {width}x{height} pixels, expected "
                f"{hr.shape[1] // SCALE}x{hr.shape[0] // SCALE}; choose another --lr"
            )
        return lr


def _conditions(scoring: Scoring) -> dict[str, str]:
    """Everything that decides a clip's scores, beside its files and the method."""
    return {
        "protocol": scoring.protocol.name,
        "lr": scoring.lr_from,
        "device": scoring.device.type,
        "measures": ",".join(scoring.measures),
        "code": code_fingerprint([__name__]),
    }


def _state(method: Method, clip: SetClip) -> str:
    lr = clip.lr.file_state() if clip.lr else ""
    return "\n".join((clip.motion, method.state(clip), clip.hr.file_state(), lr))


def _stack(images: Iterator[UInt8Image]) -> Tensor:
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2)


def _size(frames: Tensor) -> str:
    return f"{frames.shape[-1]}x{frames.shape[-2]}"


def _refuse_clips(opened: OpenSet, protocol: Protocol) -> None:
    if not opened.clips:
        raise SourceError(
            f"{opened.name}: no clip is whole; see docs/protocols.md for what it consists of"
        )
    for clip in opened.clips:
        try:
            protocol.windows(len(clip.hr))
        except InputError as error:
            raise InputError(f"{opened.name}: {clip.name}: {error.text}") from None


def _warn(method: Method, scoring: Scoring) -> None:
    trained_on = method.facts.degradation if method.facts else ""
    if trained_on and not scoring.lr_folder and trained_on != scoring.lr_from:
        logger.warning(
            "the network was trained on %s and is scored on %s: its scores are for "
            "LR frames unlike those it was trained on",
            trained_on,
            scoring.lr_from,
        )


def _write(folder: Path, scores: SetScores, frames: Sequence[FrameScore]) -> None:
    texts = {
        SCORES_FILE: scores.model_dump_json(indent=1) + "\n",
        "clips.csv": clips_csv(frames),
        "frames.csv": frames_csv(frames),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
