"""How fast are clips loaded against webdataset with Pillow, and what does a resume cost?

    OMP_WAIT_POLICY=passive python -m benchmarks.loading --clips 48 --steps 60 --runs 3

(b) Batches of 4 crops of 448x256 clips of the built-in sample, with the same number of workers on
both sides, from a warm page cache; floor: decoding the clips' eleven files, and nothing else.
(d) The time to the first batch of a stream that starts late, and what is read for it. Each
measurement runs in a process of its own. Prints a page for benchmarks/results/.
"""

import argparse
import io
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import head, run_child

Result = dict[str, float]

BATCH, CROP = 4, 32
WIDTH, HEIGHT = 448, 256
LR_SIZE = (HEIGHT // 4, WIDTH // 4)
WARM_UP = 4
"""Batches before the clock starts: imports, pools, pipelines."""

WAYS = {
    "dali": "ours, DALI",
    "torch": "ours, without DALI",
    "straightforward": "straightforward: webdataset, Pillow, torch's DataLoader",
    "libpng": "decoding alone, libpng (the floor)",
    "pillow": "decoding alone, Pillow",
}
STARTS = (10, 1_000, 100_000)


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options)))
        return
    with tempfile.TemporaryDirectory(prefix="stvsr-bench-", dir=options.scratch) as name:
        options.folder = str(write_set(Path(name), options.clips))
        speeds = {
            (way, workers): best(options, "way", way=way, workers=workers)
            for workers in options.workers
            for way in WAYS
        }
        resumes = {
            (kind, start): best(options, "resume", way=kind, start=start)
            for kind in ("dali", "torch")
            for start in STARTS
        }
    print(page(options, speeds, resumes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=48, help="clips of 448x256")
    parser.add_argument("--steps", type=int, default=60, help="batches of 4 clips that are timed")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scratch", help="folder for what is made on the way")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_set(folder: Path, clips: int) -> Path:
    from stvsr.data.index.build import IndexConfig, build_index
    from stvsr.data.shards.degrade import DegradationConfig
    from stvsr.data.shards.write import ShardsConfig, write_shards
    from stvsr.data.sources.sample import make_sample

    (folder / "source").mkdir()
    make_sample(clips, 1, (WIDTH, HEIGHT), 0, folder / "source")
    build_index(folder / "source", folder / "index", IndexConfig())
    write_shards(folder / "index", "train", folder / "set", ShardsConfig(), DegradationConfig())
    return folder / "set"


def best(options: argparse.Namespace, child: str, **what: Any) -> Result:
    """The smallest value of each number over the runs."""
    arguments = {"child": child, "folder": options.folder, "steps": options.steps, **what}
    results = [run_child("loading", arguments) for _ in range(options.runs)]
    return {name: min(run[name] for run in results) for name in results[0]}


# --- (b) how fast


def measure_way(options: argparse.Namespace) -> Result:
    torch.set_num_threads(1)
    (workers,) = options.workers
    begin: Callable[[Path, int], Iterator[int]] = {
        "dali": ours("dali"),
        "torch": ours("torch"),
        "straightforward": straightforward,
        "libpng": decoding(decode_with_libpng),
        "pillow": decoding(decode_with_pillow),
    }[options.way]
    batches = begin(Path(options.folder), workers)
    for _ in range(WARM_UP):
        next(batches)
    start, start_cpu, clips = time.perf_counter(), cpu_seconds(), 0
    for _ in range(options.steps):
        clips += next(batches)
    return {
        "seconds": (time.perf_counter() - start) / clips,
        "cpu_seconds": (cpu_seconds() - start_cpu) / clips,
    }


def cpu_seconds() -> float:
    """Of this process and of its workers, which are alive."""
    import psutil

    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def ours(kind: str) -> Callable[[Path, int], Iterator[int]]:
    def begin(folder: Path, workers: int) -> Iterator[int]:
        return (len(batch.keys) for batch in stream(kind, folder, workers, 0))

    return begin


def stream(kind: Any, folder: Path, workers: int, start: int) -> Iterator[Any]:
    from stvsr.core.world import World
    from stvsr.data.loading.loader import LoaderConfig, train_batches
    from stvsr.data.shards.write import ShardSet

    return train_batches(
        LoaderConfig(kind=kind, threads=workers),
        ShardSet.open(folder),
        seed=0,
        start_step=start,
        stop_step=start + 10**6,
        global_batch=BATCH,
        crop=CROP,
        world=World(),
        device=torch.device("cpu"),
        dtype=torch.uint8,
    )


def straightforward(folder: Path, workers: int) -> Iterator[int]:
    """Read as the libraries' own pages do: tars in a row, a buffer that shuffles, workers."""
    import webdataset  # type: ignore[import-untyped]
    from torch.utils.data import DataLoader

    tars = [str(path) for path in sorted(folder.glob("*.tar"))]
    clips = webdataset.WebDataset(
        tars * workers, shardshuffle=False, empty_check=False, nodesplitter=None
    )
    loader: Any = DataLoader(
        clips.shuffle(16).map(augmented).repeat(),
        batch_size=BATCH,
        num_workers=workers,
        worker_init_fn=begin_worker,
    )
    return (len(lr_clip) for lr_clip, _ in loader)


def begin_worker(_: int) -> None:
    torch.set_num_threads(1)


def augmented(sample: Mapping[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same crops, flips and reversals as ours, at random."""
    top, left = (random.randrange(side - CROP + 1) for side in LR_SIZE)
    flips = [random.random() < 0.5 for _ in range(4)]

    def clip(names: list[str], scale: int) -> torch.Tensor:
        frames = np.stack([np.asarray(Image.open(io.BytesIO(sample[name]))) for name in names])
        frames = frames[:, top * scale :, left * scale :][:, : CROP * scale, : CROP * scale]
        frames = frames[:, :, ::-1] if flips[0] else frames
        frames = frames[:, ::-1] if flips[1] else frames
        frames = frames.transpose(0, 2, 1, 3) if flips[2] else frames
        frames = frames[::-1] if flips[3] else frames
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

    lr_names, hr_names = (f"lr{n}.png" for n in (1, 3, 5, 7)), (f"hr{n}.png" for n in range(1, 8))
    return clip(list(lr_names), 1), clip(list(hr_names), 4)


def decoding(decode: Callable[[memoryview], object]) -> Callable[[Path, int], Iterator[int]]:
    def begin(folder: Path, workers: int) -> Iterator[int]:
        from stvsr.data.loading.samples import FRAMES
        from stvsr.data.shards.write import ShardSet

        shards = ShardSet.open(folder)
        files = [shards.files(clip, FRAMES) for clip in range(len(shards))]

        def decode_all(clip: int) -> None:
            for file in files[clip % len(files)]:
                decode(file)

        with ThreadPoolExecutor(workers) as pool:
            for step in range(10**6):
                list(pool.map(decode_all, range(step * BATCH, (step + 1) * BATCH)))
                yield BATCH

    return begin


def decode_with_libpng(file: memoryview) -> object:
    import cv2

    return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)


def decode_with_pillow(file: memoryview) -> object:
    return Image.open(io.BytesIO(file)).load()


# --- (d) what a resume costs


def measure_resume(options: argparse.Namespace) -> Result:
    """The first stream of a process pays for imports, so the second is timed."""
    from stvsr.data.shards.storage import LocalStorage

    read: list[int] = []
    genuine = LocalStorage.read_range

    def counted(storage: LocalStorage, name: str, start: int, stop: int) -> memoryview:
        read.append(stop - start)
        return genuine(storage, name, start, stop)

    LocalStorage.read_range = counted  # type: ignore[assignment, method-assign]
    torch.set_num_threads(1)
    for start in (0, options.start):
        read.clear()
        began = time.perf_counter()
        batches = stream(options.way, Path(options.folder), 2, start)
        next(batches)
        seconds = time.perf_counter() - began
        batches.close()  # type: ignore[attr-defined]
    return {"seconds": seconds, "clips": float(len(read)), "bytes": float(sum(read))}


# --- the page


def page(
    options: argparse.Namespace,
    speeds: Mapping[tuple[str, int], Result],
    resumes: Mapping[tuple[str, int], Result],
) -> str:
    lines = [
        *head(
            "Loading clips: speed against the straightforward way, and the cost of a resume",
            "loading",
            f"torch {torch.__version__}",
        ),
        f"## Batches of {BATCH} clips of {WIDTH}x{HEIGHT}, crop {CROP} (HR {CROP * 4})",
        "",
        "| workers | way | clips/s | CPU ms per clip | against straightforward, wall | per CPU "
        "| against the floor, per CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for (way, workers), result in speeds.items():
        base, floor = speeds["straightforward", workers], speeds["libpng", workers]
        lines.append(
            f"| {workers} | {WAYS[way]} | {1 / result['seconds']:.1f} "
            f"| {result['cpu_seconds'] * 1000:.1f} "
            f"| {base['seconds'] / result['seconds']:.2f}x "
            f"| {base['cpu_seconds'] / result['cpu_seconds']:.2f}x "
            f"| {floor['cpu_seconds'] / result['cpu_seconds']:.2f}x |"
        )
    lines += [
        "",
        "Best of the runs. The floor decodes all eleven files of a clip whole. Ours is below it,",
        "since it inflates with igzip instead of zlib and decodes no row below the crop. With",
        "DALI, as many threads again inflate; CPU time counts them all.",
        "",
        "## The first batch of a stream that starts at a step",
        "",
        "| loader | step | seconds to the first batch | clips read by then | MB |",
        "|---|---|---|---|---|",
    ]
    for (kind, start), result in resumes.items():
        lines.append(
            f"| {kind} | {start:,} | {result['seconds']:.3f} | {result['clips']:.0f} "
            f"| {result['bytes'] / 1e6:.1f} |"
        )
    lines += ["", "Opening the set is within the time; the clips beyond the batch are read ahead."]
    return "\n".join(lines)


CHILDREN = {"way": measure_way, "resume": measure_resume}

if __name__ == "__main__":
    main()
