import math

import pytest

from stvsr.core.config import ValidationError
from stvsr.models.rstt import ENTRY as RSTT
from stvsr.training.config import TrainConfig
from stvsr.training.schedule import learning_rate_at

PUBLISHED = TrainConfig(
    warmup_steps=0, steps=600_000, learning_rate=2e-4, min_learning_rate=1e-7, restart_every=150_000
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 2e-4),
        (75_000, (2e-4 + 1e-7) / 2),
        (149_999, 1e-7),
        (150_000, 2e-4),
        (450_000, 2e-4),
        (599_999, 1e-7),
    ],
)
def test_the_published_recipe_falls_to_1e_7_and_starts_again_every_150_000_steps(step, expected):
    assert learning_rate_at(step, PUBLISHED) == pytest.approx(expected, rel=1e-6)


def test_a_decaying_rate_is_multiplied_after_each_interval_down_to_the_least():
    config = TrainConfig(
        steps=600_000,
        warmup_steps=0,
        learning_rate=1e-4,
        min_learning_rate=1e-6,
        decay_every=100_000,
    )
    rates = [learning_rate_at(step, config) for step in (0, 99_999, 100_000, 399_999, 400_000)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-4 / 4, 1e-4 / 64, 1e-6])


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 2e-4),
        (399_999, 1e-7),
        (400_000, 1e-4),
        (799_999, (1e-4 + 1e-7) / 2),
        (800_000, 1e-4),
        (1_200_000, 1e-4),
        (1_600_000, 1e-7 + (1e-4 - 1e-7) * (1 + math.cos(math.pi / 4)) / 2),
        (1_999_999, (1e-4 + 1e-7) / 2),
    ],
)
def test_rstt_s_cosines_grow_longer_and_the_next_cuts_one_off(step, expected):
    config = TrainConfig.model_validate(RSTT.recipe)
    assert learning_rate_at(step, config) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("cosines", "says"),
    [
        (((0, 50),), r"\[0, 50\] does not reach from step 0 to 100"),
        (((0, 40), (50, 50)), r"\[0, 40\] does not reach from step 0 to 50"),
        (((0, 40), (0, 100)), r"\[0, 40\] does not reach from step 0 to 0"),
        (((10, 90),), "the first starts at step 10"),
    ],
)
def test_cosines_that_leave_steps_out_are_refused(cosines, says):
    with pytest.raises(ValidationError, match=says):
        TrainConfig(steps=100, cosines=cosines)


def test_cosines_behind_the_last_step_are_left_out():
    config = TrainConfig(steps=100, cosines=((0, 60), (60, 100), (160, 100)))
    assert learning_rate_at(99, config) > learning_rate_at(59, config)


def test_without_restarts_one_curve_spans_all_steps():
    config = TrainConfig(steps=100, warmup_steps=0, learning_rate=1e-3, min_learning_rate=0)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1e-3
    assert rates[50] == pytest.approx(5e-4)
    assert rates[99] < 1e-6


def test_the_rate_rises_linearly_while_warming_up_and_then_joins_the_cosine():
    cold = TrainConfig(steps=1000, warmup_steps=0, learning_rate=1e-3)
    warm = cold.model_copy(update={"warmup_steps": 4})
    shares = [learning_rate_at(step, warm) / learning_rate_at(step, cold) for step in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
