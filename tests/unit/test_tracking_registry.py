"""Versions under an alias: registered once, loaded without running anything of theirs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

import stvsr
from stvsr.artifact import load_artifact, save_artifact
from stvsr.cli import main
from stvsr.core.errors import (
    CheckpointError,
    ParamsError,
    ServiceError,
    SourceError,
)
from stvsr.evaluation.set_scores import read_set_scores
from stvsr.tracking.config import RegisterConfig, TrackingConfig
from stvsr.tracking.load import load_version
from stvsr.tracking.mlflow_tracker import MlflowTracker, tag_weights
from stvsr.tracking.registration import Registration, read_registration
from stvsr.tracking.registry import register
from stvsr.tracking.store import open_client, open_experiment, resolve_uri
from tests.support.models import write_tiny_artifact, write_tiny_evaluation
from tests.support.projects import new_mlflow_store
from tests.support.sets import write_set


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with two trained networks; its store is shared."""
    folder = tmp_path_factory.mktemp("project")
    for seed in (1, 2):
        write_tiny_artifact(folder / f"model{seed}", seed)
    return folder


def put(folder: Path, model: str, name: str, **more) -> Registration:
    project = more.get("project", folder)
    evaluation = more.get("evaluation") or evaluation_of(folder / model)
    return register(
        folder / model,
        evaluation,
        RegisterConfig(name=name),
        TrackingConfig(uri=more.get("uri")),
        project / "registration",
        project=project,
    )


def evaluation_of(model: Path) -> Path:
    return write_tiny_evaluation(model.with_name(f"{model.name}-evaluation"), model)


def challenger(project: Path, name: str) -> str:
    client = open_client(resolve_uri(None, project))
    return str(client.get_model_version_by_alias(name, "challenger").version)


def versions(project: Path, name: str) -> list[str]:
    client = open_client(resolve_uri(None, project))
    return sorted(str(found.version) for found in client.search_model_versions(f"name='{name}'"))


def test_a_registered_network_is_loaded_by_its_alias(project: Path) -> None:
    registered = put(project, "model1", "loaded")
    assert registered == read_registration(project / "registration")
    assert (registered.version, registered.uri) == ("1", "models:/loaded@challenger")

    lr_clip = torch.rand(1, 2, 3, 9, 10)
    expected, _ = load_artifact(project / "model1")
    for uri in ("models:/loaded@challenger", "models:/loaded/1"):
        model = load_version(uri, project=project)
        assert not model.training
        with torch.inference_mode():
            assert torch.equal(model(lr_clip), expected(lr_clip))


def test_a_registered_network_is_scored_by_its_alias(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, "model1", "scored")
    clips = write_set(tmp_path / "set", {"clip": 7})
    monkeypatch.chdir(project)
    arguments = ["score", "models:/scored@challenger", "--set", str(clips), "--protocol", "stvsr"]
    assert main(arguments) == 0
    scores = read_set_scores(project / "scores" / "scored@challenger_set_stvsr")
    assert scores.model is not None
    assert scores.model.weights_sha256 == load_artifact(project / "model1")[1].weights_sha256

    client = open_client(resolve_uri(None, project))
    version = client.get_model_version_by_alias("scored", "challenger")
    recorded = json.loads(version.tags["score-folder-set_stvsr"])
    part = scores.groups["all"].parts["all"]
    assert recorded["psnr_y"] == part.network["psnr_y"].mean
    assert recorded["gain_psnr_y"] == part.gain["psnr_y"].mean
    assert {"psnr_y_input", "ssim_rgb_interpolated"} < recorded.keys()
    run_id, key = str(version.run_id), "scores/folder-set_stvsr/psnr_y"
    assert client.get_run(run_id).data.metrics[key] == recorded["psnr_y"]
    assert main(arguments) == 0
    assert len(client.get_metric_history(run_id, key)) == 1
    artifacts = client.list_artifacts(run_id, "scores/folder-set_stvsr")
    assert {Path(file.path).name for file in artifacts} == {
        *("scores.json", "clips.csv", "frames.csv", "pictures"),
    }


