"""Vimeo-90K as it is: its lists are taken over, its images stay where they are."""

from pathlib import Path

from stvsr.core.errors import SourceError
from stvsr.core.files import is_side_file, read_bytes
from stvsr.data.clips.frames import FrameError, Frames, ZipFrames, open_frames
from stvsr.data.clips.layout import (
    MOST_LIST_BYTES,
    MOTIONS,
    SPLITS,
    SourceRecord,
    Split,
    motion_list,
    parse_clip_list,
    split_list,
    spread,
    write_clip_list,
    write_record,
)

ALLOWED = (
    "vimeo_septuplet.zip, a folder with it and the motion lists, or the folder it unpacks to, with "
    "sequences/, sep_trainlist.txt and sep_testlist.txt"
)
"""Allowed values of `source.path`, for messages."""


def use_vimeo90k(
    dataset: Path, train_clips: int | None, test_clips: int | None, out: Path
) -> SourceRecord:
    """Write the lists and the record of the dataset into the empty folder `out`.

    Args:
        dataset: the dataset's zip as it is; a folder that holds one zip; or the folder it unpacks
            to: `sequences/`, `sep_trainlist.txt` and `sep_testlist.txt`. The motion lists
            `{fast,medium,slow}_testset.txt` are used where they are beside these or beside the
            zip; so are the lists of a zip that has none.
        train_clips: take this many training clips, spread evenly over the list; None: all.
        test_clips: the same of the test clips.
        out: where lists and record are written; no image is copied.

    Returns:
        The record, whose root is the dataset's absolute path.

    Raises:
        SourceError: it is not the dataset, the zip is damaged, or a list is damaged or empty.
    """
    dataset = zip_in(dataset) or dataset
    if dataset.is_dir():
        _check_folder(dataset)
    frames = open_frames(dataset)
    wanted: dict[Split, int | None] = {"train": train_clips, "test": test_clips}
    chosen: dict[Split, list[str]] = {}
    for split in SPLITS:
        clips = _split_clips(dataset, frames, split)
        chosen[split] = spread(clips, wanted[split])
        write_clip_list(split_list(out, split), chosen[split])
        _take_over_motion(dataset, frames, split, set(chosen[split]), out)
    record = SourceRecord(
        kind="vimeo90k",
        root=str(dataset.resolve()),
        train_clips=len(chosen["train"]),
        test_clips=len(chosen["test"]),
        provenance=_provenance(frames),
    )
    write_record(out, record)
    return record


def zip_in(folder: Path) -> Path | None:
    """The zip of a folder as `stvsr fetch` makes it."""
    if (folder / "sequences").exists():
        return None
    zips = sorted(path for path in folder.glob("*.zip") if not is_side_file(path.name))
    if len(zips) > 1:
        raise SourceError(
            f"source.path: {folder} has {len(zips)} zips ({', '.join(path.name for path in zips)})",
            remedy="set source.path to the one that is meant",
        )
    return zips[0] if zips else None


def _check_folder(dataset: Path) -> None:
    """Refuse what is not the dataset's folder, saying what is missing and what might be meant."""
    needed = ("sequences", "sep_trainlist.txt", "sep_testlist.txt")
    missing = [name for name in needed if not (dataset / name).exists()]
    if not missing:
        return
    inner = [
        child
        for child in sorted(dataset.iterdir())
        if not is_side_file(child.name) and (child / "sequences").is_dir()
    ]
    hint = f"; did you mean {inner[0]}?" if inner else ""
    raise SourceError(
        f"source.path: {dataset} has no {', '.join(missing)}; allowed with source.kind=vimeo90k: "
        f"{ALLOWED}{hint}"
    )


def _split_clips(dataset: Path, frames: Frames, split: Split) -> list[str]:
    path = split_list(_folder(dataset), split)
    name = path.name
    content = _list(dataset, frames, name)
    if content is None:
        content = _list_beside(path)
    if content is None:
        raise SourceError(
            f"source.path: {dataset} has no {name} beside sequences/ or the zip; allowed with "
            f"source.kind=vimeo90k: {ALLOWED}"
        )
    clips = parse_clip_list(content, f"{dataset}: {name}")
    if not clips:
        raise SourceError(f"{dataset}: {name}: found no clip; at least one is needed")
    return clips


def _take_over_motion(
    dataset: Path, frames: Frames, split: Split, chosen: set[str], out: Path
) -> None:
    """Write the motion lists cut down to the chosen clips; one class to a clip."""
    classes: dict[str, str] = {}
    for motion in MOTIONS:
        path = motion_list(_folder(dataset), motion, split)
        content = _list_beside(path)
        if content is None:
            content = _list(dataset, frames, path.name)
        if content is None:
            continue
        clips = [clip for clip in parse_clip_list(content, str(path)) if clip in chosen]
        for clip in clips:
            if classes.setdefault(clip, motion) != motion:
                raise SourceError(
                    f"{path}: clip {clip} is in the {classes[clip]} list too; allowed is one "
                    "class for a clip: take it out of one"
                )
        write_clip_list(motion_list(out, motion, split), clips)


def _folder(dataset: Path) -> Path:
    """The folder of the lists: the dataset's own, or the one that its zip is in."""
    return dataset if dataset.is_dir() else dataset.parent


def _list_beside(path: Path) -> bytes | None:
    """A list's bytes; None where there is no such file."""
    try:
        return read_bytes(path, MOST_LIST_BYTES)
    except OSError as fault:
        if isinstance(fault, FileNotFoundError) and not path.is_symlink():
            return None
        raise SourceError(f"{path}: cannot be read ({fault.strerror}); move it away") from None


def _list(dataset: Path, frames: Frames, name: str) -> bytes | None:
    try:
        return frames.read_list(name)
    except FrameError as fault:
        raise SourceError(f"{dataset}: {name}: {fault}; get the dataset again") from None


def _provenance(frames: Frames) -> dict[str, str]:
    """Describe the dataset; a zip also by the digest of its directory."""
    if not isinstance(frames, ZipFrames):
        return {"dataset": "Vimeo-90K septuplet, as a folder"}
    directory = frames.directory
    return {
        "dataset": "Vimeo-90K septuplet, as a zip",
        "bytes": str(directory.size),
        "clips in the zip": str(len(directory.clips)),
        "sha256 of its directory": directory.sha256,
    }
