"""A version becomes champion only where it is better, and the decision is on record."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stvsr.cli import main
from stvsr.core.errors import BusyError, ParamsError
from stvsr.data.loading.loader import eval_clips
from stvsr.data.shards.read import ShardSet
from stvsr.evaluation.comparison import SetComparison
from stvsr.evaluation.config import EvaluateConfig
from stvsr.evaluation.evaluate import evaluate
from stvsr.models.stdan.model import Stdan
from stvsr.promotion import Decision, decisions, open_registered
from stvsr.tracking.config import NO_PROMOTION, RegisterConfig, TrackingConfig
from stvsr.tracking.registration import read_registration
from stvsr.tracking.registry import register
from stvsr.tracking.versions import RegisteredModel
from tests.support.models import fit_last_layer, write_share
from tests.support.projects import new_mlflow_store
from tests.support.sets import write_set

SHARES = {"worse": -0.5, "good": 0.2, "better": 0.5}
"""Parts of a fitted network's gain over bicubic+linear: the first loses to it."""

WORSE, GOOD, BETTER = "1", "2", "3"
"""Numbers of their versions."""


@pytest.fixture(scope="module")
def fitted(tiny_sets: Path) -> Stdan:
    return fit_last_layer(eval_clips(ShardSet.open(tiny_sets / "test")))