def test_the_load_line_loads(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = put(project, "model1", "by-line")
    monkeypatch.chdir(project)
    names: dict[str, torch.nn.Module] = {}
    exec(registered.load_line, names)
    assert names["model"](torch.rand(1, 2, 3, 8, 8)).shape == (1, 3, 3, 32, 32)


def test_version_json_names_no_path_of_this_machine(project: Path) -> None:
    put(project, "model1", "no-path")
    text = (project / "registration" / "version.json").read_text()
    assert str(project) not in text
    assert json.loads(text)["tracking_uri"] is None


def test_a_store_that_was_chosen_stands_in_the_load_line(project: Path, tmp_path: Path) -> None:
    registered = put(project, "model1", "chosen", uri=f"sqlite:///{tmp_path}/m.db")
    assert registered.tracking_uri == f"sqlite:///{tmp_path}/m.db"
    assert f'"{registered.tracking_uri}")' in registered.load_line


def test_the_same_weights_are_not_registered_twice(project: Path) -> None:
    first, second = (put(project, "model1", "twice") for _ in range(2))
    assert first == second
    assert versions(project, "twice") == ["1"]


def test_the_challenger_is_the_newest_registration(project: Path) -> None:
    put(project, "model1", "newest")
    assert put(project, "model2", "newest").version == "2"
    assert challenger(project, "newest") == "2"
    put(project, "model1", "newest")
    assert challenger(project, "newest") == "1"
    assert versions(project, "newest") == ["1", "2"]


def tags_of(project: Path, name: str) -> dict[str, str]:
    found = open_client(resolve_uri(None, project)).get_model_version(name, "1").tags
    return {str(key): str(value) for key, value in found.items()}


def test_a_version_says_what_it_is(project: Path) -> None:
    put(project, "model1", "tagged")
    expected = {
        "psnr_y": "30.5",
        "clips": "3",
        "protocol": "all frames",
        "degradation": "bicubic",
        "data_hash": "ab" * 32,
        "git_commit": "1234567",
    }
    tags = tags_of(project, "tagged")
    assert expected.items() <= tags.items()
    assert "gain_psnr_y" not in tags


def test_a_version_has_a_model_card_and_its_run_a_user_a_source_and_its_data(
    project: Path,
) -> None:
    registered = put(project, "model1", "card")
    client = open_client(resolve_uri(None, project))
    text = str(client.get_model_version("card", "1").description)
    assert "| PSNR-Y, all frames | 30.50 dB |" in text
    assert f"data hash `{'ab' * 32}`" in text
    assert "Trained 300 of 300 steps with seed 1" in text
    run = client.get_run(registered.run_id)
    assert run.data.tags["mlflow.user"]
    assert run.data.tags["mlflow.source.git.commit"] == "1234567"
    assert run.inputs is not None
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.source)["data_hash"] == "ab" * 32


def test_scores_of_another_evaluation_are_recorded_beside_the_first(
    project: Path, tmp_path: Path
) -> None:
    registered = put(project, "model1", "beside")
    first = tags_of(project, "beside")
    evaluation = write_tiny_evaluation(tmp_path / "evaluation", project / "model1", psnr_y=31.5)
    for _ in range(2):
        put(project, "model1", "beside", evaluation=evaluation)
    now = tags_of(project, "beside")
    assert first.items() <= now.items()
    (added,) = now.keys() - first.keys()
    assert json.loads(now[added])["psnr_y"] == 31.5
    metrics = open_client(resolve_uri(None, project)).get_run(registered.run_id).data.metrics
    assert metrics["test/psnr_y"] == 30.5
    assert metrics[f"test-{added.removeprefix('evaluation-')}/psnr_y"] == 31.5


