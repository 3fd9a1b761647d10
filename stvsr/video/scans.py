"""A scan that takes note of how each frame is coded, and takes high dynamic range as it is."""

import av

from stvsr.video.coding import Coding, coding_fault, coding_of
from stvsr.video.reader import Scan


class CodedScan(Scan):
    """A scan for upscaling.

    Attributes:
        codings: of every frame, in order; frames that are coded alike share one.
    """

    def __init__(self, codec: str) -> None:
        """Begin a pass over a video of a codec, by FFmpeg's name."""
        super().__init__(self._note)
        self.codings: list[Coding] = []
        self._codec = codec

    def _note(self, frame: av.VideoFrame) -> str:
        fault = coding_fault(frame)
        if fault:
            self.codings.append(Coding())
            return fault
        coding = coding_of(frame, self._codec)
        is_same = bool(self.codings) and self.codings[-1] == coding
        self.codings.append(self.codings[-1] if is_same else coding)
        return ""
