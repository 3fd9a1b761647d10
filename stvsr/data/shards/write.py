"""Shards: clips packed into tar files that are written whole. The only importer of WebDataset.

A set is a folder of `000000.tar`, `000000.idx`, `000001.tar`, … and `lineage.json`, which is
written last: a folder with a lineage is a whole set. `ShardSet` reads it; docs/data-contract.md
has the formats.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import webdataset  # type: ignore[import-untyped]
from isal import isal_zlib

from stvsr.core.clip import SCALE
from stvsr.core.config import Config, Field
from stvsr.core.errors import ShardError, SourceError
from stvsr.core.files import sha256_of, write_bytes_whole
from stvsr.core.fingerprint import code_fingerprint
from stvsr.core.workers import map_parallel
from stvsr.data.clips import png
from stvsr.data.clips.frames import FrameError, open_frames
from stvsr.data.clips.layout import CLIP_NAME, FRAMES, Split
from stvsr.data.index.manifest import ClipRecord, read_manifest, read_root
from stvsr.data.shards.degrade import DegradationConfig, degrade
from stvsr.data.shards.format import (
    HR_FRAMES,
    LAYOUT,
    LINEAGE,
    LR_FRAMES,
    MEMBERS,
    MOST_BYTES,
    OWNER,
    SHARD_FILE,
    ClipMeta,
    IndexedClip,
    Lineage,
    ShardIndex,
    ShardRecord,
    digest,
    hash_of_shards,
    inputs_digest,
    json_bytes,
    key,
)
from stvsr.data.shards.read import ShardSet

__all__ = ["ShardSet", "ShardTask", "ShardsConfig", "build_shard", "plan_shards", "write_shards"]


NOT_DECIDING = (
    "stvsr.core.errors",
    "stvsr.core.files",
    "stvsr.core.fingerprint",
    "stvsr.core.progress",
    "stvsr.core.workers",
    "stvsr.data.shards.read",
)
"""Modules that this one imports and on which a shard's bytes do not depend."""

BUFFER = 2**18
"""Bytes gathered for a write: the tar comes in pieces of 10 KiB."""


class ShardsConfig(Config):
    """How clips are packed."""

    clips_per_shard: int = Field(default=16, ge=1, le=4096)
    """Clips in one tar; the last one may hold fewer."""
    workers: int = Field(default=2, ge=1, le=256)
    """Processes that write shards; the bytes are the same whatever their number."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: all that `build_shard` needs, on whatever process it runs.

    Attributes:
        path: the tar.
        clips: what goes in, in this order.
        root: folder that holds `sequences/`, or a zip of it.
        degradation: how LR frames are made.
    """

    path: Path
    clips: tuple[ClipRecord, ...]
    root: Path
    degradation: DegradationConfig


@dataclass(frozen=True)
class WrittenShard:
    """Result of `build_shard`: the record and (clip, source) pairs for the lineage."""

    record: ShardRecord
    sources: tuple[tuple[str, str], ...]


RunTasks = Callable[[Sequence[ShardTask], int, str], Iterable[WrittenShard]]
"""Runs `build_shard` on every task and yields the results in order, with progress. It is given the
tasks, the number of workers, and the work in a few words."""


def on_processes(tasks: Sequence[ShardTask], workers: int, what: str) -> Iterator[WrittenShard]:
    """Run the tasks on processes of this machine."""
    return map_parallel(build_shard, tasks, workers, what)


def write_shards(
    index: Path,
    split: Split,
    out: Path,
    config: ShardsConfig,
    degradation: DegradationConfig,
    run: RunTasks = on_processes,
) -> Lineage:
    """Degrade the accepted clips of a split and pack them into shards.

    Clips are sorted by name and cut into runs of `clips_per_shard`; every shard is one task and a
    function of its clips, so its bytes depend neither on the workers nor on the machine. A shard
    that is whole in `out` and made from the same inputs is kept, shards of an earlier, larger set
    are removed. The caller holds `only_writer(out)`.

    Args:
        index: the folder `build_index` wrote.
        split: "train" or "test".
        out: folder of the set; made where it is missing.
        config: how clips are packed.
        degradation: how LR frames are made.
        run: where the tasks run; `stvsr.launch` has a cluster's.

    Returns:
        The lineage, as written to `out`/lineage.json after all shards.

    Raises:
        ShardError: the split has no accepted clip, the disk is full or `out` cannot be written.
        SourceError: the index or an image is missing, damaged or not as the index says.
        StvsrError: a worker process died. Whatever happens, `out` is left with whole shards and,
            unless all went well, without a lineage.
    """
    tasks = plan_shards(index, split, out, config, degradation)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear(out, keep=len(tasks))
        what = f"writing {split} shards"
        written = list(run(tasks, config.workers, what))
        _clear(out, keep=len(tasks))  # what a worker that was killed on the way left half-written
        lineage = _lineage(split, degradation, written)
        write_bytes_whole(out / LINEAGE, json_bytes(lineage, indent=1))
    except OSError as error:
        whole = len(list(out.glob("[0-9]*.idx"))) if out.is_dir() else 0
        raise ShardError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); {whole} of "
            f"{len(tasks)} shards are whole and stay: free some space or make the folder "
            "writable, and run the same command again"
        ) from error
    return lineage


