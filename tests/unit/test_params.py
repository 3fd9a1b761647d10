"""params.yaml: a wrong key or value is one line with its path, what was found, what is allowed."""

from pathlib import Path

import pytest

from stvsr.core.config import Config
from stvsr.core.errors import ParamsError
from stvsr.models import MODELS
from stvsr.params import Params, load_params, parse_params

PROJECT = Path(__file__).parents[2]


def refusal(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError) as refused:
        load_params(file)
    return [line.removeprefix(f"{file}: ") for line in str(refused.value).splitlines()]


def test_the_projects_own_params_are_accepted() -> None:
    params = load_params(PROJECT / "params.yaml")
    assert params.model.preset == "small"
    assert params.source.kind == "sample"


def test_a_misspelt_key_is_named_with_the_nearest_valid_one(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "train: {stpes: 200}")
    assert line.startswith("train.stpes: found an unknown key; did you mean train.steps?")
    assert "batch_size" in line


def test_a_misspelt_section_is_named_with_the_nearest_valid_one(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "modle: {k: 3}")
    assert line.startswith("modle: found an unknown key; did you mean model?")


def test_a_misspelt_model_key_is_named_with_the_nearest_valid_one(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "model: {presett: small}")
    assert line.startswith("model.presett: found an unknown key; did you mean model.preset?")


def test_a_key_of_another_model_is_refused_unless_it_is_null(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "model: {name: rstt, k: 3, blocks: null, T_top: null}")
    assert line.startswith("model.k: found an unknown key; allowed in model: name, preset, ")
    assert "blocks" in line
    assert "T_top" not in line


def test_a_wrong_type_is_named_with_what_was_found(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, 'train: {steps: "many"}')
    assert line == "train.steps: found 'many'; allowed: a valid integer"


def test_more_kept_points_than_sampled_ones_are_refused(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "model: {k: 3, T_top: 10}")
    assert line.startswith("model.T_top: ")
    assert "10" in line
    assert "1..9" in line


def test_a_k_that_is_not_1_3_or_5_is_refused(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "model: {k: 4}")
    assert line == "model.k: found 4; allowed: 1, 3 or 5"


def test_a_crop_that_is_no_multiple_of_8_is_refused_with_the_nearest_ones(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "train: {crop: 33}")
    assert line == "train.crop: found 33; allowed: a multiple of 8, nearest are 32 and 40"


def test_every_fault_has_its_own_line(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "seed: -1\ntrain: {crop: 33, stpes: 1}")
    assert len(lines) == 3


def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("train: {learning_rate: 2e-4}")
    assert load_params(file).train.learning_rate == pytest.approx(2e-4)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "train:\n  steps: 1\n  steps: 2\n")
    assert "the key 'steps' is there twice" in line


@pytest.mark.parametrize("text", ["just words", "- a\n- list", "", "a: [1"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert len(refusal(tmp_path, text)) == 1


def test_a_missing_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no such file; .*--params"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ({"preset": "small"}, "small"),
        ({"preset": "published"}, "stdan"),
        ({}, "stdan"),
        ({"name": "zooming_slowmo"}, "zooming_slowmo"),
        ({"name": "stinet"}, "stinet"),
        ({"name": "rstt", "preset": "S"}, "rstt"),
        ({"name": "rstt", "preset": "small"}, "small"),
        ({"name": "tmnet"}, "tmnet"),
    ],
)
def test_the_recipe_follows_the_models_preset_unless_it_is_named(model, recipe):
    assert parse_params({"model": model}, "here").train.recipe == recipe
    named = parse_params({"model": model, "train": {"recipe": "small", "steps": 5}}, "here")
    assert (named.train.recipe, named.train.steps) == ("small", 5)


def train_of(**train):
    return parse_params({"train": train}, "here").train


def test_a_published_recipe_is_what_was_published_but_for_what_is_said():
    stdan = train_of(recipe="stdan", steps=None, workers=6)
    assert (stdan.steps, stdan.batch_size, stdan.crop) == (600_000, 18, 32)
    assert (stdan.learning_rate, stdan.min_learning_rate) == (2e-4, 1e-7)
    assert (stdan.restart_every, stdan.warmup_steps) == (150_000, 0)
    assert (stdan.beta1, stdan.beta2) == (0.9, 0.99)
    assert train_of(recipe="zooming_slowmo", workers=4).learning_rate == 4e-4
    stinet = train_of(recipe="stinet")
    assert (stinet.decay_every, stinet.decay_factor, stinet.freeze) == (
        100_000,
        0.25,
        ("spatial.*",),
    )
    assert train_of(recipe="zooming_slowmo", batch_size=6).batch_size == 6
    tmnet = train_of(recipe="tmnet")
    assert (tmnet.steps, tmnet.restart_every) == (600_000, 150_000)
    assert (tmnet.batch_size, tmnet.learning_rate) == (24, 4e-4)
    rstt = train_of(recipe="rstt", workers=1)
    assert (rstt.steps, rstt.batch_size, rstt.crop) == (2_000_000, 7, 64)
    assert (rstt.learning_rate, rstt.min_learning_rate, rstt.warmup_steps) == (2e-4, 1e-7, 0)


