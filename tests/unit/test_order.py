import numpy as np
import pytest

from stvsr.data.loading.order import clip_indices, epoch_order


@pytest.mark.parametrize("n_clips", [1, 7, 60])
def test_an_epoch_visits_every_clip_once(n_clips: int) -> None:
    assert sorted(epoch_order(3, 5, n_clips).tolist()) == list(range(n_clips))


def test_epochs_and_seeds_differ() -> None:
    first = epoch_order(0, 0, 60).tolist()
    assert first != epoch_order(0, 1, 60).tolist()
    assert first != epoch_order(1, 0, 60).tolist()


def test_the_order_is_the_one_written_down() -> None:
    """Known values: a change here changes every run's stream and must be said in the changelog."""
    assert epoch_order(0, 0, 10).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    assert clip_indices(seed=7, step=1000, global_batch=8, n_clips=60) == (
        35,
        22,
        56,
        48,
        16,
        32,
        24,
        7,
    )


def test_batches_run_over_the_end_of_an_epoch_and_drop_nothing() -> None:
    stream = [index for step in range(10) for index in clip_indices(0, step, 4, 10)]
    epochs = [stream[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs == [epoch_order(0, epoch, 10).tolist() for epoch in range(4)]


def test_a_batch_larger_than_the_set_goes_on_into_the_next_epochs() -> None:
    batch = clip_indices(seed=0, step=0, global_batch=7, n_clips=3)
    expected = np.concatenate([epoch_order(0, epoch, 3) for epoch in range(3)])[:7]
    assert batch == tuple(expected.tolist())


def test_the_cached_order_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 10)[0] = 1


def test_a_late_step_needs_only_the_epochs_it_touches() -> None:
    epoch_order.cache_clear()
    clip_indices(seed=0, step=1_000_000, global_batch=8, n_clips=60)
    assert epoch_order.cache_info().misses <= 2
