import hashlib
import json
import logging

import pytest
import torch

from stvsr.core.errors import CheckpointError
from stvsr.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    load_optimizer,
    optimizer_tensors,
)
from stvsr.training.counters import Counters
from tests.support.files import SPECIAL_FILES, replace_by_special
from tests.support.training import TinyNet


def checkpoint(step, score=None):
    weights = {"a": torch.full((3,), float(step)), "b": torch.arange(4)}
    moments = {"a/exp_avg": torch.ones(3), "a/step": torch.tensor(float(step))}
    counters = Counters(step=step, window_loss=1 / 3, window_steps=2, validation={"psnr_y": 30.1})
    return Checkpoint(counters, weights, moments, {"a": torch.zeros(3)}, score)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def save_all(checkpoints, *steps):
    for step in steps:
        checkpoints.save(checkpoint(step))


def test_a_checkpoint_is_read_as_it_was_saved(checkpoints):
    checkpoints.save(checkpoint(200, score=31.5))
    loaded = checkpoints.newest_whole()
    assert loaded.counters == checkpoint(200).counters
    assert loaded.score == 31.5
    for name in ("weights", "optimizer", "ema"):
        found, saved = getattr(loaded, name), getattr(checkpoint(200), name)
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[key], saved[key]) for key in saved)


def test_there_is_no_checkpoint_before_the_first(checkpoints):
    assert checkpoints.newest_whole() is None
    assert checkpoints.steps() == []
    assert checkpoints.best() is None


def test_only_the_newest_are_kept(checkpoints):
    save_all(checkpoints, 50, 100, 150, 200)
    assert checkpoints.steps() == [200, 150]


def test_the_best_is_kept_besides_the_newest(checkpoints):
    for step, score in ((50, 30.0), (100, 32.0), (150, 31.0), (200, None), (250, 31.5)):
        checkpoints.save(checkpoint(step, score))
    assert checkpoints.steps() == [250, 200, 100]
    assert checkpoints.best() == 100


def test_of_two_equally_good_ones_the_first_is_the_best(checkpoints):
    checkpoints.save(checkpoint(50, 30.0))
    checkpoints.save(checkpoint(100, 30.0))
    assert checkpoints.best() == 50


def test_a_step_beyond_eight_digits_is_found_and_newest(checkpoints):
    save_all(checkpoints, 99_999_999, 100_000_000)
    assert checkpoints.newest_whole().counters.step == 100_000_000


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "missing"])
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_is_used(
    checkpoints, caplog, name, damage
):
    save_all(checkpoints, 100, 200)
    damage_file(checkpoints.path(200) / name, damage)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest_whole().counters.step == 100
    assert "step-00000200 is passed over" in caplog.text
    assert name in caplog.text


def test_each_flipped_byte_of_the_state_is_noticed(checkpoints):
    save_all(checkpoints, 100)
    file = checkpoints.path(100) / "state.json"
    whole = file.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load(100)


def sealed(state):
    line = json.dumps(state)
    return f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n"


OF_ANOTHER_SCHEMA = {
    "another format": {"format": 3},
    "an unknown key": {"odd": None},
    "no counters": {"counters": {}, "score": "high"},
    "an unknown counter": {"counters": {"step": 100, "odd": 1}},
    "a text for a step": {"counters": {"step": "100"}},
    "a negative step": {"counters": {"step": -100}},
    "a huge step": {"counters": {"step": 10**400}},
    "a NaN": {"score": float("nan")},
    "another file": {"files": {"../weights.safetensors": "0" * 64}},
    "a checksum of another kind": {"files": {"weights.safetensors": "0"}},
    "another step": {"counters": {"step": 99}},
}


@pytest.mark.parametrize("changes", OF_ANOTHER_SCHEMA.values(), ids=OF_ANOTHER_SCHEMA.keys())
def test_a_state_of_another_schema_is_refused_although_its_checksum_is_right(checkpoints, changes):
    save_all(checkpoints, 100)
    file = checkpoints.path(100) / "state.json"
    state = json.loads(file.read_text().splitlines()[0])
    file.write_text(sealed(state))
    assert checkpoints.load(100).counters == checkpoint(100).counters
    file.write_text(sealed(state | changes))
    with pytest.raises(CheckpointError, match=r"no state of format 2|is that of step 99") as caught:
        checkpoints.load(100)
    assert str(caught.value).isprintable()


def test_a_state_of_a_version_that_did_not_count_records_is_read(checkpoints):
    save_all(checkpoints, 100)
    file = checkpoints.path(100) / "state.json"
    state = json.loads(file.read_text().splitlines()[0])
    del state["records"]
    file.write_text(sealed(state))
    assert checkpoints.load(100).records == 0


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_a_special_file_in_the_place_of_the_state_is_refused(checkpoints, kind):
    save_all(checkpoints, 100)
    replace_by_special(checkpoints.path(100) / "state.json", kind)
    with pytest.raises(CheckpointError, match=r"state.json: cannot be read"):
        checkpoints.load(100)


def test_when_all_are_damaged_training_does_not_silently_start_anew(checkpoints):
    save_all(checkpoints, 100, 200)
    for step in (100, 200):
        damage_file(checkpoints.path(step) / "weights.safetensors", "flipped")
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints are damaged.*--fresh"):
        checkpoints.newest_whole()


def test_a_damaged_one_does_not_take_the_place_of_a_whole_one_when_old_ones_go(checkpoints):
    save_all(checkpoints, 100, 200)
    damage_file(checkpoints.path(200) / "weights.safetensors", "flipped")
    assert checkpoints.newest_whole().counters.step == 100
    checkpoints.save(checkpoint(150))
    assert checkpoints.steps() == [150, 100]


def test_a_damaged_one_is_replaced_when_its_step_comes_again(checkpoints):
    save_all(checkpoints, 100, 200)
    damage_file(checkpoints.path(200) / "state.json", "missing")
    checkpoints.save(checkpoint(200))
    assert checkpoints.newest_whole().counters.step == 200


def test_a_full_disk_leaves_the_checkpoints_that_were_there(checkpoints, monkeypatch):
    save_all(checkpoints, 100, 200)

    def full(*_args, **_named):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("pathlib.Path.write_text", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(checkpoint(300))
    assert checkpoints.newest_whole().counters.step == 200
    assert checkpoints.steps() == [200, 100]
    assert not list(checkpoints.folder.glob(".step*"))


def test_what_a_killed_process_left_is_no_checkpoint_and_is_cleared(checkpoints):
    save_all(checkpoints, 100)
    for name in (".step-00000200.4194305.partial", ".step-00000050.removed.partial"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "weights.safetensors").write_bytes(b"half")
    assert checkpoints.steps() == [100]
    checkpoints.clear_leftovers()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-00000100"]


def trained(model):
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    return optimizer


def test_an_optimizer_goes_on_from_its_moments():
    model = TinyNet()
    optimizer = trained(model)
    again = torch.optim.Adam(model.parameters())
    load_optimizer(model, again, optimizer_tensors(model, optimizer), "here")
    for parameter in model.parameters():
        assert optimizer.state[parameter].keys() == again.state[parameter].keys()
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(value, again.state[parameter][key])


def test_moments_of_another_network_are_refused_by_name():
    model, other = TinyNet(), torch.nn.Linear(2, 2)
    moments = optimizer_tensors(other, trained(other))
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(CheckpointError, match=r"parameter \S+: found (none|moments), expected"):
        load_optimizer(model, optimizer, moments, "here")


def damage_file(file, damage):
    content = bytearray(file.read_bytes())
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 4
            file.write_bytes(content)
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
        case "emptied":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