def test_other_facts_of_registered_weights_are_recorded_beside_the_first(
    project: Path, tmp_path: Path
) -> None:
    put(project, "model1", "facts")
    before = tags_of(project, "facts")
    copied = tmp_path / "model"
    shutil.copytree(project / "model1", copied)
    text = (copied / "model.json").read_text()
    (copied / "model.json").write_text(text.replace("1234567", "7654321"))
    for _ in range(2):
        put(tmp_path, "model", "facts", project=project)
    now = tags_of(project, "facts")
    assert before.items() <= now.items()
    (added,) = now.keys() - before.keys()
    assert json.loads(now[added]) == {"git_commit": "7654321"}
    assert versions(project, "facts") == ["1"]


def test_the_files_of_a_version_are_not_overwritten_by_another_of_the_same_weights(
    project: Path, tmp_path: Path
) -> None:
    first = put(project, "model1", "files-one")
    copied = tmp_path / "model"
    shutil.copytree(project / "model1", copied)
    text = (copied / "model.json").read_text()
    (copied / "model.json").write_text(text.replace("1234567", "7654321"))
    second = put(tmp_path, "model", "files-two", project=project)
    assert first.run_id == second.run_id
    client = open_client(resolve_uri(None, project))
    commits = [
        json.loads(
            Path(
                client.get_model_version_download_uri(name, "1").removeprefix("file://"),
                "artifacts/model/model.json",
            ).read_text()
        )["git_commit"]
        for name in ("files-one", "files-two")
    ]
    assert commits == ["1234567", "7654321"]


def test_scores_of_other_weights_are_refused(project: Path, tmp_path: Path) -> None:
    evaluation = write_tiny_evaluation(tmp_path / "evaluation", project / "model2")
    with pytest.raises(SourceError, match=r"scores the weights .*stvsr evaluate.*on this model"):
        put(project, "model1", "others", evaluation=evaluation)
    (evaluation / "scores.json").write_text("{}")
    with pytest.raises(SourceError, match=r"scores\.json: names no weights"):
        put(project, "model1", "others", evaluation=evaluation)
    (evaluation / "scores.json").unlink()
    with pytest.raises(SourceError, match=r"scores\.json: no such file; run `stvsr evaluate`"):
        put(project, "model1", "others", evaluation=evaluation)
    assert versions(project, "others") == []


def test_a_version_hangs_on_the_run_that_trained_it(project: Path, tmp_path: Path) -> None:
    card = write_tiny_artifact(project / "model3", seed=3)
    uri = resolve_uri(None, project)
    tracker = MlflowTracker(uri, "stvsr", "trained", tmp_path, tags={})
    tag_weights(uri, tmp_path, card.weights_sha256)
    assert put(project, "model3", "with-run").run_id == tracker.run_id
    run = open_client(uri).get_run(tracker.run_id)
    assert run.data.metrics["test/psnr_y"] == 30.5


@pytest.mark.parametrize("call", ["log_artifacts", "create_model_version", "set_model_version_tag"])
def test_a_registration_that_dies_leaves_the_challenger_where_it_was(
    project: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"dies-in-{call}"
    put(project, "model1", name)
    before = (project / "registration" / "version.json").read_bytes()

    def die(*args: object, **more: object) -> None:
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, call, die)
        with pytest.raises(ServiceError, match="the server is gone"):
            put(project, "model2", name)
    assert challenger(project, name) == "1"
    assert (project / "registration" / "version.json").read_bytes() == before

    put(project, "model2", name)
    assert challenger(project, name) == "2"
    assert versions(project, name) == ["1", "2"]