def test_a_recipe_decides_by_its_values_alone():
    spelt_out = train_of(recipe="stdan").deciding()
    assert train_of(recipe="small", **spelt_out).deciding() == spelt_out


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        ParamsError, match=r"train\.recipe: found 'sgd'; allowed: small, finetune, stdan"
    ):
        train_of(recipe="sgd")


@pytest.mark.parametrize("section", [*Params.model_fields, "model: {name: zooming_slowmo"])
def test_an_unknown_key_is_refused_even_if_it_holds_nothing(tmp_path: Path, section: str) -> None:
    name, _, rest = section.removesuffix("_").partition(": {")
    if name == "seed":
        assert refusal(tmp_path, "sed: null")[0].startswith("sed: found an unknown key")
        return
    (line,) = refusal(tmp_path, f"{name}: {{{rest}{', ' if rest else ''}xyz: null}}")
    assert line.startswith(f"{name}.xyz: found an unknown key")


@pytest.mark.parametrize("value", ["false", "0", "[]", "''"])
@pytest.mark.parametrize("section", ["train", "model", "tune"])
def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path, section: str, value: str) -> None:
    (line,) = refusal(tmp_path, f"{section}: {value}")
    assert line.startswith(f"{section}: found ")


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("train: {steps: 600,000}", "train: found a key that is no text (0)"),
        ("train:\n  steps: 600,000", "train.steps: found '600,000'; allowed: a valid integer"),
        ("train: {compile: no}", "train.compile: found 'no'; allowed: a valid boolean"),
        ("train:\n  steps: 1:30", "train.steps: found '1:30'; allowed: a valid integer"),
        ("train: {steps: 2020-01-01}", "train.steps: found a date"),
        ("train: {learning_rate: .nan}", "train.learning_rate: found nan; allowed: a finite"),
        ('{"a\\nb": 1}', "a\\nb: found an unknown key"),
    ],
)
def test_what_looks_like_a_number_or_a_boolean_is_refused_in_one_line(
    tmp_path: Path, text: str, begins: str
) -> None:
    (line,) = refusal(tmp_path, text)
    assert line.startswith(begins)


def test_a_merge_key_and_a_leading_zero_are_valid(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("tune:\n  <<: {trials: 2, steps: 5}\n  steps: 7\ntrain: {steps: 010}")
    params = load_params(file)
    assert (params.tune.trials, params.tune.steps, params.train.steps) == (2, 7, 10)


def test_a_refusal_stays_short(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "\n".join(f"key_{n}: 1" for n in range(1000)))
    assert len(lines) == 21
    assert lines[-1] == "980 more faults"
    (line,) = refusal(tmp_path, f"train: {{steps: {'x' * 10_000}}}")
    assert len(line) < 300


HUGE = 10**12


@pytest.mark.parametrize("model", MODELS, ids=lambda entry: entry.name)
def test_every_size_of_a_network_is_bounded_and_its_refusal_names_the_bound(model):
    integers = [n for n, field in model.config.model_fields.items() if field.annotation is int]
    assert "channels" in integers
    for name in integers:
        with pytest.raises(ParamsError) as refused:
            parse_params({"model": {"name": model.name, name: HUGE}}, "here")
        text = str(refused.value)
        assert text.startswith(f"here: model.{name}: found {HUGE}; allowed: less than or equal to ")


def test_every_number_of_a_section_is_bounded():
    for key, field in Params.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Config):
            for name, inner in section.model_fields.items():
                if inner.annotation in (int, float, int | None, float | None):
                    with pytest.raises(ParamsError, match=rf"{name}: .*less than"):
                        parse_params({field.alias or key: {name: HUGE}}, "here")


@pytest.mark.parametrize(
    ("section", "fields", "says"),
    [
        (
            "model",
            {"embedding": 480, "extraction_groups": 32, "blocks_per_group": 32},
            "model.embedding: embedding = 480, extraction_groups = 32, reconstruction_groups = 6, "
            "blocks_per_group = 32 make 2,241,331,200 weights; allowed: 500,000,000",
        ),
        (
            "model",
            {"name": "zooming_slowmo", "channels": 512, "back_blocks": 256},
            "model.channels: channels = 512, front_blocks = 5, back_blocks = 256 make 1,231,552,512"
            " weights; allowed: 500,000,000",
        ),
        (
            "train",
            {"batch_size": 4096, "crop": 1024},
            "train.batch_size: found 4096 with crop 1024, 1 workers and 1 accumulations: "
            "4,294,967,296 LR pixels at a time; allowed: 16,777,216",
        ),
        (
            "tune",
            {"learning_rate_min": 0.1},
            "tune.learning_rate_min: found 0.1, above learning_rate_max 0.002",
        ),
        ("tune", {"k": [1, 7]}, "tune.k.1: found 7; allowed: 1, 3 or 5"),
    ],
)
def test_sizes_that_are_too_large_together_are_refused(section, fields, says):
    with pytest.raises(ParamsError) as refused:
        parse_params({section: fields}, "here")
    assert str(refused.value).startswith(f"here: {says}")
    assert len(str(refused.value).splitlines()) == 1