def plan_shards(
    index: Path, split: Split, out: Path, config: ShardsConfig, degradation: DegradationConfig
) -> list[ShardTask]:
    """Cut the accepted clips of a split, sorted by name, into one task per shard.

    Raises:
        ShardError: there is no clip, or a clip's name cannot be a key in a shard.
    """
    clips = sorted(read_manifest(index, split), key=lambda record: record.clip)
    if not clips:
        raise ShardError(
            f"{index}: found no accepted {split} clip; at least one is needed: "
            f"see {index / 'summary.md'} for what was left out and why"
        )
    _check_names(clips)
    root = read_root(index)
    return [
        ShardTask(
            path=out / f"{number:06d}.tar",
            clips=tuple(clips[start : start + config.clips_per_shard]),
            root=root,
            degradation=degradation,
        )
        for number, start in enumerate(range(0, len(clips), config.clips_per_shard))
    ]


def build_shard(task: ShardTask) -> WrittenShard:
    """Write one tar and its index, or keep them where they are whole and of the same inputs."""
    index = _kept(task) or _write(task)
    record = ShardRecord(
        shard=index.shard,
        clips=len(index.clips),
        size=index.size,
        sha256=index.sha256,
        index_sha256=sha256_of(task.path.with_suffix(".idx")),
    )
    return WrittenShard(record, tuple((clip.clip, clip.source) for clip in index.clips))


# --- writing one shard


def _kept(task: ShardTask) -> ShardIndex | None:
    """The index of the shard that is there already, if it is whole and of the same inputs."""
    try:
        index = ShardIndex.read(task.path.with_suffix(".idx"), ShardError, "", limit=MOST_BYTES)
        sources = [_source_digest(_read_frames(task, clip)) for clip in task.clips]
        same = index.inputs == _inputs_digest(task, sources)
        return index if same and sha256_of(task.path) == index.sha256 else None
    except (FileNotFoundError, ShardError):
        return None


def _write(task: ShardTask) -> ShardIndex:
    """Write the tar, then its index: a tar without an index counts as not written."""
    task.path.with_suffix(".idx").unlink(missing_ok=True)
    sources: list[str] = []
    checksums: dict[str, int] = {}
    with (
        _whole_file(task.path) as file,
        webdataset.TarWriter(file, user=OWNER, group=OWNER, mtime=0, encoder=False) as writer,
    ):
        for clip in task.clips:
            frames = _read_frames(task, clip)
            sample = _sample(frames, clip, task)
            sources.append(_source_digest(frames))
            checksums |= {
                f"{key(clip.clip)}.{member}": isal_zlib.crc32(content)
                for member, content in sample.items()
            }
            writer.write({"__key__": key(clip.clip), **sample})
    index = _index_of(task, sources, checksums)
    write_bytes_whole(task.path.with_suffix(".idx"), json_bytes(index))
    return index


def _sample(frames: Sequence[bytes], clip: ClipRecord, task: ShardTask) -> dict[str, bytes]:
    """A clip's members: the HR files as they are, the input frames degraded, the JSON."""
    sample = {f"{name}.png": content for name, content in zip(HR_FRAMES, frames, strict=True)}
    for name, frame in zip(LR_FRAMES, FRAMES[::2], strict=True):
        try:
            hr_frame = png.decode(frames[frame - 1], (clip.height, clip.width))
        except ValueError as error:
            raise _changed(open_frames(task.root).where(clip.clip, frame), error) from None
        sample[f"{name}.png"] = png.encode_stored(degrade(hr_frame, task.degradation))
    return {**sample, "json": json_bytes(_meta(clip))}


