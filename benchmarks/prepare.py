"""How fast are clips prepared against decoding alone, and what grows with their number?

    OMP_WAIT_POLICY=passive python -m benchmarks.prepare --sample 48 --runs 3 --clips 91701

(a) Shards of 448x256 clips of the built-in sample, on one core: decoding the frames that have to be
decoded is the floor; the straightforward way decodes all with Pillow, resizes with MATLAB's
imresize written down in numpy, and encodes everything again. (c) A zip of many tiny clips, from
opening it to the first batch; each step in a process of its own, whose peak memory is read when it
ends. Prints a page for benchmarks/results/. Needs some 40 KB of disk a tiny clip.
"""

import argparse
import io
import json
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.harness import head, run_child, timed

Result = dict[str, float]

WAYS = {
    "decode": "decoding the four frames alone (the floor)",
    "decode all": "decoding all seven frames alone",
    "folder": "ours, from a folder",
    "zip": "ours, from a zip",
    "straightforward": "straightforward: Pillow, imresize in numpy, encode everything",
}

STEPS = {
    "zipfile": "opening the zip with `zipfile`, for comparison",
    "open": "opening the zip",
    "source": "`stvsr source`",
    "index": "`stvsr index`",
    "plan": "planning the shards",
    "shard": "`stvsr shard train`",
    "set": "opening the set",
    "batch": "opening the set, and the first batch of 4",
}

