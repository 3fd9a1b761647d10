"""The folder of a run, finished or not, opens as a network: its newest checkpoint's weights."""

from pathlib import Path

import pytest
import torch

from stvsr.core.errors import CheckpointError
from stvsr.models import StdanConfig, build_model
from stvsr.open_model import open_model
from stvsr.training.checkpoint import Checkpoint, Checkpoints
from stvsr.training.counters import Counters
from stvsr.training.run import flatten, open_run

MODEL = StdanConfig(preset="small", channels=8, embedding=8)
PARAMETERS = {
    "seed": 7,
    "data_hash": "abc",
    "degradation": {"name": "bicubic"},
    "model": MODEL.model_dump(mode="json"),
    "train": {"steps": 30},
}


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of 30 steps without a checkpoint."""
    open_run(tmp_path / "run", PARAMETERS)
    return tmp_path / "run"


def save(run: Path, step: int, *, averages: bool) -> tuple[dict, dict]:
    """Save a checkpoint; return its weights and their averages."""
    weights = build_model(MODEL).state_dict()
    ema = build_model(MODEL).state_dict() if averages else {}
    Checkpoints(run / "checkpoints").save(Checkpoint(Counters(step=step), weights, {}, ema))
    return weights, ema


@pytest.mark.parametrize("averages", [True, False])
def test_a_run_opens_with_the_averaged_weights_where_it_keeps_them(run, averages):
    save(run, 10, averages=averages)
    weights, ema = save(run, 20, averages=averages)
    model, card = open_model(str(run))
    assert (card.step, card.steps_total, card.seed, card.run) == (20, 30, 7, "run")
    assert card.model == MODEL
    for name, value in model.state_dict().items():
        assert torch.equal(value, (ema or weights)[name])


def test_a_run_without_a_checkpoint_is_refused(run):
    with pytest.raises(CheckpointError, match="run: this run has no checkpoint yet"):
        open_model(str(run))


def test_a_run_whose_record_lacks_a_parameter_is_refused_by_its_name(tmp_path):
    without = {name: value for name, value in PARAMETERS.items() if name != "data_hash"}
    assert "model.k" in flatten(without)
    open_run(tmp_path / "run", without)
    save(tmp_path / "run", 10, averages=False)
    with pytest.raises(CheckpointError, match=r"run\.json: data_hash: "):
        open_model(str(tmp_path / "run"))
