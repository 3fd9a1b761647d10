"""Benchmark sets: their layout, the clips and frames they have, and what is missing of one.

A set of frames is a folder with `GT/CLIP/*.png` and perhaps LR folders such as `BIx4/CLIP/*.png`
beside it, or with `CLIP/*.png` alone. Vimeo-90K's sets are its zip or its unpacked folder with the
motion lists. A folder of videos, or one video, has a clip for each segment of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stvsr.core.clip import SEPTUPLET
from stvsr.core.errors import ParamsError, SourceError
from stvsr.data.clips.frames import FrameError, Frames, open_frames
from stvsr.data.clips.layout import MOTIONS, Motion, motion_list, parse_clip_list
from stvsr.data.clips.numbered import (
    ClipFrames,
    NumberedFrames,
    SeptupletFrames,
    folders_of_frames,
)
from stvsr.data.sources.videos import videos_in
from stvsr.data.sources.vimeo90k import zip_in
from stvsr.evaluation.video_clips import open_videos
from stvsr.video.reader import shown_name

HR_FOLDER = "GT"
"""Name of the folder of HR frames in a set that has others beside it."""

NAMED = 6
"""Faults that a refusal names."""


@dataclass(frozen=True)
class BenchmarkSet:
    """A set that the literature scores on, as it must be.

    Attributes:
        name: its name on the command line.
        origin: where to get it.
        clips: number of clips.
        frames: number of frames by clip, where the set fixes the clips' names and lengths.
        names: names of the clips, where the set fixes only these.
        length: frames of each clip, where all have the same number.
        least: frames that each clip has at least.
        size: (W, H) of the HR frames, in pixels; None where they differ or are not fixed.
        motion: Vimeo-90K's motion class whose list names the clips.
    """

    name: str
    origin: str
    clips: int
    frames: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    length: int | None = None
    least: int = SEPTUPLET
    size: tuple[int, int] | None = None
    motion: Motion | None = None


@dataclass(frozen=True)
class SetClip:
    """A clip to score.

    Attributes:
        name: its name, such as "city" or "00001/0266".
        motion: its motion class; "" where it has none.
        hr: the ground truth.
        lr: LR frames that the set brings, one for each HR frame; None where they are to be made.
    """

    name: str
    motion: str
    hr: ClipFrames
    lr: ClipFrames | None = None


@dataclass(frozen=True)
class OpenSet:
    """A set on the disk.

    Attributes:
        name: name of the benchmark, or "folder NAME" or "video NAME": a file's name promises
            nothing.
        clips: the clips that are whole, by name in order.
        missing: what is missing or wrong, one line each; empty for a whole set.
        size: (W, H) that HR frames must have; None for any.
        left_out: what is beside the clips and not scored, and why, one line each; it makes no set
            incomplete.
    """

    name: str
    clips: tuple[SetClip, ...]
    missing: tuple[str, ...]
    size: tuple[int, int] | None = None
    left_out: tuple[str, ...] = ()


VID4_FRAMES = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
VIMEO_COUNTS: Mapping[Motion, int] = {"fast": 1225, "medium": 4977, "slow": 1613}
ADOBE240_TEST = ("GOPR9653", "IMG_0001", "IMG_0003", "IMG_0004a")
GOPRO_TEST = (
    *("GOPR0384_11_00", "GOPR0384_11_05", "GOPR0385_11_01", "GOPR0396_11_00", "GOPR0410_11_00"),
    *("GOPR0854_11_00", "GOPR0862_11_00", "GOPR0868_11_00", "GOPR0869_11_00", "GOPR0871_11_00"),
    "GOPR0881_11_01",
)

SETS = (
    BenchmarkSet(
        name="vid4",
        origin="the Vid4 archive of the video super-resolution literature, with GT/ and BIx4/",
        clips=4,
        frames=VID4_FRAMES,
    ),
    *(
        BenchmarkSet(
            name=f"vimeo-{motion}",
            origin="`stvsr fetch vimeo90k`, which brings the motion lists too",
            clips=VIMEO_COUNTS[motion],
            length=SEPTUPLET,
            size=(448, 256),
            motion=motion,
        )
        for motion in reversed(MOTIONS)
    ),
    BenchmarkSet(
        name="spmc",
        origin="the SPMC test set of Tao et al., Detail-revealing Deep Video Super-resolution",
        clips=11,
        length=31,
        size=(960, 540),
    ),
    BenchmarkSet(
        name="adobe240",
        origin="the original 240-fps videos of the deep-video-deblurring set, frames at 640x360",
        clips=len(ADOBE240_TEST),
        names=ADOBE240_TEST,
        least=9,
        size=(640, 360),
    ),
    BenchmarkSet(
        name="gopro",
        origin="the test videos of Nah et al., Deep Multi-scale CNN for Dynamic Scene Deblurring",
        clips=len(GOPRO_TEST),
        names=GOPRO_TEST,
        least=9,
    ),
    BenchmarkSet(
        name="stvt",
        origin="the authors of Deep Space-Time Video Upsampling Networks (STVUN)",
        clips=12,
        least=50,
    ),
)


def find_set(name: str) -> BenchmarkSet | None:
    """The benchmark set `name`; None where there is none."""
    return next((known for known in SETS if known.name == name), None)


def open_set(
    name: str, folder: Path | None = None, lr_folder: str = "", least: int = SEPTUPLET
) -> OpenSet:
    """Open a benchmark set by name, or any folder of clips; no frame is read, but of videos.

    Args:
        name: name of a benchmark, or path of a folder of clips, of a folder of videos, or of one
            video.
        folder: where a benchmark is; default: data/vimeo90k or data/sets/NAME.
        lr_folder: name of the set's folder of LR frames, such as "BIx4"; "": there is none.
        least: frames that a clip of a video has at least.

    Raises:
        ParamsError: the name is neither, or the set has no LR frames.
        SourceError: the folder is missing, or has no clip.
    """
    known = find_set(name)
    if known is None:
        return _open_unknown(_folder_of_clips(name, folder), lr_folder, least)
    root = folder or Path("data", "vimeo90k" if known.motion else f"sets/{known.name}")
    if not root.exists():
        raise SourceError(
            f"{root}: no such folder; expected the set {known.name} "
            f"({known.clips} clips); get it from: {known.origin}; --folder says where it is"
        )
    if known.motion is not None:
        return _open_vimeo(known, known.motion, root, lr_folder)
    found = _open_folder(root, lr_folder)
    return _checked(known, found)


def refuse_incomplete(opened: OpenSet) -> None:
    """Refuse to score what happens to be there of a set.

    Raises:
        SourceError: something is missing; the text names it.
    """
    if not opened.missing:
        return
    named = "; ".join(opened.missing[:NAMED])
    more = len(opened.missing) - NAMED
    raise SourceError(
        f"{opened.name}: not complete: {named}" + (f"; and {more} more" if more > 0 else ""),
        remedy="complete it, or pass --partial to score the whole clips and mark the result",
    )


def _folder_of_clips(name: str, folder: Path | None) -> Path:
    root = folder or Path(name)
    if not root.exists():
        allowed = ", ".join(known.name for known in SETS)
        raise ParamsError(
            f"--set: found {name!r}, which is no set and no folder; allowed: {allowed}, or a "
            "folder of clips, or of videos"
        )
    return root


def _open_unknown(root: Path, lr_folder: str, least: int) -> OpenSet:
    """A folder of frames, one of videos, or a video; videos beside frames are left out."""
    if not root.is_dir() or not folders_of_frames(root):
        return _open_videos(root, lr_folder, least)
    opened = _open_folder(root, lr_folder)
    beside = [path.relative_to(root).as_posix() for path in videos_in(root)]
    left_out = (f"{shown_name(path)}: a video beside clips of frames" for path in beside)
    return replace(opened, left_out=tuple(left_out))


def _open_videos(root: Path, lr_folder: str, least: int) -> OpenSet:
    if lr_folder:
        raise ParamsError(
            f"--lr: found {lr_folder!r}; videos have no LR frames: leave --lr out, and "
            "--degradation makes them"
        )
    if root.is_dir() and not videos_in(root):
        raise SourceError(
            f"{root}: found no clip; expected one folder for each clip, with its frames as "
            "numbered PNGs, or videos"
        )
    found = open_videos(root, least)
    kind = "folder" if root.is_dir() else "video"
    clips = tuple(SetClip(name, "", frames) for name, frames in found.clips.items())
    name = f"{kind} {shown_name(root.resolve().name)}"
    return OpenSet(name, clips, tuple(found.missing), left_out=tuple(found.left_out))


def _open_folder(root: Path, lr_folder: str) -> OpenSet:
    """Clips of a folder, whatever they are; one with a gap in its numbers is missing."""
    hr_root = root / HR_FOLDER if (root / HR_FOLDER).is_dir() else root
    folders = folders_of_frames(hr_root)
    if not folders:
        raise SourceError(
            f"{hr_root}: found no clip; expected one folder for each clip, with its frames as "
            "numbered PNGs"
        )
    lr_folders = _lr_folders(root, lr_folder)
    clips: list[SetClip] = []
    missing: list[str] = []
    for name, paths in folders.items():
        hr = NumberedFrames(paths)
        lr = None if lr_folders is None else NumberedFrames(lr_folders.get(name, []))
        faults = [*hr.faults(), *_lr_faults(hr, lr, lr_folder)]
        missing += [f"{name}: {fault}" for fault in faults]
        if not faults:
            clips.append(SetClip(name, "", hr, lr))
    return OpenSet(f"folder {root.resolve().name}", tuple(clips), tuple(missing))


def _lr_folders(root: Path, lr_folder: str) -> dict[str, list[Path]] | None:
    if not lr_folder:
        return None
    if not (root / HR_FOLDER).is_dir() or not (root / lr_folder).is_dir():
        raise ParamsError(
            f"--lr: found no {root / lr_folder} beside {root / HR_FOLDER}; without --lr the LR "
            "frames are made by --degradation"
        )
    return folders_of_frames(root / lr_folder)


def _lr_faults(hr: NumberedFrames, lr: NumberedFrames | None, lr_folder: str) -> list[str]:
    if lr is None:
        return []
    if len(lr) != len(hr):
        return [f"{len(lr)} frames in {lr_folder} for {len(hr)} HR frames"]
    return [f"in {lr_folder}: {fault}" for fault in lr.faults()]


def _checked(known: BenchmarkSet, found: OpenSet) -> OpenSet:
    """A folder's clips held to what the benchmark has."""
    names = (*known.frames, *known.names)
    faulty = {line.partition(":")[0] for line in found.missing}
    there = {clip.name for clip in found.clips} | faulty
    missing = [*found.missing, *(f"{name}: no such clip" for name in names if name not in there)]
    if names:
        missing += [f"{name}: no clip of {known.name}" for name in sorted(there - set(names))]
    elif len(there) != known.clips:
        missing.append(f"found {len(there)} of {known.clips} clips")
    clips: list[SetClip] = []
    for clip in found.clips:
        fault = _length_fault(known, clip)
        if fault:
            missing.append(f"{clip.name}: {fault}")
        elif not names or clip.name in names:
            clips.append(clip)
    return OpenSet(known.name, tuple(clips), tuple(missing), known.size)


