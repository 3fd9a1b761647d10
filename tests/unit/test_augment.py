import itertools

import numpy as np
import pytest

from stvsr.data.loading.augment import Augmentation, augment_hr, augment_lr, augmentation, in_time


def test_the_draw_is_the_one_written_down() -> None:
    """Known value: a change here changes every run's stream and must be said in the changelog."""
    assert augmentation(7, 1000, 3, (64, 112), 32) == Augmentation(
        top=18,
        left=46,
        crop=32,
        flip_horizontal=False,
        flip_vertical=True,
        transpose=True,
        reverse_time=False,
    )


@pytest.mark.parametrize("change", ["seed", "step", "slot"])
def test_seed_step_and_slot_each_change_the_draw(change: str) -> None:
    at = {"seed": 0, "step": 0, "slot": 0}
    specs = {augmentation(**{**at, change: n}, lr_size=(64, 112), crop=32) for n in range(20)}
    assert len(specs) > 15


def test_crops_lie_inside_the_frame_and_reach_its_borders() -> None:
    specs = [augmentation(0, step, 0, (18, 20), 16) for step in range(200)]
    assert {draw.top for draw in specs} == {0, 1, 2}
    assert {draw.left for draw in specs} == {0, 1, 2, 3, 4}


def test_every_flip_and_reversal_comes_about_half_of_the_time() -> None:
    specs = [augmentation(0, step, 0, (32, 32), 32) for step in range(400)]
    for field in ("flip_horizontal", "flip_vertical", "transpose", "reverse_time"):
        assert 150 < sum(getattr(draw, field) for draw in specs) < 250


def test_flips_and_transposition_reach_the_eight_symmetries_of_the_square() -> None:
    frame = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    seen = {
        augment_lr(frame, Augmentation(0, 0, 4, *flags)).tobytes()
        for flags in itertools.product([False, True], repeat=3)
    }
    turned = (np.rot90(side, turns) for side in (frame, frame[:, ::-1]) for turns in range(4))
    assert seen == {image.tobytes() for image in turned}


def test_hr_and_lr_show_the_same_part_the_same_way() -> None:
    lr_frame = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    hr_frame = lr_frame.repeat(4, axis=0).repeat(4, axis=1)
    for step in range(30):
        spec = augmentation(0, step, 0, (12, 20), 8)
        np.testing.assert_array_equal(
            augment_hr(hr_frame, spec)[::4, ::4], augment_lr(lr_frame, spec)
        )


def test_reversal_turns_the_frames_around() -> None:
    assert in_time(["lr1", "lr3"], Augmentation(0, 0, 8)) == ("lr1", "lr3")
    assert in_time(["lr1", "lr3"], Augmentation(0, 0, 8, reverse_time=True)) == ("lr3", "lr1")


def test_a_crop_larger_than_the_frame_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match="a crop of 32 pixels does not fit into a frame of 40x24"):
        augmentation(0, 0, 0, (24, 40), 32)
