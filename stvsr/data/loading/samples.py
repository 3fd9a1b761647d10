"""Samples of valid clips: damage ends the stream, or the next valid clip replaces it."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stvsr.core.errors import ShardError
from stvsr.data.loading.augment import SampleSpec
from stvsr.data.shards.format import HR_FRAMES, LR_FRAMES
from stvsr.data.shards.read import ShardSet

OnDamage = Literal["stop", "skip"]

FRAMES = (*LR_FRAMES, *HR_FRAMES)
"""The frames of a training sample: the network's inputs, and all that the loss looks at."""


@dataclass(frozen=True)
class Sample:
    """The files of one sample.

    Attributes:
        due: what the order drew.
        spec: what is read: `due`, or the valid clip that replaces it.
        files: the PNG files of `FRAMES`.
    """

    due: SampleSpec
    spec: SampleSpec
    files: tuple[memoryview, ...]


class ValidClips:
    """Reads the samples of a set, and knows which of its clips were found damaged.

    Where damage is skipped, the next valid clip in the order of the set replaces it,
    the first following the last. That depends on the shards alone: not on the rank, the loader,
    the threads or what was read before.
    """

    def __init__(self, shards: ShardSet, on_damage: OnDamage) -> None:
        self.shards = shards
        self._on_damage = on_damage
        self._damage: dict[int, str] = {}

    def read(self, due: SampleSpec) -> Sample:
        """Read the files of a sample, or of the clip that replaces it.

        Raises:
            ShardError: a member is damaged, or all clips are; names tar, member and byte.
            ServiceError: a remote store does not answer or refuses; no clip replaces that.
        """
        while True:
            spec = self._replacement(due)
            try:
                files = self.shards.files(spec.clip, FRAMES)
            except ShardError as damage:
                self.found(spec.clip, damage)
            else:
                return Sample(due, spec, tuple(files))

    def renewed(self, sample: Sample) -> Sample:
        """The sample itself, or another one if its clip was found damaged since it was read.

        Raises:
            ShardError, ServiceError: as `read`.
        """
        return self.read(sample.due) if sample.spec.clip in self._damage else sample

    def found(self, clip: int, damage: ShardError) -> None:
        """Take note that a clip is damaged.

        Raises:
            ShardError: `damage` itself, where damage stops the stream.
        """
        if self._on_damage == "stop":
            raise damage
        self._damage[clip] = str(damage)

    def keys(self, samples: Iterable[Sample]) -> tuple[str, ...]:
        """Names of the clips that are shown."""
        return tuple(self.shards.keys[sample.spec.clip] for sample in samples)

    def damage(self, samples: Iterable[Sample]) -> tuple[str, ...]:
        """Reasons for replaced clips, a line for each."""
        return tuple(
            f"{self._damage[sample.due.clip]}; {self.shards.keys[sample.spec.clip]} replaces "
            f"{self.shards.keys[sample.due.clip]}"
            for sample in samples
            if sample.due.clip != sample.spec.clip
        )

    def _replacement(self, due: SampleSpec) -> SampleSpec:
        n_clips = len(self.shards)
        for step in range(n_clips):
            clip = (due.clip + step) % n_clips
            if clip not in self._damage:
                return due if step == 0 else self._cropped_alike(due, clip)
        raise ShardError(
            f"{self.shards.address}: none of its {n_clips} clips is valid; the first: "
            f"{self._damage[0]}"
        )

    def _cropped_alike(self, due: SampleSpec, clip: int) -> SampleSpec:
        """The same augmentation of another clip, its crop moved inside a smaller frame."""
        how = due.augmentation
        height, width = self.shards.lr_size(clip)
        how = dataclasses.replace(
            how, top=min(how.top, height - how.crop), left=min(how.left, width - how.crop)
        )
        return SampleSpec(clip, how)
