import numpy as np

from stvsr.data.sources.scenes import CutDetector

HEIGHT, WIDTH = 72, 128


def scene(seed: int, frames: int, speed: int = 1, brightness: int = 128) -> list[np.ndarray]:
    """A smooth pattern that drifts; each seed has its own pattern and brightness."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(brightness, 40, (HEIGHT // 12, (WIDTH + frames * speed) // 8 + 1))
    wide = np.kron(coarse, np.ones((12, 8))).clip(0, 255).astype(np.uint8)
    return [wide[:, n * speed : n * speed + WIDTH] for n in range(frames)]


def cuts_of(frames: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    for frame in frames:
        detector.add(np.repeat(frame[..., None], 3, axis=2))
    return detector.cuts


def test_a_cut_is_found_at_the_frame_that_begins_the_new_scene():
    frames = scene(0, 20, brightness=90) + scene(1, 15, brightness=150) + scene(2, 9, brightness=60)
    assert cuts_of(frames) == [20, 35]


def test_motion_is_not_a_cut():
    assert cuts_of(scene(0, 40, speed=1)) == []
    assert cuts_of(scene(0, 40, speed=6)) == []


def test_a_scene_that_begins_to_move_fast_is_not_cut():
    assert cuts_of([scene(0, 1)[0]] * 20 + scene(0, 20, speed=4)) == []


def test_a_slow_fade_is_not_a_cut():
    frame = scene(0, 1)[0].astype(float)
    assert cuts_of([(frame * (1 - n / 30)).astype(np.uint8) for n in range(30)]) == []


def test_videos_of_no_and_of_one_frame_have_no_cuts():
    assert cuts_of([]) == []
    assert cuts_of(scene(0, 1)) == []
