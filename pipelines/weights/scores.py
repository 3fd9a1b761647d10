"""`python -m pipelines.weights.scores MODEL`: a network's gain over bicubic+linear, set by set.

The sets are those that the shipped weights are held to, from folders of the caller's: septuplets of
Vimeo-90K, clips of Vid4, the last fifth of videos, and the test clips of the sample. Each is scored
as `stvsr score` does, and a score that was made already is not made again.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import cv2

from stvsr.cli import main as stvsr
from stvsr.core.errors import StvsrError
from stvsr.data.clips.layout import MOTIONS, clip_folder, motion_list, read_clip_list
from stvsr.data.sources.source import SAMPLE_SIZE, SourceConfig, make_source
from stvsr.evaluation.set_scores import SCORES_FILE, SetScores

SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")


def main() -> int:
    """Score and print the table; 1 where something is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a model, models:/NAME@ALIAS or stvsr/NAME")
    parser.add_argument("--vimeo", type=Path, help="folder of septuplets in Vimeo-90K's layout")
    parser.add_argument("--vid4", type=Path, help="folder of Vid4, with GT and BIx4")
    parser.add_argument("--videos", type=Path, help="folder of videos")
    parser.add_argument("--clips", type=int, default=4, help="clips of each video, and motion")
    parser.add_argument("--sets", type=Path, default=Path("sets"), help="where clips are made")
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder of the scores")
    options = parser.parse_args()
    print_row("set", "clips", *(f"{kind}: model, gain" for kind in ("all", "input", "between")))
    try:
        for name, arguments in sets(options):
            out = options.out / name
            if not (out / SCORES_FILE).is_file():
                sys.stderr.write(f"scoring {name}\n")
                command = ["score", options.model, *arguments, "--name", "model", "--out", str(out)]
                with redirect_stdout(sys.stderr):
                    if stvsr(command):
                        return 1
            print_scores(name, out)
    except StvsrError as error:
        sys.stderr.write(f"scores: {error}\n")
        return 1
    return 0


def sets(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Name of each set, and the arguments of `stvsr score` for it; its clips are made."""
    if options.vimeo:
        yield "vimeo", ["--set", str(options.vimeo / "sequences")]
    if options.vid4:
        yield "vid4", ["--set", str(options.vid4), "--lr", "BIx4"]
    for video in sorted(options.videos.iterdir()) if options.videos else ():
        if video.suffix in SUFFIXES:
            yield video.stem, ["--set", str(end_of_video(video, options))]
    for motion in MOTIONS:
        yield f"sample-{motion}", ["--set", str(sample(motion, options))]


def end_of_video(video: Path, options: argparse.Namespace) -> Path:
    """Clips of the last fifth of a video, no larger than it."""
    folder: Path = options.sets / video.stem
    if not folder.exists():
        width, height = shown_size(video)
        size = (min(SAMPLE_SIZE[0], width), min(SAMPLE_SIZE[1], height))
        config = SourceConfig(
            kind="videos", path=str(video), size=size, train_clips=1, test_clips=options.clips
        )
        make_source(config, 0, folder)
    return folder / "sequences" / "50001"


def shown_size(video: Path) -> tuple[int, int]:
    """Width and height in square pixels, no more of them than stored, as multiples of 4."""
    opened = cv2.VideoCapture(str(video))
    width, height, across, down = (
        opened.get(name) or 1.0
        for name in (
            *(cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT),
            *(cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN),
        )
    )
    opened.release()
    aspect = across / down
    return int(width * min(1.0, aspect)) // 4 * 4, int(height / max(1.0, aspect)) // 4 * 4


def sample(motion: str, options: argparse.Namespace) -> Path:
    """The sample's test clips of a motion class."""
    folder: Path = options.sets / "sample"
    if not folder.exists():
        config = SourceConfig(train_clips=1, test_clips=options.clips * len(MOTIONS))
        make_source(config, 0, folder)
    of_motion: Path = options.sets / f"sample-{motion}"
    if not of_motion.exists():
        clips = read_clip_list(motion_list(folder, motion, "test"))  # type: ignore[arg-type]
        for clip in clips:
            shutil.copytree(clip_folder(folder, clip), of_motion / clip)
    return of_motion


def print_scores(name: str, out: Path) -> None:
    """One row: PSNR-Y of the network and its gain, in dB."""
    group = SetScores.model_validate_json((out / SCORES_FILE).read_bytes()).groups["all"]
    cells = []
    for kind in ("all", "input", "interpolated"):
        part = group.parts[kind]
        score, gain = part.network["psnr_y"].mean, part.gain["psnr_y"].mean
        cells.append("-" if score is None or gain is None else f"{score:.2f}, {gain:+.2f}")
    print_row(name, str(group.clips), *cells)


def print_row(*cells: str) -> None:
    """One row of the table, in Markdown."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
