"""A run starts from another network's weights: by name and checksum, partly, and partly frozen."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stvsr.artifact import load_artifact
from stvsr.core.errors import CheckpointError, ParamsError
from stvsr.core.world import World
from stvsr.launch.job import deciding_parameters, new_job, run_stem
from stvsr.launch.start import find_start
from stvsr.launch.train import checked_lineage
from stvsr.launch.worker import build_trainer
from stvsr.models import build_model
from stvsr.params import Params, parse_params
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.run import open_run
from stvsr.training.start import freeze, start_at
from tests.support.models import TINY_STDAN, write_tiny_artifact

STILL: dict[str, Any] = {"learning_rate": 1e-12, "min_learning_rate": 0.0, "warmup_steps": 0}
"""A rate at which two steps leave the weights where they start."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_tiny_artifact(tmp_path / "source", seed=5)
    return tmp_path / "source"


def params_of(start: Path | None, model: dict[str, object] | None = None, **train) -> Params:
    steps = {"steps": 2, "batch_size": 2, "crop": 16, "validate_every": 0, "validate_clips": 1}
    raw = {
        "model": TINY_STDAN.model_dump(mode="json") | (model or {}),
        "loader": {"kind": "torch", "threads": 1},
        "train": {**steps, **train, "start_from": str(start) if start else None},
    }
    return parse_params(raw, "test")


def trained(params: Params, sets: Path, run: Path) -> dict[str, Tensor]:
    """The weights at the end of a run."""
    lineage = checked_lineage(str(sets), params.loader)
    start = find_start(params)
    sha256 = start.sha256 if start else ""
    opened = open_run(run, deciding_parameters(params, lineage, sha256))
    if start:
        start.keep(run)
    uri = f"sqlite:///{run.parent / 'mlflow.db'}"
    job = new_job(params, str(sets), opened, tracking_uri=uri, start=sha256)
    build_trainer(job, World(), torch.device("cpu")).run()
    end = Checkpoints(opened.checkpoints).newest_whole()
    assert end is not None
    return dict(end.weights)


def test_a_run_starts_where_the_named_network_is(
    source: Path, tiny_sets: Path, tmp_path: Path
) -> None:
    expected = load_artifact(source)[0].state_dict()
    found = trained(params_of(source, **STILL), tiny_sets, tmp_path / "run")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-9)


def test_the_weights_of_the_start_and_not_its_name_tell_runs_apart(
    source: Path, tiny_sets: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "copy")
    write_tiny_artifact(tmp_path / "other", seed=6)

    def stem(start: Path | None) -> str:
        params = params_of(start, recipe="small")
        lineage = checked_lineage(str(tiny_sets), params.loader)
        found = find_start(params)
        return run_stem(params, lineage, found.sha256 if found else "")

    assert stem(source) == stem(tmp_path / "copy")
    assert len({stem(source), stem(tmp_path / "other"), stem(None)}) == 3


def test_a_start_that_does_not_fit_is_refused_tensor_by_tensor(source: Path) -> None:
    with pytest.raises(CheckpointError) as refusal:
        find_start(params_of(source, {"channels": 16, "embedding": 16}))
    lines = str(refusal.value).splitlines()
    assert len(lines) == 11
    assert "source: tensor conv_first.weight: found float32 (8, 3, 3, 3), expected" in lines[0]
    assert "more tensors do not fit" in lines[-1]
    assert "start_partly: true" in lines[-1]


def test_a_start_in_part_takes_the_tensors_that_fit(source: Path) -> None:
    params = params_of(source, {"blocks_per_group": 2}, start_partly=True)
    start = find_start(params)
    assert start is not None
    torch.manual_seed(0)
    model = build_model(params.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_at(model, start.weights, "here", partly=True)
    after = model.state_dict()
    taken = {name for name in after if name in start.weights}
    assert 0 < len(taken) < len(after)
    assert all(torch.equal(after[name], start.weights[name]) for name in taken)
    assert all(torch.equal(after[name], before[name]) for name in after.keys() - taken)
    with pytest.raises(CheckpointError, match="here: none of its 1 tensors fits"):
        start_at(model, {"other": torch.zeros(1)}, "here", partly=True)


def test_frozen_parameters_stay_and_the_others_are_trained(
    source: Path, tiny_sets: Path, tmp_path: Path
) -> None:
    expected = load_artifact(source)[0].state_dict()
    params = params_of(source, freeze=["extraction.*"], learning_rate=1e-3)
    found = trained(params, tiny_sets, tmp_path / "run")
    same = {name for name, tensor in expected.items() if torch.equal(found[name], tensor)}
    assert {name for name in expected if name.startswith("extraction.")} <= same
    assert len(same) < len(expected) / 2


@pytest.mark.parametrize(
    ("patterns", "refusal"),
    [
        (["nowhere.*"], r"found 'nowhere\.\*', which fits no parameter's name; names begin with "),
        (["*"], r"found \*, which fits every parameter; leave some to be trained"),
    ],
)
def test_patterns_that_freeze_nothing_or_everything_are_refused(
    patterns: list[str], refusal: str
) -> None:
    with pytest.raises(ParamsError, match=refusal):
        freeze(build_model(TINY_STDAN), patterns)


def test_the_recipe_with_a_start_is_for_finetuning() -> None:
    given = {"train": {"start_from": "somewhere", "steps": 7}}
    params = parse_params(given, "test")
    assert (params.train.recipe, params.train.steps) == ("finetune", 7)
    assert params.train.learning_rate == 2e-4
    assert parse_params({"train": {"start_from": None}}, "test").train.recipe == "stdan"


@pytest.mark.parametrize(
    ("model", "start", "recipe"),
    [
        ({"preset": "small"}, "stvsr/small", "finetune"),
        ({"preset": "small", "k": 3, "T_top": 2}, "stvsr/small", "finetune"),
        ({"preset": "small", "k": 5}, None, "small"),
        ({"name": "zooming_slowmo", "preset": "small"}, None, "small"),
        ({"preset": "published"}, None, "stdan"),
    ],
)
def test_auto_starts_from_the_network_that_ships_with_the_same_model(
    model: dict[str, object], start: str | None, recipe: str
) -> None:
    given = {"model": model, "train": {"start_from": "auto"}}
    train = parse_params(given, "test").train
    assert (train.start_from, train.recipe) == (start, recipe)
    assert parse_params(given, "test", search=True).train.start_from is None


def test_auto_with_a_wrong_model_is_refused_for_the_model() -> None:
    with pytest.raises(ParamsError, match=r"model\.k: found 4"):
        parse_params({"model": {"k": 4}, "train": {"start_from": "auto"}}, "test")
