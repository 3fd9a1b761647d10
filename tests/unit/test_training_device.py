"""Training on the device under test: the CPU's losses, a checkpoint's whole state, few waits."""

import os
import warnings

import pytest
import torch

from stvsr.core.clip import ClipBatch
from stvsr.models import StdanConfig, build_model
from stvsr.models.layers.swin import DropPath
from stvsr.training.history import curve, read_history
from stvsr.training.step_graph import StepGraph
from stvsr.training.validation import score_clips
from tests.support.training import TINY, batch_at, make_trainer, summary_of

DEVICE = torch.device(os.environ.get("STVSR_TEST_DEVICE", "cpu"))

SMALLEST = StdanConfig(preset="small", blocks_per_group=1, reconstruction_groups=1)

STEPS = TINY.model_copy(
    update={"steps": 6, "batch_size": 2, "log_every": 1, "checkpoint_every": 3, "validate_every": 3}
)

pytestmark = pytest.mark.gpu


def moved(batch: ClipBatch, device: torch.device) -> ClipBatch:
    return ClipBatch(batch.lr_clip.to(device), batch.hr_clip.to(device), batch.keys)


def parts(config, device):
    """The parts of a trainer on a device; no path is dropped, since devices draw differently."""
    torch.manual_seed(0)
    model = build_model(SMALLEST)
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
    clip = moved(batch_at(99, config), device)
    return {
        "model": model.to(device),
        "batches": lambda start: (
            moved(batch_at(step, config), device) for step in range(start, config.steps)
        ),
        "validate": lambda network: score_clips(network, [clip]),
    }


def losses(folder, config, device):
    trained = parts(config, device)
    summary_of(folder, config, **trained)
    return [loss for _, loss in curve(read_history(folder / "history.jsonl"), "loss")]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-3), ("bf16", 2e-2)])
def test_losses_are_those_of_float32_on_a_cpu(tmp_path, precision, tolerance):
    config = STEPS.model_copy(update={"precision": precision})
    got = losses(tmp_path / "device", config, DEVICE)
    expected = losses(tmp_path / "cpu", STEPS, torch.device("cpu"))
    assert got == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_resumes_from_its_checkpoint(tmp_path, precision):
    config = STEPS.model_copy(update={"precision": precision})
    whole = losses(tmp_path / "whole", config, DEVICE)
    stops = iter([False, False, True])
    with pytest.raises(Exception, match="stopped as asked after step 3"):
        make_trainer(
            tmp_path / "run", config, should_stop=lambda: next(stops), **parts(config, DEVICE)
        ).run()
    summary = summary_of(tmp_path / "run", config, **parts(config, DEVICE))
    assert summary.resumed_from == 3
    records = read_history(tmp_path / "run" / "history.jsonl")
    # atomic additions come in another order each time
    assert [loss for _, loss in curve(records, "loss")] == pytest.approx(whole, rel=1e-3)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CPU has no CUDA graphs")
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_recorded_step_trains_like_one_that_is_not(tmp_path, precision, accumulation):
    config = STEPS.model_copy(update={"precision": precision, "accumulation": accumulation})
    expected = losses(tmp_path / "launched", config, DEVICE)
    config = config.model_copy(update={"cuda_graph": True})
    got = losses(tmp_path / "replayed", config, DEVICE)
    # atomic additions come in another order each time
    assert got == pytest.approx(expected, rel=1e-3)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CPU has no CUDA graphs")
def test_a_replayed_step_draws_what_its_seed_says():
    nothing = torch.zeros(1, device=DEVICE)
    graph = StepGraph(lambda lr, hr: torch.rand(8, device=DEVICE), nothing, nothing)

    def drawn(seed):
        torch.manual_seed(seed)
        return graph.replay(nothing, nothing).clone()

    assert drawn(1).equal(drawn(1))
    assert not drawn(1).equal(drawn(2))


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CPU has nothing to wait for")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_step_waits_for_the_gpu_once(tmp_path, cuda_graph):
    config = STEPS.model_copy(update={"cuda_graph": cuda_graph})
    trainer = make_trainer(tmp_path, config, **parts(config, DEVICE))
    trainer._model.train()
    batch = moved(batch_at(0, STEPS), DEVICE)
    trainer._step(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer._step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing" in str(w.message)]
    assert len(waits) == 1, waits
