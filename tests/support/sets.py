"""Small sets of clips as numbered frames, in the layout of the benchmarks."""

from pathlib import Path

import numpy as np
from PIL import Image

from stvsr.data.shards.degrade import DegradationConfig, degrade


def write_set(
    root: Path, clips: dict[str, int], *, size: tuple[int, int] = (48, 32), lr: bool = True
) -> Path:
    """Write GT/CLIP/*.png of smooth noise that drifts, and BIx4/CLIP/*.png of it.

    Args:
        root: folder of the set.
        clips: number of frames by clip.
        size: (W, H) of the HR frames.
        lr: whether the set brings LR frames.
    """
    for seed, (clip, frames) in enumerate(clips.items()):
        for number, image in enumerate(drifting_frames(frames, size, seed)):
            save(root / "GT" / clip / f"{number:04d}.png", image)
            if lr:
                small = degrade(image, DegradationConfig())
                save(root / "BIx4" / clip / f"{number:04d}.png", small)
    return root


def drifting_frames(frames: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Frames (H, W, 3) of coloured noise that drifts one pixel to the right per frame."""
    random = np.random.default_rng(seed)
    width, height = size
    scene = random.integers(0, 256, (height // 8, (width + frames) // 8 + 1, 3), dtype=np.uint8)
    wide = Image.fromarray(scene).resize((width + frames, height), Image.Resampling.BICUBIC)
    return [np.asarray(wide)[:, frames - n : frames - n + width] for n in range(frames)]


def save(path: Path, image: np.ndarray) -> None:
    """Write a PNG, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=1)
