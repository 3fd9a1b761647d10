"""The methods that can be scored, window by window: a network, others' frames, the baseline."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol as TypingProtocol

import numpy as np
import torch
from torch import Tensor

from stvsr.artifact import Card
from stvsr.core.errors import ParamsError, SourceError
from stvsr.data.clips.numbered import NumberedFrames, folders_of_frames
from stvsr.evaluation.facts import model_facts
from stvsr.evaluation.measures import output_to_uint8
from stvsr.evaluation.protocols import Protocol, Window
from stvsr.evaluation.scores import ModelFacts
from stvsr.evaluation.sets import SetClip
from stvsr.metrics import to_uint8
from stvsr.models import StvsrModel, upscale_bicubic_linear

NAMED = 6
"""Faults that a refusal names."""


class Method(TypingProtocol):
    """A way from LR frames to HR frames."""

    facts: ModelFacts | None
    """Facts of the network; None where it is not known."""

    def refuse(self, clips: Sequence[SetClip], protocol: Protocol) -> None:
        """Refuse, before any work, clips or a protocol for which it has no frames.

        Raises:
            StvsrError: says which.
        """

    def predict(self, clip: SetClip, protocol: Protocol, window: Window, lr_clip: Tensor) -> Tensor:
        """The scored frames of a window: (n, 3, H, W), uint8, on the device of `lr_clip`.

        Args:
            clip: of which the window is.
            protocol: to which it belongs.
            window: which frames.
            lr_clip: (1, T_in, 3, h, w), float32 in [0, 1], the LR of the window's input frames.
        """

    def state(self, clip: SetClip) -> str:
        """State of what its frames of a clip depend on, for resuming."""


class NetworkMethod:
    """A network that doubles the rate, on the device that scores."""

    def __init__(self, model: StvsrModel, card: Card) -> None:
        self.model = model
        self.facts: ModelFacts | None = model_facts(model, card)

    def refuse(self, clips: Sequence[SetClip], protocol: Protocol) -> None:
        """See `Method`."""
        for clip in clips:
            window = protocol.windows(len(clip.hr))[0]
            if any(window.place(frame).denominator != 1 for frame in window.scored):
                raise ParamsError(
                    f"--protocol: found {protocol.name}, which counts frames that a network for "
                    "twice the rate does not make; allowed: videoinr-centre, or --outputs with "
                    "frames of another network"
                )

    def predict(self, clip: SetClip, protocol: Protocol, window: Window, lr_clip: Tensor) -> Tensor:
        """See `Method`."""
        places = [int(window.place(frame)) for frame in window.scored]
        return output_to_uint8(self.model(lr_clip), [clip.name])[0, places]

    def state(self, clip: SetClip) -> str:
        """See `Method`: the weights' checksum."""
        return self.facts.weights_sha256 if self.facts else ""


class OutputsMethod:
    """Frames that others made, a folder of numbered PNGs for each clip."""

    def __init__(self, folder: Path) -> None:
        """Find the clips; raises SourceError where the folder is missing."""
        if not folder.is_dir():
            raise SourceError(f"--outputs: {folder}: no such folder; expected CLIP/*.png in it")
        self.folder = folder
        self.clips = {
            name: NumberedFrames(paths) for name, paths in folders_of_frames(folder).items()
        }
        self.facts: ModelFacts | None = None

    def refuse(self, clips: Sequence[SetClip], protocol: Protocol) -> None:
        """See `Method`."""
        faults = [fault for clip in clips if (fault := self._fault(clip, protocol))]
        if faults:
            more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
            raise SourceError(
                f"--outputs: {self.folder}: {'; '.join(faults[:NAMED])}{more}",
                remedy="give a folder CLIP/ for each clip, with one PNG for each of its frames "
                "or for each frame that the protocol scores",
            )

    def predict(self, clip: SetClip, protocol: Protocol, window: Window, lr_clip: Tensor) -> Tensor:
        """See `Method`."""
        outputs = self.clips[clip.name]
        places: Sequence[int] = window.scored
        if len(outputs) != len(clip.hr):
            order = protocol.scored_frames(len(clip.hr))
            places = [bisect_left(order, frame) for frame in window.scored]
        images = [outputs.read(place) for place in places]
        if len({image.shape for image in images}) > 1:
            raise SourceError(
                f"{clip.name}: found frames of different sizes in {self.folder}; expected those "
                "of the ground truth"
            )
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(lr_clip.device)

    def state(self, clip: SetClip) -> str:
        """See `Method`: the state of the clip's files."""
        return self.clips[clip.name].file_state()

    def _fault(self, clip: SetClip, protocol: Protocol) -> str:
        if clip.name not in self.clips:
            return f"{clip.name}: no such clip"
        outputs = self.clips[clip.name]
        scored = len(protocol.scored_frames(len(clip.hr)))
        if len(outputs) not in (len(clip.hr), scored):
            allowed = " or ".join(map(str, dict.fromkeys((len(clip.hr), scored))))
            return f"{clip.name}: found {len(outputs)} frames, expected {allowed}"
        if len(outputs) == len(clip.hr) and outputs.faults():
            return f"{clip.name}: {outputs.faults()[0]}"
        return ""


def predict_bicubic_linear(window: Window, lr_clip: Tensor) -> Tensor:
    """The baseline's frames of a window, at any time; arguments and result as `Method.predict`."""
    frames = upscale_bicubic_linear(lr_clip)[0]
    last = len(frames) - 1
    scored = []
    for place in map(window.place, window.scored):
        before = math.floor(place)
        after = min(before + 1, last)
        scored.append(torch.lerp(frames[before], frames[after], float(place - before)))
    return to_uint8(torch.stack(scored))
