import gzip
import json
import logging
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from stvsr.core.clip import ClipBatch
from stvsr.core.errors import CheckpointError, ServiceError, StvsrError, TrainingError
from stvsr.core.files import only_writer
from stvsr.core.world import World
from stvsr.models import RsttConfig, TmnetConfig, build_model
from stvsr.models.layers.pcd import DeformableConv2d
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.history import curve, read_history
from stvsr.training.loop import TrainingInterruptedError, step_seed
from tests.support.training import (
    TINY,
    TinyNet,
    batch_at,
    batches,
    end_of,
    make_trainer,
    open_tiny_run,
    summary_of,
    validate,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compilers_folder(tmp_path_factory):
    """What was compiled before, perhaps on another CPU, is not taken for this one's."""
    with pytest.MonkeyPatch.context() as environment:
        folder = str(tmp_path_factory.mktemp("inductor"))
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
        yield


def config(**changes):
    return TINY.model_copy(update=changes)


def backward(trainer):
    batch = batch_at(0)
    return trainer._backward(batch.lr_clip, batch.hr_clip)


def first_gradient(folder, **changes):
    trainer = make_trainer(folder, config(**changes))
    trainer._model.eval()
    backward(trainer)
    return {name: value.grad.clone() for name, value in trainer._model.named_parameters()}  # type: ignore[union-attr]


class OneConvolution(nn.Module):
    """A network that is compiled in seconds, and says whether it is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(6, 144, 1)
        self.was_compiled = False

    def forward(self, lr_clip):
        self.was_compiled = torch.compiler.is_compiling()
        sr_clip = nn.functional.pixel_shuffle(self.layer(lr_clip.flatten(1, 2)), 4)
        return sr_clip.unflatten(1, (3, 3))


class Diary:
    """A tracker that remembers its calls, and refuses those in `down`."""

    def __init__(self, down=()):
        self.down = down
        self.calls = []
        self.history = {}

    def _note(self, name, value):
        self.calls.append((name, value))
        if len(self.calls) - 1 in self.down:
            raise ServiceError("http://127.0.0.1:5: does not answer")

    def log_params(self, params):
        self._note("params", dict(params))

    def sync(self, history):
        self._note("sync", [step for step, _ in history])

    def log_picture(self, name, png):
        self._note("picture", (name, png))

    def finish(self, status):
        self._note("finish", status)


# What a run does


def test_training_lowers_the_loss_and_says_how_it_ended(tmp_path):
    summary = summary_of(tmp_path / "run", config(steps=60, learning_rate=1e-2))
    losses = [loss for _, loss in curve(read_history(tmp_path / "run/history.jsonl"), "loss")]
    assert losses[-1] < 0.6 * losses[0]
    assert summary.step == 60
    assert summary.loss == losses[-1]
    assert summary.skipped_steps == summary.resumed_from == 0
    assert summary.validation.keys() == {"psnr_y"}


def test_the_history_has_a_record_per_logged_and_validated_step(tmp_path):
    summary_of(tmp_path / "run")
    records = read_history(tmp_path / "run/history.jsonl")
    assert [step for step, _ in curve(records, "loss")] == [4, 8, 12, 16, 20]
    assert [step for step, _ in curve(records, "val/psnr_y")] == [10, 20]
    assert records[0].metrics.keys() == {
        "loss",
        "gradient_norm",
        "learning_rate",
        "skipped_steps",
        "replaced_clips",
        "step_seconds",
        "clips_per_second",
        "data_wait",
        "peak_memory_mib",
    }
    assert 0 < records[0].metrics["data_wait"] < 1
    assert records[0].metrics["peak_memory_mib"] > 100


def test_a_finished_run_returns_at_once_with_the_same_end(tmp_path):
    first = summary_of(tmp_path / "run")
    before = end_of(tmp_path / "run")
    again = summary_of(tmp_path / "run", batches=lambda start: iter(()))
    assert (again.loss, again.validation) == (first.loss, first.validation)
    assert again.resumed_from == again.step == 20
    assert end_of(tmp_path / "run") == before


def test_a_mean_over_parts_is_the_mean_over_the_batch(tmp_path):
    model = TinyNet().eval()
    losses = []
    for parts in (1, 2, 4):
        trainer = make_trainer(tmp_path / str(parts), config(accumulation=parts), model=model)
        trainer._gradients.zero()
        losses.append((backward(trainer), trainer._gradients._vector.clone()))
    for loss, gradient in losses[1:]:
        torch.testing.assert_close(loss, losses[0][0])
        torch.testing.assert_close(gradient, losses[0][1])


def test_the_randomness_of_a_step_is_its_own_on_each_rank():
    seeds = {step_seed(seed, step, rank) for seed in (0, 1) for step in (0, 1) for rank in (0, 1)}
    assert len(seeds) == 8
    assert step_seed(0, 0, 0) == step_seed(0, 0, 0) < 2**63


def test_gradients_are_cut_to_the_limit(tmp_path):
    trainer = make_trainer(tmp_path / "run")
    gradients = trainer._gradients
    backward(trainer)
    nothing = torch.zeros(())
    norm = gradients.sum_over_ranks(nothing, nothing, False).norm
    gradients.cut(norm, 0.0)
    assert gradients.sum_over_ranks(nothing, nothing, False).norm == norm
    gradients.cut(norm, norm / 4)
    total = torch.nn.utils.get_total_norm([p.grad for p in trainer._model.parameters()])  # type: ignore[misc]
    assert total.item() == pytest.approx(norm / 4)


def test_the_average_follows_the_weights_and_is_what_is_published(tmp_path):
    trainer = make_trainer(tmp_path / "run", config(learning_rate=1e-2))
    trainer.run()
    published = trainer.model_to_publish()
    assert published is not trainer._model
    assert not published.training
    assert not torch.equal(published.features.weight, trainer._model.features.weight)  # type: ignore[arg-type, union-attr]
    without = make_trainer(tmp_path / "other", config(ema_decay=0.0))
    assert without.model_to_publish() is without._model


@pytest.mark.parametrize(
    ("choice", "tolerance"), [({"precision": "bf16"}, 3e-2), ({"channels_last": True}, 1e-5)]
)
def test_another_arithmetic_or_memory_format_gives_nearly_the_same_gradient(
    tmp_path, choice, tolerance
):
    plain = first_gradient(tmp_path / "plain")
    other = first_gradient(tmp_path / "other", **choice)
    differences = [
        torch.linalg.vector_norm(other[name] - plain[name]) / torch.linalg.vector_norm(plain[name])
        for name in plain
        if plain[name].any()
    ]
    assert max(differences) < tolerance
    assert len(differences) == 6
    if "precision" in choice:
        assert max(differences) > 1e-4


def test_channels_last_resumes_bit_for_bit(tmp_path):
    choice = config(channels_last=True)
    whole = make_trainer(tmp_path / "whole", choice)
    whole.run()
    assert whole._model.features.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    stop_after(tmp_path / "run", 7, choice)
    summary_of(tmp_path / "run", choice)
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "network",
    [
        RsttConfig(channels=8, heads=1, blocks=2, hr_channels=4),  # branches dropped at random
        TmnetConfig(channels=8, deformable_groups=2, front_blocks=0, back_blocks=0),
    ],
    ids=lambda network: network.name,
)
def test_a_network_resumes_bit_for_bit(tmp_path, network):
    choice = config(steps=6, checkpoint_every=2, validate_every=3)

    def tiny():
        torch.manual_seed(3)
        return build_model(network)

    summary_of(tmp_path / "whole", choice, model=tiny())
    stop_after(tmp_path / "run", 3, choice, model=tiny())
    assert summary_of(tmp_path / "run", choice, model=tiny()).resumed_from == 3
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("compilers_folder")
def test_a_compiled_network_trains_as_the_plain_one_and_keeps_its_names(tmp_path):
    ends = []
    for compiled in (False, True):
        torch.manual_seed(3)
        model = OneConvolution()
        choice = config(steps=3, ema_decay=0.0, compile=compiled)
        summary = summary_of(tmp_path / str(compiled), choice, model=model, validate=None)
        saved = Checkpoints(tmp_path / str(compiled) / "checkpoints").load(3)
        assert model.was_compiled == compiled
        ends.append((summary.loss, saved.weights.keys()))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    assert ends[0][1] == ends[1][1] == {"layer.weight", "layer.bias"}


class OneDeformableLayer(nn.Module):
    """A network whose only deformable layer looks `reach` pixels away, and trains on."""

    def __init__(self, reach):
        super().__init__()
        self.align = DeformableConv2d(8, 1)
        self.first, self.last = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 144, 1)
        nn.init.constant_(self.align.conv_offset.conv.bias, reach)  # type: ignore[arg-type]

    def forward(self, lr_clip):
        features = self.first(lr_clip.flatten(1, 2))
        sr_clip = nn.functional.pixel_shuffle(self.last(self.align(features, features)), 4)
        return sr_clip.unflatten(1, (3, 3))


def test_a_step_whose_offsets_are_beyond_all_numbers_is_skipped(tmp_path, caplog):
    choice = config(steps=2, log_every=1, validate_every=0)
    summary = summary_of(tmp_path / "run", choice, model=OneDeformableLayer(3e38), validate=None)
    assert summary.skipped_steps == 2
    assert "its mean |offset| inf px" in caplog.text
    assert curve(read_history(tmp_path / "run/history.jsonl"), "mean_offset") == []


@pytest.mark.usefixtures("compilers_folder")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_offsets_that_run_away_are_logged_and_raise_an_alarm(tmp_path, caplog, compiled):
    choice = config(steps=2, log_every=1, learning_rate=1e-9, compile=compiled, validate_every=0)
    for reach, alarms in ((-3.0, 0), (120.0, 2)):
        caplog.clear()
        folder = tmp_path / f"{reach:.0f}"
        with caplog.at_level(logging.WARNING):
            summary_of(folder, choice, model=OneDeformableLayer(reach), validate=None)
        offsets = curve(read_history(folder / "history.jsonl"), "mean_offset")
        assert offsets == [  # type: ignore[comparison-overlap]
            (1, pytest.approx(abs(reach), rel=1e-4)),
            (2, pytest.approx(abs(reach), rel=1e-4)),
        ]
        assert [r.message for r in caplog.records if "mean |offset| is 120" in r.message] == [
            r.message for r in caplog.records
        ]
        assert len(caplog.records) == alarms


def test_a_trace_of_a_few_steps_is_written_and_changes_nothing(tmp_path):
    summary_of(tmp_path / "plain", validate=None)
    summary_of(tmp_path / "traced", validate=None, profile=tmp_path / "trace.json.gz")
    with gzip.open(tmp_path / "trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    steps = {event["name"] for event in events if "ProfilerStep" in event.get("name", "")}
    assert len(steps) == 3
    assert any(event.get("name") == "aten::convolution_backward" for event in events)
    assert end_of(tmp_path / "traced") == end_of(tmp_path / "plain")


# Stopping and going on


def stop_after(folder, step, config_=TINY, **parts):
    asked = iter(range(1, 1000))
    with pytest.raises(TrainingInterruptedError) as stop:
        summary_of(folder, config_, should_stop=lambda: next(asked) == step, **parts)
    return str(stop.value)


@pytest.mark.parametrize("step", [1, 5, 7, 10, 19])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, step):
    summary_of(tmp_path / "whole")
    text = stop_after(tmp_path / "run", step)
    assert f"stopped as asked after step {step} of 20" in text
    assert "run the same command again" in text
    assert summary_of(tmp_path / "run").resumed_from == step
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


@pytest.mark.parametrize("log_every", [3, 5])
def test_a_stop_does_not_wait_for_the_end_of_a_validation(tmp_path, log_every):
    """Step 10, which is validated, is logged too with one of these and not with the other."""
    choice, scored, asked = config(log_every=log_every), [], threading.Event()

    def three_clips(model):
        for clip in range(3):
            (scores,) = validate(model)
            scored.append(clip)
            if not asked.is_set() and len(scored) == 2:
                asked.set()
            yield {"psnr_y": scores["psnr_y"] + clip}

    with pytest.raises(TrainingInterruptedError, match="after step 10 of 20"):
        summary_of(tmp_path / "run", choice, validate=three_clips, should_stop=asked.is_set)
    assert scored == [0, 1]
    assert read_history(tmp_path / "run/history.jsonl")[-1].step == {3: 9, 5: 5}[log_every]
    assert summary_of(tmp_path / "run", choice, validate=three_clips).resumed_from == 10
    summary_of(tmp_path / "whole", choice, validate=three_clips)
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


def test_a_stop_before_a_validation_is_not_held_up_by_it(tmp_path):
    def never(model):
        raise AssertionError("validated")

    stop_after(tmp_path / "run", 10, validate=never)
    summary_of(tmp_path / "run")
    summary_of(tmp_path / "whole")
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


def test_a_resumed_run_reads_the_batch_of_its_step_first(tmp_path):
    stop_after(tmp_path / "run", 7)
    starts = []

    def from_step(start):
        starts.append(start)
        return batches()(start)

    summary_of(tmp_path / "run", batches=from_step)
    assert starts == [7]


def test_a_stop_in_the_last_step_is_the_end(tmp_path):
    asked = iter(range(1, 1000))
    assert summary_of(tmp_path / "run", should_stop=lambda: next(asked) == 20).step == 20


def test_a_damaged_newest_checkpoint_costs_its_steps_and_nothing_else(tmp_path, caplog):
    summary_of(tmp_path / "whole")
    stop_after(tmp_path / "run", 12)
    file = tmp_path / "run/checkpoints/step-00000012/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert summary_of(tmp_path / "run").resumed_from == 10
    assert "step-00000012 is passed over" in caplog.text
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


def test_a_checkpoint_of_another_network_is_refused_with_the_tensor(tmp_path):
    stop_after(tmp_path / "run", 7)
    other = TinyNet()
    other.branch = nn.Conv2d(16, 16, 1)
    with pytest.raises(CheckpointError, match=r"step-00000007: tensor branch\.weight: found"):
        summary_of(tmp_path / "run", model=other)


def test_a_second_trainer_of_the_same_run_is_kept_out(tmp_path):
    trainer = make_trainer(tmp_path / "run")
    with only_writer(tmp_path / "run"), pytest.raises(StvsrError, match="already writing"):
        trainer.run()


def test_fresh_starts_from_the_first_step(tmp_path):
    stop_after(tmp_path / "run", 7)
    run = open_tiny_run(tmp_path / "run", fresh=True)
    assert summary_of(tmp_path / "run", run=run).resumed_from == 0


# What goes wrong


def spoilt(*steps):
    """Batches whose truth is NaN at some steps."""

    def from_step(start):
        for step, batch in enumerate(batches()(start), start=start):
            spoil = torch.nan if step in steps else 0.0
            yield ClipBatch(batch.lr_clip, batch.hr_clip + spoil, batch.keys)

    return from_step


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(tmp_path, caplog):
    summary = summary_of(tmp_path / "run", batches=spoilt(2, 3, 9))
    assert summary.skipped_steps == 3
    assert "step 3 is skipped: its loss is nan" in caplog.text
    assert "00002/0000, 00002/0001" in caplog.text
    records = read_history(tmp_path / "run/history.jsonl")
    assert [count for _, count in curve(records, "skipped_steps")] == [2, 2, 3, 3, 3]
    assert len(curve(records, "loss")) == 5


def test_replaced_clips_are_counted_and_each_damage_is_named_once(tmp_path, caplog):
    def with_damage(start):
        for step, batch in enumerate(batches()(start), start=start):
            line = "000001.tar: member x at byte 7: damaged; 2 stands in for 1"
            yield replace(batch, damage=(line,) if step in (2, 3, 9) else ())

    summary_of(tmp_path / "run", batches=with_damage)
    records = read_history(tmp_path / "run/history.jsonl")
    assert [count for _, count in curve(records, "replaced_clips")] == [2, 2, 3, 3, 3]
    assert caplog.text.count("damaged: 000001.tar: member x at byte 7") == 1
    assert "3 damaged clips were replaced" in caplog.text


def test_a_skipped_step_changes_neither_weights_nor_moments(tmp_path):
    summary_of(tmp_path / "run", config(steps=5), batches=spoilt(4))
    summary_of(tmp_path / "four", config(steps=4, restart_every=5))
    last, four = end_of(tmp_path / "run"), end_of(tmp_path / "four")
    assert last["files"] == four["files"]


def test_too_many_bad_steps_in_a_row_stop_the_run_with_its_last_good_state(tmp_path):
    limit = config(nonfinite_limit=3)
    with pytest.raises(TrainingError) as stop:
        summary_of(tmp_path / "run", limit, batches=spoilt(2, 6, 7, 8))
    text = str(stop.value)
    assert "3 steps in a row" in text
    assert "the last at step 9 with the clips 00008/0000, 00008/0001" in text
    saved = Checkpoints(tmp_path / "run/checkpoints").newest_whole()
    assert (saved.counters.step, saved.counters.skipped_steps) == (9, 4)  # type: ignore[union-attr]
    assert all(tensor.isfinite().all() for tensor in saved.weights.values())  # type: ignore[union-attr]
    assert summary_of(tmp_path / "run", limit).step == 20


def test_a_batch_that_does_not_split_over_the_ranks_is_refused_before_anything_else(tmp_path):
    open_tiny_run(tmp_path / "run")
    trainer = make_trainer(tmp_path / "run", world=World(1, 3))
    with pytest.raises(TrainingError, match=r"train\.batch_size: found 4, which does not split"):
        trainer.run()


def test_a_cuda_graph_is_for_gpus_and_changes_nothing_on_a_cpu(tmp_path):
    summary_of(tmp_path / "plain", config(steps=5))
    summary_of(tmp_path / "asked", config(steps=5, cuda_graph=True))
    assert end_of(tmp_path / "asked") == end_of(tmp_path / "plain")


def test_several_ranks_without_torch_distributed_are_refused(tmp_path):
    open_tiny_run(tmp_path / "run")
    with pytest.raises(TrainingError, match="torchrun"):
        make_trainer(tmp_path / "run", world=World(1, 2)).run()


def test_a_loader_that_ends_early_is_named_with_the_step(tmp_path):
    short = lambda start: (batch_at(step) for step in range(3))  # noqa: E731
    with pytest.raises(TrainingError, match="step 4: the loader gave no batch"):
        summary_of(tmp_path / "run", batches=short)


def test_a_batch_of_the_wrong_size_is_refused(tmp_path):
    wrong = lambda start: iter([batch_at(0, config(batch_size=2))])  # noqa: E731
    with pytest.raises(TrainingError, match=r"a batch of 2 clips.*needs 4 clips"):
        summary_of(tmp_path / "run", batches=wrong)


@pytest.fixture
def full_disk(monkeypatch):
    """Checkpoints at steps 10 and 15 do not fit on the disk."""
    fill_disk(monkeypatch, 10, 15)


def fill_disk(monkeypatch, *steps):
    real = Checkpoints.save

    def save(self, checkpoint):
        if checkpoint.counters.step in steps:
            raise OSError(28, "No space left on device")
        real(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", save)


def test_a_full_disk_is_said_and_training_goes_on(tmp_path, full_disk, caplog):
    assert summary_of(tmp_path / "run").step == 20
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "the checkpoint at step 10 cannot be written (No space left on device)" in warnings[0]
    assert "the newest is that at step 5" in warnings[0]


def test_a_full_disk_stops_the_run_where_that_is_asked_for(tmp_path, full_disk):
    with pytest.raises(TrainingError, match="step 10 cannot be written; free some space"):
        summary_of(tmp_path / "run", config(on_save_failure="stop"))
    assert Checkpoints(tmp_path / "run/checkpoints").newest_whole().counters.step == 5  # type: ignore[union-attr]


def test_a_run_whose_last_checkpoint_cannot_be_written_has_not_ended(tmp_path):
    summary_of(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as disk:
        fill_disk(disk, 20)
        with pytest.raises(TrainingError, match="step 20 cannot be written; free some space"):
            summary_of(tmp_path / "run")
    assert summary_of(tmp_path / "run").resumed_from == 15
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


def test_a_stop_that_cannot_be_saved_does_not_say_that_it_was(tmp_path, monkeypatch):
    fill_disk(monkeypatch, 7)
    asked = iter(range(1, 1000))
    with pytest.raises(TrainingError, match=r"step 7 cannot be written; free some space; run"):
        summary_of(tmp_path / "run", should_stop=lambda: next(asked) == 7)


# Tracker and validation


def test_the_tracker_gets_only_what_no_restart_replays(tmp_path):
    diary = Diary()
    stop_after(tmp_path / "run", 11, open_tracker=lambda: diary)
    synced = [value for name, value in diary.calls if name == "sync"]
    assert synced == [[4], [4, 8, 10], [4, 8, 10]]
    assert diary.calls[0] == ("params", dict(open_tiny_run(tmp_path / "run").parameters))
    assert diary.calls[-1] == ("finish", "interrupted")


def test_a_finished_run_is_closed_with_all_its_history(tmp_path):
    diary = Diary()
    summary_of(tmp_path / "run", open_tracker=lambda: diary)
    assert diary.calls[-2:] == [("sync", [4, 8, 10, 12, 16, 20]), ("finish", "finished")]


def test_a_failed_run_is_closed_as_failed(tmp_path):
    diary = Diary()
    with pytest.raises(TrainingError):
        summary_of(tmp_path / "run", batches=lambda start: iter(()), open_tracker=lambda: diary)
    assert diary.calls[-1] == ("finish", "failed")


def test_a_tracker_that_is_down_is_said_once_and_does_not_stop_training(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("stvsr.training.tracker.OUTAGE_PAUSE", 0.0)
    diary = Diary(down=range(1, 1000))
    assert summary_of(tmp_path / "run", open_tracker=lambda: diary).step == 20
    assert caplog.text.count("does not answer") == 1
    assert len(read_history(tmp_path / "run/history.jsonl")) == 6


def test_a_tracker_that_comes_back_gets_parameters_and_the_whole_history(tmp_path, monkeypatch):
    monkeypatch.setattr("stvsr.training.tracker.OUTAGE_PAUSE", 0.0)
    diary, refused = Diary(), iter([True, True])

    def open_tracker():
        if next(refused, False):
            raise ServiceError("http://127.0.0.1:5: does not answer")
        return diary

    summary_of(tmp_path / "run", open_tracker=open_tracker)
    assert [name for name, _ in diary.calls][:2] == ["params", "sync"]
    assert ("sync", [4, 8, 10, 12, 16, 20]) in diary.calls


def test_a_tracker_that_fails_once_gets_all_it_missed_before_the_run_is_closed(tmp_path):
    last_sync = 5  # after params and the syncs at steps 5, 10, 15 and 20
    diary = Diary(down=[last_sync])
    summary_of(tmp_path / "run", open_tracker=lambda: diary)
    assert [name for name, _ in diary.calls[last_sync:]] == ["sync", "params", "sync", "finish"]
    assert diary.calls[-2] == ("sync", [4, 8, 10, 12, 16, 20])


def test_a_tracker_that_is_down_is_left_alone_for_a_while_and_tried_again_at_the_end(tmp_path):
    attempts = []

    def open_tracker():
        attempts.append(1)
        raise ServiceError("http://127.0.0.1:5: does not answer")

    summary_of(tmp_path / "run", open_tracker=open_tracker)
    assert len(attempts) == 2


def test_a_run_that_is_stopped_does_not_wait_for_a_tracker_without_an_answer(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("stvsr.training.tracker.LEAVE_SECONDS", 0.1)
    diary, is_answered = Diary(), threading.Event()
    diary.sync = lambda history: is_answered.wait()  # type: ignore[method-assign]
    try:
        text = stop_after(tmp_path / "run", 3, open_tracker=lambda: diary)
    finally:
        is_answered.set()
    assert "stopped as asked after step 3" in text
    assert "tracker: no answer within 0.1 s" in caplog.text
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == [3]


def test_validations_are_reported_and_drawn(tmp_path):
    diary, reports = Diary(), []
    summary_of(
        tmp_path / "run",
        open_tracker=lambda: diary,
        draw=lambda model: b"png",
        after_validation=lambda step, scores: reports.append((step, scores.keys())),
    )
    assert reports == [(10, {"psnr_y"}), (20, {"psnr_y"})]
    assert diary.calls.count(("picture", ("before-after.png", b"png"))) == 2


def test_a_run_may_leave_validation_out(tmp_path):
    assert summary_of(tmp_path / "a", config(validate_every=0)).validation == {}
    assert summary_of(tmp_path / "b", validate=None).validation == {}


def test_the_checkpoint_with_the_best_validation_is_kept(tmp_path):
    scores = iter([3.0, 1.0, 2.0, 1.5])
    summary_of(
        tmp_path / "run",
        config(validate_every=5, keep_checkpoints=1),
        validate=lambda model: [{"psnr_y": next(scores)}],
    )
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    assert checkpoints.steps() == [20, 5]
    assert checkpoints.best() == 5


def test_the_best_validation_is_kept_where_no_checkpoint_was_due(tmp_path):
    scores = iter([3.0, 9.0, 2.0, 1.5, 1.0, 1.0, 1.0])
    summary_of(
        tmp_path / "run",
        config(validate_every=3, keep_checkpoints=1),
        validate=lambda model: [{"psnr_y": next(scores)}],
    )
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    assert checkpoints.steps() == [20, 6]
    assert checkpoints.best() == 6