def _meta(clip: ClipRecord) -> ClipMeta:
    return ClipMeta(
        clip=clip.clip,
        split=clip.split,
        motion=clip.motion,
        height=clip.height,
        width=clip.width,
    )


def _index_of(task: ShardTask, sources: Sequence[str], checksums: Mapping[str, int]) -> ShardIndex:
    """Describe the tar that was just written, from its own headers."""
    with tarfile.open(task.path) as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    clips = []
    for clip, source in zip(task.clips, sources, strict=True):
        names = [f"{key(clip.clip)}.{member}" for member in MEMBERS]
        clips.append(
            IndexedClip(
                clip=clip.clip,
                lr_size=(clip.height // SCALE, clip.width // SCALE),
                source=source,
                offsets=tuple(places[name][0] for name in names),
                sizes=tuple(places[name][1] for name in names),
                crc32=tuple(checksums[name] for name in names),
            )
        )
    return ShardIndex(
        layout=LAYOUT,
        shard=task.path.name,
        size=task.path.stat().st_size,
        sha256=sha256_of(task.path),
        inputs=_inputs_digest(task, sources),
        degradation=task.degradation,
        members=MEMBERS,
        clips=tuple(clips),
    )


def _read_frames(task: ShardTask, clip: ClipRecord) -> list[bytes]:
    """The seven PNG files of a clip, as they are; their headers must be as the index says."""
    frames = open_frames(task.root)
    contents = []
    for frame in FRAMES:
        try:
            content = frames.read(clip.clip, frame)
            png.check_header(content, (clip.height, clip.width))
        except (FrameError, ValueError) as error:
            raise _changed(frames.where(clip.clip, frame), error) from None
        contents.append(content)
    return contents


def _changed(where: str, fault: Exception) -> SourceError:
    return SourceError(
        f"{where}: {fault}, though the index lists its clip as valid; run `stvsr index` again"
    )


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary neighbour of `path`, which takes its name when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb", buffering=BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- writing a set


def _clear(out: Path, keep: int) -> None:
    """Remove the lineage, what a killed run left half-written, and shards from `keep` on."""
    (out / LINEAGE).unlink(missing_ok=True)
    for path in out.iterdir():
        numbered = SHARD_FILE.fullmatch(path.name)
        if path.name.endswith(".partial") or (numbered and int(numbered[1]) >= keep):
            path.unlink(missing_ok=True)


def _lineage(
    split: Split, degradation: DegradationConfig, written: Sequence[WrittenShard]
) -> Lineage:
    records = tuple(shard.record for shard in written)
    sources = (f"{clip} {source}" for shard in written for clip, source in shard.sources)
    return Lineage(
        layout=LAYOUT,
        split=split,
        clips=sum(record.clips for record in records),
        scale=SCALE,
        degradation=degradation,
        source=digest("\n".join(sources).encode()),
        code=writer_code(),
        stvsr_version=version("stvsr"),
        data_hash=hash_of_shards(records),
        shards=records,
    )


def _check_names(clips: Iterable[ClipRecord]) -> None:
    """A clip's name becomes a key, in which a dot or a blank would mean something else."""
    names: dict[str, str] = {}
    for clip in clips:
        if not CLIP_NAME.fullmatch(clip.clip):
            raise ShardError(
                f"clip {clip.clip!r}: allowed is FOLDER/CLIP, each of letters, digits, '_' and "
                "'-'; rename its folder and run `stvsr index` again"
            )
        other = names.get(key(clip.clip))
        if other is not None:
            raise ShardError(
                f"clips {other!r} and {clip.clip!r} would have the same key {key(other)!r}; "
                "rename the folder of one and run `stvsr index` again"
            )
        names[key(clip.clip)] = clip.clip


@cache
def writer_code() -> str:
    """Name the code that decides a shard's bytes: the layout's number and a code fingerprint."""
    return f"layout-{LAYOUT}+{code_fingerprint([__name__], without=NOT_DECIDING)}"


def _inputs_digest(task: ShardTask, sources: Sequence[str]) -> str:
    """Digest of all that decides a shard's bytes, written by this code."""
    metas = [_meta(clip) for clip in task.clips]
    return inputs_digest(writer_code(), task.degradation, metas, sources)


def _source_digest(frames: Sequence[bytes]) -> str:
    return digest(b"".join(hashlib.sha256(frame).digest() for frame in frames))
