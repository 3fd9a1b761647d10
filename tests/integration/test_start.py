"""`stvsr train` with `train.start_from`, under Ray."""

import json
from pathlib import Path

import pytest

from stvsr.artifact import load_artifact, read_card
from tests.support.models import TINY_STDAN, write_tiny_artifact
from tests.support.projects import make_project, stvsr

pytestmark = pytest.mark.slow


def test_a_run_that_starts_from_a_model_says_so_in_its_card(
    tmp_path: Path, tiny_sets: Path
) -> None:
    start = write_tiny_artifact(tmp_path / "start", seed=5)
    project = make_project(
        tmp_path / "project",
        tiny_sets,
        start_from=str(tmp_path / "start"),
        learning_rate=1e-12,
        min_learning_rate=0.0,
        steps=2,
    )
    params = json.loads((project / "params.yaml").read_text())
    params["model"] = TINY_STDAN.model_dump(mode="json")
    (project / "params.yaml").write_text(json.dumps(params))
    code, output = stvsr(project, "train")
    assert code == 0, output
    card = read_card(project / "model")
    assert card.start_sha256 == start.weights_sha256
    assert card.start_from.endswith("/start")
    assert str(tmp_path) not in card.model_dump_json()
    expected = load_artifact(tmp_path / "start")[0].state_dict()
    for name, tensor in load_artifact(project / "model")[0].state_dict().items():
        assert (tensor - expected[name]).abs().max() < 1e-9, name
