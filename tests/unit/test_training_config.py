import pytest

from stvsr.core.config import ValidationError
from stvsr.training.config import TrainConfig, uneven_split


def refuses(message, **fields):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**fields)


def test_a_crop_that_is_no_multiple_of_8_is_refused_with_its_neighbours():
    refuses("a multiple of 8, nearest are 24 and 32", crop=30)


def test_a_crop_of_a_single_window_is_taken():
    assert TrainConfig(crop=8).crop == 8


def test_a_batch_that_does_not_split_over_the_workers_is_refused_with_its_neighbours():
    refuses(
        "batch_size: found 18, which does not split evenly over 4 workers x 1 accumulations; "
        "nearest batch_size: 16 or 20",
        batch_size=18,
        workers=4,
    )


def test_an_elastic_run_refuses_a_size_in_between_that_does_not_divide_its_batch():
    refuses(
        "batch_size: found 4, which does not split evenly over 3 workers",
        batch_size=4,
        workers=4,
        min_workers=1,
    )
    assert TrainConfig(batch_size=6, workers=3, min_workers=1).min_workers == 1


def test_more_workers_at_least_than_at_most_are_refused():
    refuses("min_workers: found 3, above workers 2", workers=2, min_workers=3)


def test_a_batch_smaller_than_its_parts_names_the_smallest_that_fits():
    assert uneven_split(2, 2, 2).endswith("nearest batch_size: 4")
    assert uneven_split(4, 2, 2) == ""


def test_a_bottom_above_the_top_of_the_learning_rate_is_refused():
    refuses(
        "min_learning_rate: found 0.01, above learning_rate 0.001",
        min_learning_rate=0.01,
        learning_rate=0.001,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"beta2": 1.0},
        {"ema_decay": 1.0},
        {"precision": "fp16"},
        {"keep_checkpoints": 0},
        {"batchsize": 4},
    ],
)
def test_values_outside_their_range_and_unknown_keys_are_refused(fields):
    refuses(next(iter(fields)), **fields)


def test_what_is_only_logged_or_kept_does_not_decide_the_weights():
    plain = TrainConfig().deciding()
    assert (
        TrainConfig(workers=2, min_workers=1, log_every=1, keep_checkpoints=9).deciding() == plain
    )
    assert TrainConfig(learning_rate=1e-5).deciding() != plain
    assert TrainConfig(steps=7).deciding() != plain