@pytest.fixture(scope="module")
def networks(fitted: Stdan, tiny_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders NAME/model and NAME/evaluation of networks whose order is known."""
    folder = tmp_path_factory.mktemp("networks")
    config = EvaluateConfig(strip_size=32)
    for name, share in SHARES.items():
        write_share(folder / name / "model", fitted, share)
        evaluate(folder / name / "model", tiny_sets / "test", folder / name / "evaluation", config)
    return folder


@pytest.fixture(scope="module")
def store(networks: Path) -> bytes:
    """A store with a version of each network, about which nothing was decided.

    Its files are where they are: a copy of the database has the same versions.
    """
    (networks / "mlflow.db").write_bytes(new_mlflow_store())
    for name in SHARES:
        folder = networks / name
        tracking = TrackingConfig(uri=f"sqlite:///{networks}/mlflow.db")
        register(
            folder / "model", folder / "evaluation", RegisterConfig(), tracking, folder / "out"
        )
    return (networks / "mlflow.db").read_bytes()


@pytest.fixture
def project(tmp_path: Path, tiny_sets: Path, store: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with shards, in which the commands run; no version is champion."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", NO_PROMOTION):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shards").symlink_to(tiny_sets)
    (tmp_path / "params.yaml").write_text("evaluate: {strip_size: 32}\n")
    (tmp_path / "mlflow.db").write_bytes(store)
    return tmp_path


def register_command(networks: Path, name: str) -> list[str]:
    folder = networks / name
    return [
        *("register", "--model", str(folder / "model")),
        *("--evaluation", str(folder / "evaluation"), "--out", f"registration-{name}"),
    ]


def put(networks: Path, name: str) -> str:
    """Register a network; the alias that version.json says."""
    assert main(register_command(networks, name)) == 0
    return read_registration(Path(f"registration-{name}")).alias


def stdan() -> RegisteredModel:
    return open_registered(TrackingConfig(), "stdan", Path())


def champion() -> str | None:
    return stdan().find("champion")


def decisions_of(number: str) -> list[Decision]:
    return decisions(stdan().version(number))


def test_the_first_network_that_beats_the_baseline_is_champion(
    project: Path, networks: Path
) -> None:
    assert put(networks, "good") == "champion"
    registered = read_registration(Path("registration-good"))
    assert registered.uri == "models:/stdan@champion"
    assert registered.decision.startswith("better than bicubic+linear: test: ")
    names: dict[str, object] = {}
    exec(registered.load_line, names)
    assert names["model"]


def test_a_first_network_that_loses_to_the_baseline_stays_challenger(
    project: Path, networks: Path
) -> None:
    assert put(networks, "worse") == "challenger"
    assert champion() is None
    registered = read_registration(Path("registration-worse"))
    assert registered.uri == "models:/stdan@challenger"
    assert registered.decision.startswith("not better than bicubic+linear: test: ")
    exec(registered.load_line, {})


def test_a_worse_network_never_becomes_champion_and_a_better_one_does(
    project: Path, networks: Path
) -> None:
    assert put(networks, "good") == "champion"
    assert put(networks, "worse") == "challenger"
    assert champion() == GOOD
    assert put(networks, "better") == "champion"
    assert champion() == BETTER
    assert put(networks, "good") == "challenger"
    assert champion() == BETTER


def test_the_decision_and_its_numbers_are_recorded_on_both_versions(
    project: Path, networks: Path
) -> None:
    put(networks, "good")
    put(networks, "better")
    (first, second), (only,) = decisions_of(GOOD), decisions_of(BETTER)
    assert second == only
    assert (first.before, first.after, first.action) == (None, GOOD, "promoted")
    assert (only.before, only.after, only.action) == (GOOD, BETTER, "promoted")
    (compared,) = only.sets
    scored = {
        name: json.loads((networks / name / "evaluation" / "metrics.json").read_text())["psnr_y"]
        for name in ("good", "better")
    }
    assert (compared.set, compared.clips, compared.degradation) == ("test", 3, "bicubic")
    assert compared.network == pytest.approx(scored["better"], abs=1e-9)
    assert compared.rival == pytest.approx(scored["good"], abs=1e-9)
    assert compared.difference == pytest.approx(scored["better"] - scored["good"], abs=1e-9)


def test_a_margin_that_is_not_reached_keeps_the_champion(project: Path, networks: Path) -> None:
    put(networks, "good")
    (project / "params.yaml").write_text("register: {margin: 0.5}\n")
    assert put(networks, "better") == "challenger"
    assert f"not better than version {GOOD} by more than 0.5 dB" in decisions_of(BETTER)[-1].reason


def test_every_set_has_to_be_won(project: Path, networks: Path) -> None:
    put(networks, "good")
    write_set(project / "other", {"one": 7})  # one clip gives no interval
    (project / "params.yaml").write_text("register: {sets: [test, other]}\n")
    assert put(networks, "better") == "challenger"
    decision = decisions_of(BETTER)[-1]
    assert [each.set for each in decision.sets] == ["test", "other"]
    assert decision.sets[0].is_better(0)
    assert not decision.sets[1].is_better(0)
    assert "test:" not in decision.reason
    assert "too few clips for an interval" in decision.reason


@pytest.mark.parametrize(
    ("low", "margin", "expected"),
    [(0.01, 0.0, True), (0.0, 0.0, False), (0.2, 0.2, False), (0.3, 0.2, True), (None, 0.0, False)],
)
def test_better_means_that_the_whole_interval_is_above_the_margin(
    low: float | None, margin: float, expected: bool
) -> None:
    compared = SetComparison(
        set="test", protocol="all frames", degradation="bicubic", clips=3, network=30.0, rival=29.0,
        difference=1.0, low=low, high=2.0,
    )  # fmt: skip
    assert compared.is_better(margin) is expected


@pytest.mark.parametrize("variable", ["DVC_EXP_NAME", NO_PROMOTION])
def test_experiments_and_runs_with_parameters_never_move_the_champion(
    project: Path, networks: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "lousy-lamb")
    assert put(networks, "good") == "challenger"
    assert champion() is None
    reason = decisions_of(GOOD)[-1].reason
    assert "lousy-lamb" in reason
    assert "better than bicubic+linear" in reason
    assert main(["registry", "promote", "stdan", "@challenger"]) == 0
    assert champion() == GOOD


def test_a_version_is_promoted_by_hand_if_it_is_better_or_by_force(
    project: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(networks, "good")
    assert main(["registry", "promote", "stdan", WORSE]) == 1
    refused = capsys.readouterr().err.splitlines()[-1]
    assert refused.startswith(f"stvsr registry: stdan version {WORSE} is not champion: not better")
    assert refused.endswith("--force promotes it without a comparison")
    assert champion() == GOOD
    assert main(["registry", "promote", "stdan", WORSE, "--force"]) == 0
    assert champion() == WORSE
    assert [decision.action for decision in decisions_of(WORSE)] == ["kept", "forced"]
    assert decisions_of(GOOD)[-1].action == "forced"


def test_a_rollback_is_recorded_and_not_undone_by_the_next_registration(
    project: Path, networks: Path
) -> None:
    put(networks, "good")
    put(networks, "better")
    assert main(["registry", "rollback", "stdan"]) == 0
    assert champion() == GOOD
    assert [d.action for d in decisions_of(BETTER)] == ["promoted", "rolled back"]
    assert decisions_of(GOOD)[-1].action == "rolled back"
    assert put(networks, "better") == "challenger"
    assert champion() == GOOD
    assert decisions_of(BETTER)[-1].reason.startswith("rolled back at ")
    assert main(["registry", "promote", "stdan", BETTER]) == 0
    assert champion() == BETTER


def test_a_rollback_that_has_nowhere_to_go_is_refused(
    project: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["registry", "rollback", "stdan"]) == 1
    assert "no version is champion" in capsys.readouterr().err
    force = ("registry", "promote", "--force", "stdan")
    assert main([*force, GOOD]) == 0
    assert main(["registry", "rollback", "stdan"]) == 1
    assert f"version {GOOD} is the first champion that is recorded" in capsys.readouterr().err
    assert main([*force, BETTER]) == 0
    stdan().client.delete_model_version("stdan", GOOD)
    assert main(["registry", "rollback", "stdan"]) == 1
    assert f"version {GOOD}, champion before version {BETTER}" in capsys.readouterr().err
    assert champion() == BETTER


def test_versions_are_listed_and_shown(
    project: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(networks, "good")
    put(networks, "worse")
    capsys.readouterr()
    assert main(["registry", "list"]) == 0
    table = capsys.readouterr().out
    rows = [line.split() for line in table.splitlines() if " stdan " in line]
    assert [row[3] for row in rows] == [BETTER, GOOD, WORSE]
    assert [row[5] for row in rows] == ["-", "champion", "challenger"]
    assert "~lock" not in table
    assert main(["registry", "show", "stdan", "@champion"]) == 0
    shown = capsys.readouterr().out
    assert f"models:/stdan@champion, models:/stdan/{GOOD}" in shown
    assert f"version {GOOD} promoted: better than bicubic+linear" in shown
    assert f"version {WORSE} kept: not better than version {GOOD}" in shown


def test_a_name_that_is_not_there_is_refused_with_the_nearest(
    project: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["registry", "promote", "--force", "stdan", GOOD]) == 0
    capsys.readouterr()
    for arguments, text in (
        (["show", "stdna", "1"], "stdna: no such registered model; did you mean stdan?"),
        (["show", "stdan", "@champoin"], "did you mean @champion? versions of stdan: 1, 2, 3;"),
        (["promote", "stdan", "7"], "stdan 7: no such version; versions of stdan: 1, 2, 3;"),
        (["promote", "stdan", "@a b"], "stdan @a b: no such version;"),
    ):
        assert main(["registry", *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    (project / "params.yaml").write_text("register: {alias: a b}\n")
    assert main(["registry", "list"]) == 1
    assert "register.alias: found 'a b'; allowed: a letter, then" in capsys.readouterr().err
    (project / "params.yaml").unlink()
    (project / "params.yaml").write_text("{}")
    (project / "mlflow.db").write_bytes(new_mlflow_store())
    assert main(["registry", "list"]) == 1
    assert "no model is registered here yet" in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "mlflow.db").unlink()
    assert main(["registry", "list"]) == 1
    assert "mlflow.db: no such file; run this in the project's folder" in capsys.readouterr().err
    assert not (project / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["registry", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "start the server, or point MLFLOW_TRACKING_URI" in line


def test_an_alias_that_was_moved_meanwhile_is_not_moved(project: Path, networks: Path) -> None:
    assert main(["registry", "promote", "--force", "stdan", GOOD]) == 0
    assert not stdan().move("champion", None, WORSE, "{}", [WORSE])
    assert champion() == GOOD
    assert decisions_of(WORSE) == []


def test_who_lost_the_lock_to_another_changes_nothing(project: Path) -> None:
    client, lock = stdan().client, "stdan~lock"
    with stdan().only_change() as refuse_if_lost:
        client.delete_registered_model(lock)
        client.create_registered_model(lock, {"token": "of another command"})
        with pytest.raises(BusyError, match="another command has taken over the lock"):
            refuse_if_lost()
    assert client.get_registered_model(lock).tags["token"] == "of another command"


def test_a_lock_that_a_killed_process_left_is_taken_over(
    project: Path, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stvsr.tracking.versions.STALE_SECONDS", 0.2)
    stdan().client.create_registered_model("stdan~lock", {"owner": "process 1 of elsewhere"})
    assert stdan().move("champion", None, GOOD, "{}", [])
    assert champion() == GOOD
    with pytest.raises(ParamsError):
        RegisteredModel(stdan().client, "stdan~lock").versions()


def at_once(project: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """Run `stvsr` commands at the same time; their exit codes and what they said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "stvsr.cli", *command],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    return [(process.wait(), process.communicate()[0]) for process in started]