def test_nothing_in_a_version_is_pickled(project: Path) -> None:
    registered = put(project, "model1", "no-pickle")
    client = open_client(resolve_uri(None, project))
    source = client.get_model_version_download_uri("no-pickle", registered.version)
    files = [path for path in Path(source.removeprefix("file://")).rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds <= {".py", ".j2", ".md", ".json", ".yaml", ".txt", ".safetensors", ""}
    assert {path.name for path in files if path.suffix == ""} == {"MLmodel"}
    assert {path.name for path in files} >= {"weights.safetensors", "model.json"}


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("models:/known@chalenger", r"did you mean @challenger\? versions of known: 1"),
        ("models:/knowm@challenger", r"did you mean known\? registered models: .*known"),
        ("models:/known@a b", r"versions of known: 1; aliases: challenger -> 1"),
        ("models:/known@nobody", r"versions of known: 1; aliases: challenger -> 1"),
        ("models:/known/9", r"versions of known: 1; aliases: challenger -> 1"),
        ("models:/unknown@challenger", r"registered models: .*known"),
        ("runs:/known", r"allowed: models:/NAME@ALIAS or models:/NAME/NUMBER"),
    ],
)
def test_a_version_that_is_not_there_is_refused_with_what_is(
    project: Path, uri: str, text: str
) -> None:
    put(project, "model1", "known")
    with pytest.raises(ParamsError, match=text):
        load_version(uri, project=project)


def test_an_empty_registry_says_how_to_fill_it(tmp_path: Path) -> None:
    open_experiment(open_client(resolve_uri(None, tmp_path)), "stvsr")
    with pytest.raises(ParamsError, match=r"no model is registered there.*stvsr register"):
        load_version("models:/stdan@challenger", project=tmp_path)


def test_loading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"mlflow\.db: no such file; run this in the project"):
        load_version("models:/stdan@challenger", project=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_artifact_is_not_registered(project: Path, tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged"):
        put(project, str(tmp_path / "model"), "damaged")
    assert versions(project, "damaged") == []


def test_weights_that_are_not_finite_are_not_registered(project: Path, tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "model")
    network, card = load_artifact(tmp_path / "model")
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = torch.nan
    save_artifact(tmp_path / "model", network, card)
    with pytest.raises(CheckpointError, match=r"tensor \S+: 1 of its \d+ values are NaN"):
        put(project, str(tmp_path / "model"), "not-finite")
    assert versions(project, "not-finite") == []


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        '{"psnr_y": "high"}',
        "{",
        '{"psnr_y": NaN}',
        '{"psnr_y": 1e999}',
        '\ufeff{"psnr_y": 1}',
        "[" * 100_000,
    ],
    ids=["a list", "text", "cut", "NaN", "infinite", "a BOM", "nesting"],
)
def test_an_evaluation_that_is_none_is_not_registered(
    project: Path, tmp_path: Path, text: str
) -> None:
    with pytest.raises(SourceError, match=r"metrics\.json: no such file; run `stvsr evaluate`"):
        put(project, "model1", "unscored", evaluation=tmp_path)
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(SourceError, match=r"metrics\.json: damaged \("):
        put(project, "model1", "unscored", evaluation=tmp_path)


def test_a_registration_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"version\.json: no such file; run `stvsr register`"):
        read_registration(tmp_path)
    (tmp_path / "version.json").write_text("{}")
    with pytest.raises(SourceError, match=r"version\.json: damaged \("):
        read_registration(tmp_path)
    registration = Registration(
        name="stdan",
        version="1",
        alias="champion",
        uri="models:/stdan@champion",
        load_line='import stvsr; model = stvsr.load("models:/stdan@champion")',
        tracking_uri=None,
        run_id="a",
        weights_sha256="b",
    )
    for fault, changes in {
        "load_line: found control characters": {"load_line": "\x1b[2J"},
        "load_line is not of this name": {"load_line": "import os"},
        "uri is not of this name": {"alias": "other"},
    }.items():
        text = registration.model_copy(update=changes).model_dump_json()
        (tmp_path / "version.json").write_text(text)
        with pytest.raises(SourceError, match=rf"version\.json: damaged \({fault}"):
            read_registration(tmp_path)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def remove_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def cut_card(folder: Path) -> None:
    (folder / "model.json").write_text('{"format": 2')


def swap_network(folder: Path) -> None:
    write_tiny_artifact(folder, seed=9)  # its card has the checksum of its weights


