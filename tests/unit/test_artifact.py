import json
import os
import resource

import pytest
import torch
from safetensors.torch import save

from stvsr.artifact import Card, load_artifact, load_weights, save_artifact
from stvsr.core.errors import CheckpointError
from stvsr.models import build_model
from tests.support.models import TINY_STDAN


def card(**changes):
    facts = {
        "model": TINY_STDAN,
        "step": 300,
        "steps_total": 400,
        "seed": 7,
        "degradation": {"name": "bicubic"},
        "data_hash": "ab" * 32,
        "git_commit": "1234567",
        "stvsr_version": "0.1.0",
    }
    return Card(**{**facts, **changes})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(TINY_STDAN)


@pytest.fixture
def artifact(tmp_path, model):
    save_artifact(tmp_path / "model", model, card())
    return tmp_path / "model"


def refuses(folder, *parts):
    with pytest.raises(CheckpointError) as refusal:
        load_artifact(folder)
    for part in parts:
        assert part in str(refusal.value)


def test_a_loaded_artifact_gives_the_same_pictures_and_card(artifact, model):
    loaded, facts = load_artifact(artifact)
    clip = torch.rand(1, 2, 3, 8, 8)
    assert not loaded.training
    assert torch.equal(loaded(clip), model.eval()(clip))
    assert facts.model_copy(update={"weights_sha256": ""}) == card()


def test_the_same_network_gives_the_same_bytes(tmp_path, artifact, model):
    save_artifact(tmp_path / "again", model, card())
    for file in artifact.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_card_says_every_setting_of_the_network_not_only_its_preset(artifact):
    written = json.loads((artifact / "model.json").read_text())
    assert written["model"]["channels"] == 8
    assert written["model"]["k"] == 3


def test_saving_replaces_the_artifact_that_was_there(artifact, model):
    save_artifact(artifact, model, card(step=400))
    assert load_artifact(artifact)[1].step == 400


def test_an_artifact_that_cannot_be_written_leaves_the_one_before(artifact, model, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_artifact(artifact, model, card(step=400))
    monkeypatch.undo()
    assert load_artifact(artifact)[1].step == 300
    assert [path.name for path in artifact.parent.iterdir()] == ["model"]


def test_a_folder_without_an_artifact_is_refused_with_what_it_should_hold(tmp_path):
    refuses(tmp_path, "model.json: cannot be read", "weights.safetensors", "dvc repro train")


def test_a_flipped_byte_in_the_weights_is_found(artifact):
    file = artifact / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    refuses(artifact, "weights.safetensors: damaged", "checksum")


def test_truncated_weights_are_found(artifact):
    file = artifact / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refuses(artifact, "weights.safetensors: damaged")


def test_a_card_that_is_no_json_is_refused(artifact):
    (artifact / "model.json").write_text("{")
    refuses(artifact, "model.json: not valid JSON:", "damaged or from another version")


def test_a_card_of_a_later_format_is_refused_by_its_key(artifact):
    file = artifact / "model.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 3'))
    refuses(artifact, "model.json: format:", "another version of stvsr")


def test_weights_of_another_network_are_refused_with_the_tensor_and_both_shapes(model):
    other = build_model(TINY_STDAN.model_copy(update={"k": 1, "T_top": 1})).state_dict()
    with pytest.raises(CheckpointError, match=r"w\.safetensors: tensor \S+: found float32 \("):
        load_weights(model, other, "w.safetensors")


def test_weights_that_lack_a_tensor_are_refused_by_its_name(model):
    weights = model.state_dict()
    weights.pop("conv_last.bias")
    with pytest.raises(CheckpointError, match=r"conv_last\.bias: found absent, expected present"):
        load_weights(model, weights, "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_the_tensor_s_name(tmp_path, model, value):
    with torch.no_grad():
        model.conv_last.bias[1] = value
    save_artifact(tmp_path / "model", model, card())
    refuses(tmp_path / "model", "tensor conv_last.bias: 1 of its 3 values are NaN or infinite")


def test_a_refused_file_leaves_the_network_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {name: tensor + 1 for name, tensor in before.items()}
    weights["conv_last.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointError, match=r"found float32 \(5,\), expected float32 \(3,\)"):
        load_weights(model, weights, "w.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_pickle_in_place_of_the_weights_is_not_opened(artifact):
    torch.save({"a": torch.zeros(1)}, artifact / "weights.safetensors")
    refuses(artifact, "weights.safetensors: damaged")


def test_weights_are_readable_with_safetensors_alone(artifact, model):
    assert (artifact / "weights.safetensors").read_bytes() == save(model.state_dict())


def change_card(artifact, **model):
    path = artifact / "model.json"
    written = json.loads(path.read_text())
    written["model"] |= model
    path.write_text(json.dumps(written))


def test_a_size_of_the_network_beyond_its_bound_is_refused_with_the_bound(artifact):
    change_card(artifact, channels=10**12)
    refuses(artifact, "model.json: model.stdan.channels: ", "less than or equal to 512")


def test_a_card_of_a_large_network_is_refused_by_the_weights_before_there_is_memory_for_it(
    artifact,
):
    change_card(artifact, channels=512, embedding=512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(artifact, "weights.safetensors: tensor ", "found float32 (8", "expected float32 (512")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # of 1.9 GB


def test_a_weights_file_larger_than_the_cards_network_is_refused_unread(artifact):
    os.truncate(artifact / "weights.safetensors", 1 << 40)
    refuses(artifact, "weights.safetensors: found 1099511627776 bytes, expected at most ")


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_pipe_in_place_of_a_file_is_refused_unopened(artifact, name):
    (artifact / name).unlink()
    os.mkfifo(artifact / name)
    refuses(artifact, f"{name}: found no ordinary file")
