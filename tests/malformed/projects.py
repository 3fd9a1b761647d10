"""Whole projects, made by the verbs in the working folder, and what the doors leave in them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from PIL import Image, PngImagePlugin

from stvsr.cli import main
from stvsr.data.clips.layout import Split
from stvsr.data.shards.format import HR_FRAMES, LR_FRAMES
from stvsr.data.shards.read import ShardSet
from tests.support.clips import write_tiny_source
from tests.support.models import write_tiny_artifact

PARAMS: Mapping[str, Any] = {
    "shards": {"workers": 1, "clips_per_shard": 2},
    "evaluate": {"device": "cpu"},
}
SOURCE, INDEX, SHARDS = Path("data/source"), Path("data/index"), Path("data/shards")
TRAIN, TEST = 3, 2


def run(*arguments: str) -> None:
    """A verb that must succeed."""
    status = main(arguments)
    if status:
        raise AssertionError(f"{arguments}: {status}")


def write_params(**sections: Any) -> None:
    Path("params.yaml").write_text(json.dumps({**PARAMS, **sections}))


def source() -> None:
    """Parameters, and a source of 3 training and 2 test clips."""
    write_params()
    write_tiny_source(SOURCE, TRAIN, TEST)


def indexed() -> None:
    source()
    run("index")


def sharded() -> None:
    indexed()
    for split in ("train", "test"):
        run("shard", split)


def with_model() -> None:
    """Both sets of shards, and a network without a run."""
    sharded()
    write_tiny_artifact(Path("model"))


# --- what doors leave


def manifest() -> dict[str, dict[str, Any]]:
    """The manifest's rows by split and clip."""
    table = pq.read_table(INDEX / "manifest.parquet")
    rows = table.to_pylist()
    return {f"{number} {row['split']} {row['clip']}": row for number, row in enumerate(rows)}


def manifest_or_rejected(clip: str) -> Any:
    """Whether a manifest is the whole one, or rejects clips whose names hold `clip`."""

    def same(whole: Any, found: Any) -> bool:
        odd = [key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key)]
        rejects = all(
            key in found and not found[key]["accepted"] and found[key]["reason"] for key in odd
        )
        return rejects and all(clip in key for key in odd)

    return same


def pixels_of_set(split: Split) -> dict[str, str]:
    """A digest of the pixels of each frame in a set, as an independent decoder has them."""
    shards = ShardSet.open(SHARDS / split)
    return {
        f"{shards.keys[clip]} {frame}": pixels(bytes(shards.files(clip, [frame])[0]))
        for clip in range(len(shards))
        for frame in (*HR_FRAMES, *LR_FRAMES)
    }


def pixels(png: bytes) -> str:
    PngImagePlugin.MAX_TEXT_CHUNK = 2**30  # a profile that is too large hides no wrong pixel
    path = Path("frame.png")
    path.write_bytes(png)
    with Image.open(path) as image:
        mode, levels = image.mode, np.asarray(image)
    path.unlink()
    return f"{mode} {hashlib.sha256(levels.tobytes()).hexdigest()}"


def part_of(whole: Any, found: Any) -> bool:
    """Whether nothing is there that the whole does not have."""
    return bool(found) and all(whole.get(key) == value for key, value in found.items())


def files(folder: str, *names: str) -> dict[str, bytes]:
    """Bytes of files."""
    return {name: Path(folder, name).read_bytes() for name in names}


def set_of(split: str) -> dict[str, Any]:
    """A set's tars, indexes and lineage, without what says in words who wrote it."""
    left: dict[str, Any] = {}
    for path in sorted((SHARDS / split).iterdir()):
        content = path.read_bytes()
        left[path.name] = content if path.suffix == ".tar" else json.loads(content)
    for word in ("code", "stvsr_version"):
        left["lineage.json"].pop(word, None)
    return left