SIDE = 64
TESTS = 64


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(measured(options.child, Path(options.folder), options.runs)))
        return
    with tempfile.TemporaryDirectory(prefix="stvsr-bench-", dir=options.scratch) as name:
        folder = Path(name)
        ways = preparing(folder / "sample", options)
        sizes = [options.clips // 4, options.clips // 2, options.clips]
        steps = {clips: growing(folder / str(clips), clips) for clips in sizes if clips > TESTS}
    print(page(options, ways, steps))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=48, help="clips of 448x256")
    parser.add_argument("--runs", type=int, default=3, help="of each way to prepare them")
    parser.add_argument("--clips", type=int, default=91701, help="tiny clips; 0: leave (c) out")
    parser.add_argument("--scratch", help="folder for what is made on the way")
    parser.add_argument("--child", choices=[*WAYS, *STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_child(what: str, folder: Path, runs: int = 1) -> Result:
    arguments = {"child": what, "folder": folder, "runs": runs}
    return dict(run_child("prepare", arguments))


def measured(what: str, folder: Path, runs: int) -> Result:
    work = WORK[what](folder)
    with workers_watched() as worker_peaks:
        taken = timed(work, runs)
    return {
        "seconds": taken.seconds,
        "cpu_seconds": taken.cpu_seconds,
        "peak_mib": peak_mib("self"),
        "worker_peak_mib": max(worker_peaks.values(), default=0.0),
    }


@contextmanager
def workers_watched() -> Iterator[dict[int, float]]:
    """Look at the processes below this one ten times a second; what is kept is each one's peak."""
    peaks: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(OSError, StopIteration):
                    peaks[process.pid] = peak_mib(str(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def peak_mib(process: str) -> float:
    """Its own peak; ru_maxrss would hold that of the process that started it, too."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


# --- (a) preparing clips of 448x256


def preparing(folder: Path, options: argparse.Namespace) -> dict[str, Result]:
    from stvsr.data.clips.layout import RECORD_NAME
    from stvsr.data.index.build import IndexConfig, build_index
    from stvsr.data.sources.sample import make_sample
    from stvsr.data.sources.source import SourceConfig, make_source

    (folder / "clips").mkdir(parents=True)
    make_sample(options.sample, 1, (448, 256), 0, folder / "clips")
    (folder / "clips" / RECORD_NAME).unlink()
    with zipfile.ZipFile(folder / "clips.zip", "w") as archive:
        for file in sorted((folder / "clips").rglob("*.*")):
            archive.write(file, f"vimeo_septuplet/{file.relative_to(folder / 'clips')}")
    for name, path in (("folder", folder / "clips"), ("zip", folder / "clips.zip")):
        source = SourceConfig(kind="vimeo90k", path=str(path))
        make_source(source, 0, folder / name / "source")
        build_index(folder / name / "source", folder / name / "index", IndexConfig())
    return {way: in_child(way, folder, options.runs) for way in WAYS}


def decode(frames: tuple[int, ...]) -> Callable[[Path], Callable[[], object]]:
    def begin(folder: Path) -> Callable[[], object]:
        from stvsr.data.clips import png

        contents = [
            path.read_bytes() for n in frames for path in folder.glob(f"clips/*/*/*/im{n}.png")
        ]

        def work() -> None:
            for content in contents:
                png.decode(content, (256, 448))

        return work

    return begin


def ours(kind: str) -> Callable[[Path], Callable[[], object]]:
    def begin(folder: Path) -> Callable[[], object]:
        from stvsr.data.shards.degrade import DegradationConfig
        from stvsr.data.shards.write import ShardsConfig, write_shards

        outs = (folder / kind / f"shards{run}" for run in range(1000))

        def work() -> None:
            config = ShardsConfig(workers=1)
            write_shards(folder / kind / "index", "train", next(outs), config, DegradationConfig())

        return work

    return begin


def straightforward(folder: Path) -> Callable[[], object]:
    clips = sorted(folder.glob("clips/sequences/0[0-4]*/*"))
    out = folder / "straightforward"
    out.mkdir()

    def work() -> None:
        for number, clip in enumerate(clips):
            for frame in range(1, 8):
                hr_frame = np.asarray(Image.open(clip / f"im{frame}.png").convert("RGB"))
                Image.fromarray(hr_frame).save(out / f"{number}_hr{frame}.png")
                if frame % 2:
                    Image.fromarray(imresize(hr_frame)).save(out / f"{number}_lr{frame}.png")

    return work


def imresize(image: np.ndarray) -> np.ndarray:
    """MATLAB's imresize to a quarter on double, one output row or column at a time."""
    height, width, _ = image.shape
    rows = [weights @ image[at].reshape(len(at), -1) for at, weights in contributions(height)]
    tall = np.stack(rows).reshape(-1, width, 3).transpose(1, 0, 2)
    columns = [weights @ tall[at].reshape(len(at), -1) for at, weights in contributions(width)]
    small = np.stack(columns).reshape(width // 4, height // 4, 3).transpose(1, 0, 2)
    return np.clip(np.floor(small + 0.5), 0, 255).astype(np.uint8)


def contributions(length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each output row the input rows it depends on, mirrored at the ends, and their weights."""
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    found = []
    for row in range(length // 4):
        at = np.arange(4 * row - 6, 4 * row + 10)
        x = np.abs(at - (4 * row + 1.5)) / 4
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x <= 1, near, np.where(x < 2, far, 0)) / 4
        found.append((mirrored[at % (2 * length)], weights))
    return found


# --- (c) a zip of many tiny clips


def growing(folder: Path, clips: int) -> dict[str, Result]:
    folder.mkdir(parents=True)
    make_zip(folder / "clips.zip", clips)
    return {step: in_child(step, folder) for step in STEPS}


def make_zip(path: Path, clips: int) -> None:
    """Tiny clips as Vimeo-90K's zip has them; each has its name in its first frame."""
    frames = tiny_frames()
    names = [f"{1 + number // 1000:05d}/{1 + number % 1000:04d}" for number in range(clips)]
    tests = names[:: len(names) // TESTS][:TESTS]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            for number, frame in enumerate(frames, 1):
                content = with_text(frame, name) if number == 1 else frame
                archive.writestr(f"vimeo_septuplet/sequences/{name}/im{number}.png", content)
        for split, listed in (("test", tests), ("train", sorted({*names} - {*tests}))):
            archive.writestr(f"vimeo_septuplet/sep_{split}list.txt", "\n".join(listed))


def tiny_frames() -> list[bytes]:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    frames = []
    for shift in range(7):
        levels = np.stack([x * 2 + shift * 4, y * 3, (x + y) % 64 + shift], -1).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        frames.append(file.getvalue())
    return frames


def with_text(png: bytes, text: str) -> bytes:
    """The PNG with a comment after its header, so that its bytes are its own."""
    chunk = b"tEXtclip\0" + text.encode()
    length, check = len(chunk) - 4, zlib.crc32(chunk)
    return png[:33] + length.to_bytes(4, "big") + chunk + check.to_bytes(4, "big") + png[33:]


def open_with_zipfile(folder: Path) -> Callable[[], object]:
    def work() -> None:
        with zipfile.ZipFile(folder / "clips.zip") as archive:
            archive.read(archive.infolist()[-1])

    return work


def open_zip(folder: Path) -> Callable[[], object]:
    from stvsr.data.clips.frames import open_frames

    return lambda: open_frames(folder / "clips.zip").read_list("sep_testlist.txt")


def source(folder: Path) -> Callable[[], object]:
    from stvsr.data.sources.source import SourceConfig, make_source

    config = SourceConfig(kind="vimeo90k", path=str(folder / "clips.zip"))
    return lambda: make_source(config, 0, folder / "source")


def index(folder: Path) -> Callable[[], object]:
    from stvsr.data.index.build import IndexConfig, build_index

    return lambda: build_index(folder / "source", folder / "index", IndexConfig())


def plan(folder: Path) -> Callable[[], object]:
    from stvsr.data.shards.degrade import DegradationConfig
    from stvsr.data.shards.write import ShardsConfig, plan_shards

    config, degradation = ShardsConfig(), DegradationConfig()
    return lambda: plan_shards(folder / "index", "train", folder / "shards", config, degradation)


def shard(folder: Path) -> Callable[[], object]:
    from stvsr.data.shards.degrade import DegradationConfig
    from stvsr.data.shards.write import ShardsConfig, write_shards

    config, degradation = ShardsConfig(), DegradationConfig()
    return lambda: write_shards(folder / "index", "train", folder / "shards", config, degradation)


def open_set(folder: Path) -> Callable[[], object]:
    from stvsr.data.shards.read import ShardSet

    return lambda: ShardSet.open(folder / "shards")


def first_batch(folder: Path) -> Callable[[], object]:
    import torch

    from stvsr.core.world import World
    from stvsr.data.loading.loader import LoaderConfig, train_batches
    from stvsr.data.shards.read import ShardSet

    def work() -> None:
        batches = train_batches(
            LoaderConfig(kind="torch"),
            ShardSet.open(folder / "shards"),
            seed=0,
            start_step=1000,
            stop_step=1001,
            global_batch=4,
            crop=16,
            world=World(),
            device=torch.device("cpu"),
        )
        next(batches)
        batches.close()

    return work


WORK: dict[str, Callable[[Path], Callable[[], object]]] = {
    "decode": decode((1, 3, 5, 7)),
    "decode all": decode((1, 2, 3, 4, 5, 6, 7)),
    "folder": ours("folder"),
    "zip": ours("zip"),
    "straightforward": straightforward,
    "zipfile": open_with_zipfile,
    "open": open_zip,
    "source": source,
    "index": index,
    "plan": plan,
    "shard": shard,
    "set": open_set,
    "batch": first_batch,
}


# --- the page


def page(
    options: argparse.Namespace, ways: dict[str, Result], steps: dict[int, dict[str, Result]]
) -> str:
    lines = [
        *head(
            "Preparing clips: speed against decoding alone, and what grows with their number",
            "prepare",
        ),
        f"## {options.sample} clips of 448x256, one process",
        "",
        "| way | clips/s | clips per CPU second | of the floor, per core | against "
        "straightforward, per core | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for way, result in ways.items():
        lines.append(
            f"| {WAYS[way]} | {options.sample / result['seconds']:.1f} "
            f"| {options.sample / result['cpu_seconds']:.1f} "
            f"| {ways['decode']['cpu_seconds'] / result['cpu_seconds']:.0%} "
            f"| {ways['straightforward']['cpu_seconds'] / result['cpu_seconds']:.1f}x "
            f"| {result['peak_mib']:.0f} |"
        )
    lines += ["", "Best of the runs. Decoding reads its files before the clock starts; ours reads,"]
    lines += ["hashes, writes and flushes to the disk within it.", ""]
    return "\n".join([*lines, *(growth(steps) if steps else [])])


def growth(steps: dict[int, dict[str, Result]]) -> list[str]:
    sizes = list(steps)
    heads = " | ".join(f"{clips} clips: s | peak MiB | workers' peak MiB" for clips in sizes)
    lines = [
        f"## A zip of tiny clips ({SIDE}x{SIDE}), step by step",
        "",
        f"| step | {heads} |",
        "|---|" + "---|" * 3 * len(sizes),
    ]
    for step, what in STEPS.items():
        cells = " | ".join(
            f"{result['seconds']:.2f} | {result['peak_mib']:.0f} | {workers(result)}"
            for result in (steps[clips][step] for clips in sizes)
        )
        lines.append(f"| {what} | {cells} |")
    lines += [
        "",
        "Each step is a process of its own: its peak holds what it imports (torch in the last). "
        f"Nothing is extrapolated; every clip was judged and packed. {TESTS} clips of each size "
        "are the test list.",
    ]
    return lines


def workers(result: Result) -> str:
    return f"{result['worker_peak_mib']:.0f}" if result["worker_peak_mib"] else "-"


if __name__ == "__main__":
    main()