def _length_fault(known: BenchmarkSet, clip: SetClip) -> str:
    exact = known.frames.get(clip.name, known.length)
    if exact is not None and len(clip.hr) != exact:
        return f"{len(clip.hr)} of {exact} frames"
    if len(clip.hr) < known.least:
        return f"{len(clip.hr)} frames, at least {known.least} expected"
    return ""


def _open_vimeo(known: BenchmarkSet, motion: Motion, root: Path, lr_folder: str) -> OpenSet:
    if lr_folder:
        raise ParamsError(
            f"--lr: found {lr_folder!r}; {known.name} has no LR frames: leave --lr out, and "
            "--degradation makes them"
        )
    frames = open_frames(zip_in(root) or root)
    names = _motion_names(root, frames, motion)
    missing = [
        f"{name}: frame {', '.join(map(str, absent))} is missing"
        for name in names
        if (absent := frames.missing(name))
    ]
    faulty = {line.partition(":")[0] for line in missing}
    if len(names) != known.clips:
        missing.append(f"the list names {len(names)} of {known.clips} clips")
    clips = _septuplets(frames, motion, [name for name in names if name not in faulty])
    return OpenSet(known.name, clips, tuple(missing), known.size)


def _septuplets(frames: Frames, motion: Motion, names: Sequence[str]) -> tuple[SetClip, ...]:
    return tuple(SetClip(name, motion, SeptupletFrames(frames, name)) for name in sorted(names))


def _motion_names(root: Path, frames: Frames, motion: Motion) -> list[str]:
    """The clips of a motion class, from the list beside the clips or in their zip."""
    path = motion_list(root if root.is_dir() else root.parent, motion, "test")
    try:
        content = path.read_bytes() if path.is_file() else frames.read_list(path.name)
    except (FrameError, OSError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    if content is None:
        raise SourceError(
            f"{path}: no such list; expected the {motion} clips of Vimeo-90K's test set, one a "
            "line; `stvsr fetch vimeo90k` brings it"
        )
    return list(dict.fromkeys(parse_clip_list(content, str(path))))