@pytest.mark.slow
def test_two_promotions_at_once_end_with_the_better_version(
    project: Path,
) -> None:
    ends = at_once(project, *(["registry", "promote", "stdan", n] for n in (GOOD, BETTER)))
    assert champion() == BETTER, ends
    assert ends[1][0] == 0, ends
    moves = {d.time + d.version: d for n in (GOOD, BETTER) for d in decisions_of(n)}.values()
    taken = [d.before for d in moves if d.action == "promoted"]
    assert len(taken) == len(set(taken))  # no two of them replaced the same champion


@pytest.mark.slow
def test_two_registrations_of_the_same_weights_at_once_make_one_version(
    project: Path, networks: Path
) -> None:
    (project / "mlflow.db").write_bytes(new_mlflow_store())
    shutil.copytree(networks / "good", project / "copies" / "again")
    commands = register_command(networks, "good"), register_command(project / "copies", "again")
    ends = at_once(project, *commands)
    assert [code for code, _ in ends] == [0, 0], ends
    assert [version.number for version in stdan().versions()] == ["1"]
    assert champion() == "1"


def test_a_champion_whose_files_are_gone_is_named_and_stays(
    project: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = stdan().client
    gone = (project / "gone").as_uri()
    client.create_model_version("stdan", gone, client.get_model_version("stdan", GOOD).run_id)
    client.set_registered_model_alias("stdan", "champion", "4")
    assert main(register_command(networks, "better")) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"models:/stdan/4: its files are not at {gone}; put them back there" in last
    assert champion() == "4"


def test_the_rule_is_in_the_parameters() -> None:
    assert RegisterConfig() == RegisterConfig(sets=("test",), margin=0.0, protocol="stvsr")
    for wrong in ({"sets": ()}, {"sets": ("a", "a")}, {"margin": -0.1}, {"alias": "challenger"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RegisterConfig(**wrong)
