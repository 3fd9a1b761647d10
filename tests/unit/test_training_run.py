import json

import pytest

from stvsr.artifact import CodeVersion
from stvsr.core.errors import CheckpointError, StvsrError, TrainingError
from stvsr.core.files import only_writer
from stvsr.training.run import (
    continue_run,
    find_run,
    fingerprint,
    flatten,
    open_run,
    read_run,
)
from tests.support.files import SPECIAL_FILES, replace_by_special

PARAMETERS = {"seed": 0, "model": {"name": "stdan", "k": 3}, "train": {"learning_rate": 2e-4}}


def test_nested_parameters_get_dotted_names():
    nested = {"seed": 0, "model": {"k": 3, "sizes": [1, 2]}, "note": None}
    assert flatten(nested) == {"seed": 0, "model.k": 3, "model.sizes": "[1, 2]", "note": None}


def test_the_fingerprint_tells_parameters_apart_whatever_their_order():
    one, other = {"a": 1, "b": 2.5}, {"b": 2.5, "a": 1}
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint({**one, "b": 2.6})
    assert len(fingerprint(one)) == 8


def test_a_run_is_found_again_with_its_parameters(tmp_path):
    made = open_run(tmp_path / "run", PARAMETERS)
    assert open_run(tmp_path / "run", PARAMETERS) == made == read_run(tmp_path / "run")


def test_other_parameters_under_the_same_name_are_refused_with_the_differences(tmp_path):
    open_run(tmp_path / "run", PARAMETERS)
    other = {"seed": 0, "model": {"name": "stdan", "k": 5}, "extra": True}
    with pytest.raises(TrainingError) as refusal:
        open_run(tmp_path / "run", other)
    text = str(refusal.value)
    assert "model.k was 3, now 5" in text
    assert "extra was absent, now true" in text
    assert "train.learning_rate was 0.0002, now absent" in text
    assert "seed" not in text
    assert "--fresh" in text


def test_fresh_throws_the_state_away_and_takes_the_new_parameters(tmp_path):
    open_run(tmp_path / "run", PARAMETERS)
    (tmp_path / "run" / "history.jsonl").write_text("old")
    run = open_run(tmp_path / "run", {"seed": 1}, fresh=True)
    assert run.parameters == {"seed": 1}
    assert not run.history.exists()


def test_a_run_in_use_is_not_thrown_away(tmp_path):
    run = open_run(tmp_path / "run", PARAMETERS)
    with only_writer(run.path), pytest.raises(StvsrError, match="already writing"):
        open_run(run.path, PARAMETERS, fresh=True)
    assert read_run(run.path) == run


def test_a_worker_that_does_not_see_the_folder_says_that_storage_must_be_shared(tmp_path):
    with pytest.raises(CheckpointError, match="storage that all workers share"):
        read_run(tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"format": 1})])
def test_a_damaged_run_file_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json: damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_a_special_file_in_the_place_of_the_record_is_refused(tmp_path, kind):
    replace_by_special(tmp_path / "run.json", kind)
    with pytest.raises(CheckpointError, match=r"run\.json: "):
        open_run(tmp_path, {"seed": 0})


MALFORMED = {
    "an unknown key": {"odd": None},
    "no code": {"code": []},
    "a negative step": {"code": [{"step": -1}]},
    "a NaN": {"parameters": {"seed": float("nan")}},
    "a list for a parameter": {"parameters": {"seed": [0]}},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_record_of_another_schema_is_refused_in_one_line(tmp_path, changes):
    open_run(tmp_path, {"seed": 0})
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | changes))
    with pytest.raises(CheckpointError, match=r"run\.json: damaged \(.*\); put it") as caught:
        read_run(tmp_path)
    assert str(caught.value).isprintable()


# --- the code of a run

OLD = CodeVersion(fingerprint="a" * 16, git_commit="1111111")
NEW = CodeVersion(fingerprint="b" * 16, git_commit="2222222")


def started(runs, code, **kept):
    return open_run(find_run(runs, "stdan-small-12345678", code, **kept), PARAMETERS, code)


def test_other_code_is_another_run_and_the_old_one_stays(tmp_path):
    old, new = started(tmp_path, OLD), started(tmp_path, NEW)
    assert [old.path.name, new.path.name] == [
        "stdan-small-12345678-aaaaaaaa",
        "stdan-small-12345678-bbbbbbbb",
    ]
    assert read_run(old.path).record.code == (OLD,)
    assert started(tmp_path, OLD) == old


def test_another_commit_of_the_same_code_is_the_same_run_with_its_first_commit(tmp_path):
    begun = started(tmp_path, OLD)
    again = started(tmp_path, OLD.model_copy(update={"git_commit": "3333333"}))
    assert again == begun
    assert again.record.code[0].git_commit == "1111111"


def test_a_run_continued_with_changed_code_lists_both_with_the_step_and_is_found_again(tmp_path):
    path = started(tmp_path, OLD).path
    found = find_run(tmp_path, "stdan-small-12345678", NEW, continue_with_changed_code=True)
    assert found == path
    record = continue_run(found, NEW, 40).record
    assert record.code == (OLD, NEW.model_copy(update={"step": 40}))
    assert find_run(tmp_path, "stdan-small-12345678", NEW) == path
    assert continue_run(path, NEW, 50).record == record
    assert read_run(path).record == record


def test_the_first_code_does_not_silently_train_a_run_that_other_code_continued(tmp_path):
    continue_run(started(tmp_path, OLD).path, NEW, 40)
    with pytest.raises(TrainingError, match=r"continued with other code; .*--continue-with-chan"):
        find_run(tmp_path, "stdan-small-12345678", OLD)


def test_there_must_be_one_run_to_continue(tmp_path):
    with pytest.raises(TrainingError, match="found none; train without that option"):
        find_run(tmp_path, "stdan-small-12345678", NEW, continue_with_changed_code=True)
    started(tmp_path, OLD)
    started(tmp_path, CodeVersion(fingerprint="c" * 16))
    with pytest.raises(TrainingError, match=r"aaaaaaaa, .*cccccccc; move all but one away"):
        find_run(tmp_path, "stdan-small-12345678", NEW, continue_with_changed_code=True)


def test_code_that_never_began_leaves_the_record(tmp_path):
    path = started(tmp_path, OLD).path
    continue_run(path, NEW, 100)
    assert continue_run(path, OLD, 100).record.code == (OLD,)
    assert continue_run(path, NEW, 0).record.code == (NEW,)


def test_a_damaged_checkpoint_moves_the_code_back_to_the_step_where_it_resumes(tmp_path):
    path = started(tmp_path, OLD).path
    continue_run(path, NEW, 200)
    assert continue_run(path, NEW, 150).record.code == (OLD, NEW.model_copy(update={"step": 150}))


def test_fresh_takes_the_folder_of_the_present_code_and_leaves_a_continued_run(tmp_path):
    continue_run(started(tmp_path, OLD).path, NEW, 40)
    found = find_run(tmp_path, "stdan-small-12345678", NEW, fresh=True)
    assert found.name == "stdan-small-12345678-bbbbbbbb"
