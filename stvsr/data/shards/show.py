"""`stvsr shards show`: what a set of shards holds, in numbers and in one picture."""

import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from stvsr.core.files import write_bytes_whole
from stvsr.core.image import UInt8Image
from stvsr.core.progress import progress
from stvsr.core.terminal import output
from stvsr.data.clips.layout import MOTIONS, spread
from stvsr.data.shards.format import ClipMeta
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.storage import Address, is_remote

READS = 16
"""Clips read at a time, which a remote store's latency asks for."""

FRAME = 3
"""The frame that the sheet shows: the odd one before the clip's middle."""

_THUMBNAIL = (224, 128)
_COLUMNS = 2
_GAP = 8
_LABEL_HEIGHT = 20
_CELL = (2 * _THUMBNAIL[0] + 2 * _GAP, _THUMBNAIL[1] + _LABEL_HEIGHT + _GAP)
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def show_set(address: Address, out: Path | None, clips: int) -> None:
    """Print what a set holds and write its contact sheet.

    Args:
        address: folder or fsspec address of the set.
        out: the picture; None: NAME-contact-sheet.png beside the set, or in the working folder
            where the set is remote.
        clips: how many clips the picture shows at most, evenly spread over the set.

    Raises:
        ShardError: the set is missing or damaged.
        ServiceError: a remote store does not answer or refuses.
    """
    shards = ShardSet.open(address)
    with ThreadPoolExecutor(READS) as pool:
        each = pool.map(shards.meta, range(len(shards)))
        metas = list(progress(each, len(shards), f"reading {shards.address}"))
    path = out or _beside(address)
    write_bytes_whole(path, contact_sheet(shards, metas, clips))
    console = output(width=100)
    console.print(_table(shards, metas))
    console.print(f"contact sheet  {path}", soft_wrap=True)


def contact_sheet(shards: ShardSet, metas: Sequence[ClipMeta], clips: int) -> bytes:
    """A PNG: of each chosen clip one frame as LR and as HR, side by side, under its name."""
    chosen = spread(range(len(shards)), clips)
    columns, rows = min(_COLUMNS, len(chosen)), -(-len(chosen) // _COLUMNS)
    sheet = Image.new("RGB", (_GAP + columns * _CELL[0], _GAP + rows * _CELL[1]), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for place, clip in enumerate(chosen):
        row, column = divmod(place, _COLUMNS)
        left, top = _GAP + column * _CELL[0], _GAP + row * _CELL[1]
        label = f"{metas[clip].clip}  {metas[clip].motion}"
        draw.text((left, top), label, fill=_INK, font=font)
        for kind in ("lr", "hr"):
            thumbnail = _thumbnail(shards.frame(clip, f"{kind}{FRAME}"))
            sheet.paste(thumbnail, (left, top + _LABEL_HEIGHT))
            left += _THUMBNAIL[0] + _GAP // 2
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _thumbnail(frame: UInt8Image) -> Image.Image:
    """The frame as large as fits; enlarged, it keeps its pixels to be seen."""
    image = Image.fromarray(frame)
    ratio = min(_THUMBNAIL[0] / image.width, _THUMBNAIL[1] / image.height)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    how = Image.Resampling.NEAREST if ratio > 1 else Image.Resampling.LANCZOS
    return image.resize(size, how)


def _beside(address: Address) -> Path:
    path = Path(str(address).rstrip("/"))
    name = f"{path.name}-contact-sheet.png"
    return Path(name) if is_remote(address) else path.with_name(name)


def _table(shards: ShardSet, metas: Sequence[ClipMeta]) -> Table:
    lineage = shards.lineage
    motions = Counter(meta.motion for meta in metas)
    sizes = Counter(f"{meta.width}x{meta.height}" for meta in metas)
    per_shard = [record.clips for record in lineage.shards]
    total = sum(record.size for record in lineage.shards)
    rows = {
        "split": lineage.split,
        "clips": f"{lineage.clips}, named {shards.keys[0]} to {shards.keys[-1]}",
        "shards": f"{len(per_shard)} of {min(per_shard)} to {max(per_shard)} clips",
        "size": f"{total / 1e6:,.1f} MB, {total / lineage.clips / 1e6:.2f} MB per clip",
        "HR frames": ", ".join(f"{count} clips of {size}" for size, count in sizes.most_common(5)),
        "motion": ", ".join(f"{motions[motion]} {motion}" for motion in MOTIONS),
        "degradation": f"{lineage.degradation}, scale {lineage.scale}",
        "data hash": lineage.data_hash,
        "source": lineage.source,
        "code": f"{lineage.code}, written by stvsr {lineage.stvsr_version}",
    }
    table = Table(title=shards.address, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