@pytest.mark.parametrize(
    ("tamper", "text"),
    [
        (flip_a_bit, "/model/weights.safetensors: damaged: its "),
        (remove_weights, "/model/weights.safetensors: cannot be read"),
        (cut_card, "/model/model.json: missing, damaged, or of another version of stvsr; put it"),
        (swap_network, "/model: other weights than were registered: found "),
    ],
)
def test_files_that_were_tampered_with_are_one_line(
    project: Path,
    tmp_path: Path,
    tamper: Callable[[Path], None],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = tamper.__name__
    registered = put(project, "model1", name)
    run = open_client(resolve_uri(None, project)).get_model_version(name, registered.version)
    tamper(Path(str(run.source).removeprefix("file://"), "artifacts", "model"))
    monkeypatch.chdir(project)
    uri = f"models:/{name}@challenger"
    with pytest.raises(CheckpointError) as refusal:
        stvsr.load(uri)
    assert refusal.value.text.startswith(f"{uri}: file:///")
    assert text in str(refusal.value)
    clips = write_set(tmp_path / "set", {"clip": 7})
    capsys.readouterr()
    for command in (
        ["score", uri, "--set", str(clips), "--protocol", "stvsr"],
        ["upscale", str(next(clips.rglob("*.png")).parent), str(tmp_path / "out"), "--model", uri],
    ):
        assert main(command) == 1
        (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("stvsr ")]
        assert text in line
    assert not (tmp_path / "out").exists()


def test_an_address_of_another_kind_is_refused_with_what_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"model: found 'htp://nowhere'; allowed: models:/NAME@"):
        stvsr.load("htp://nowhere")
    store = (
        r"found 'htp://nowhere', which is not an MLflow store; allowed: sqlite:///FILE, http://HOST"
    )
    with pytest.raises(ParamsError, match=store):
        stvsr.load("models:/stdan@champion", "htp://nowhere")
    for address in ("http://", "http://[", "https://:80"):
        with pytest.raises(ParamsError, match=r"found 'https?:.*', which is not an MLflow store"):
            stvsr.load("models:/stdan@champion", address)
    with pytest.raises(ParamsError, match=r"found 'models:/stdan'; allowed: models:/NAME@"):
        stvsr.load("models:/stdan")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://nowhere")
    (tmp_path / "params.yaml").write_text("{}")
    for command in (
        ["registry", "list"],
        ["score", "models:/stdan@champion", "--set", str(write_set(tmp_path / "set", {"one": 7}))],
        ["lineage", "models:/stdan@champion"],
        ["gc", "--dry-run"],
    ):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            "found 'htp://nowhere', which is not an MLflow store; allowed: sqlite:///FILE" in line
        )


def test_a_moved_project_loads_and_registers_its_versions(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after ü"
    write_tiny_artifact(before / "model")
    (before / "mlflow.db").write_bytes(new_mlflow_store())
    put(before, "model", "moved")
    before.rename(after)
    expected, _ = load_artifact(after / "model")
    lr_clip = torch.rand(1, 2, 3, 8, 8)
    loaded = load_version("models:/moved@challenger", project=after)
    with torch.inference_mode():
        assert torch.equal(loaded(lr_clip), expected(lr_clip))
    assert put(after, "model", "moved").version == "1"
    client = open_client(resolve_uri(None, after))
    experiment = client.get_experiment_by_name("stvsr")
    assert experiment is not None
    assert experiment.artifact_location == (after / "mlartifacts" / "stvsr").as_uri()
    assert not before.exists()


def test_weights_whose_files_are_gone_are_registered_anew(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "model")
    (tmp_path / "mlflow.db").write_bytes(new_mlflow_store())
    put(tmp_path, "model", "lost")
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(ServiceError, match=r"models:/lost/1: its files are not at .*put them back"):
        load_version("models:/lost/1", project=tmp_path)
    assert put(tmp_path, "model", "lost").version == "2"
    load_version("models:/lost@challenger", project=tmp_path)
    assert versions(tmp_path, "lost") == ["1", "2"]
