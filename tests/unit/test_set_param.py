"""`dvc exp run -S KEY=VALUE` sets every parameter, in this one spelling."""

import json
import shutil
from pathlib import Path

from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]

from stvsr.core.yaml import read_yaml
from stvsr.models import MODEL_NAMES, StdanConfig
from stvsr.params import load_params
from stvsr.params_page import all_keys

PROJECT = Path(__file__).parents[2]


def set_params(folder: Path, *settings: str) -> Path:
    """The project's params.yaml with what DVC makes of `-S SETTING` for each of the settings."""
    params = folder / "params.yaml"
    shutil.copy(PROJECT / "params.yaml", params)
    apply_overrides(params, list(settings))
    return params


def test_every_key_can_be_set_and_has_its_default_in_the_file(tmp_path: Path) -> None:
    names = sorted({key.name for key in all_keys()})
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    values = read_yaml(tmp_path / "params.yaml")
    before = load_params(tmp_path / "params.yaml")
    settings = []
    for name in names:
        section, _, key = name.partition(".")
        value = values[section][key] if key else values[section]
        settings.append(f"{name}={json.dumps(value)}")
    assert load_params(set_params(tmp_path, *settings)) == before


def test_each_model_is_chosen_by_its_name_alone(tmp_path: Path) -> None:
    for name in MODEL_NAMES:
        params = load_params(set_params(tmp_path, f"model.name={name}"))
        assert (params.model.name, params.model.preset) == (name, "small")


def test_lists_and_names_of_networks_are_set_like_numbers(tmp_path: Path) -> None:
    settings = ("tune.k=[1,5]", "train.start_from=models:/stdan@champion", "model.T_top=1")
    params = load_params(set_params(tmp_path, *settings))
    assert params.tune.k == (1, 5)
    assert params.train.start_from == "models:/stdan@champion"
    assert isinstance(params.model, StdanConfig)
    assert params.model.T_top == 1
