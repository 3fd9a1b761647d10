"""`stvsr lineage` says what made a version, and whether it is in the project."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stvsr.cli import main
from stvsr.core.errors import ShardError
from stvsr.data.shards.format import Lineage
from stvsr.lineage import CACHE
from stvsr.tracking.store import open_client
from tests.support.projects import new_mlflow_store

VERSION = "models:/stdan/1"


@pytest.fixture
def project(tmp_path: Path, tiny_sets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a repository, training shards, and a version that they made."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}")
    shutil.copytree(tiny_sets / "train", tmp_path / "data" / "shards" / "train")
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "the code"],
    ):
        subprocess.run(["git", *command], check=True)
    write_version(tmp_path, commit_of(tmp_path), data_hash_of(tmp_path), put_in_cache(tmp_path))
    return tmp_path


def commit_of(project: Path) -> str:
    command = ["git", "-C", str(project), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def data_hash_of(project: Path) -> str:
    return Lineage.read(project / "data/shards/train/lineage.json", ShardError, "").data_hash


def put_in_cache(project: Path) -> str:
    """Copy the shards into DVC's cache, laid out as DVC does it; the hash of the folder."""
    listing = []
    for path in sorted((project / "data/shards/train").iterdir()):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        listing.append({"md5": md5, "relpath": path.name})
        place(project, md5).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place(project, md5))
    text = json.dumps(listing)
    folder = hashlib.md5(text.encode()).hexdigest() + ".dir"
    place(project, folder).parent.mkdir(parents=True, exist_ok=True)
    place(project, folder).write_text(text)
    return folder


def place(project: Path, md5: str) -> Path:
    return project / CACHE / md5[:2] / md5[2:]


def write_version(project: Path, commit: str, data_hash: str, data_version: str) -> None:
    (project / "mlflow.db").write_bytes(new_mlflow_store())
    client = open_client(f"sqlite:///{project}/mlflow.db")
    run = client.create_run("0", tags={"data_version": data_version})
    client.create_registered_model("stdan")
    tags = {"git_commit": commit, "data_hash": data_hash, "step": "300", "seed": "0", "run": "it"}
    client.create_model_version("stdan", "file:///nowhere", run.info.run_id, tags=tags)


def lines_of(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    printed = capsys.readouterr().out.splitlines()
    return {line.split("  ")[0]: line.partition("  ")[2].strip() for line in printed}


def test_what_made_a_version_is_printed_and_found(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lineage", VERSION]) == 0
    said = lines_of(capsys)
    assert said["training"].startswith("run it, step 300, seed 0")
    assert said["data hash"] == data_hash_of(project)
    assert said["commit"].startswith(f"{commit_of(project)}: in this repository (")
    assert said["commit"].endswith("the code)")
    assert said["data/shards/train"].startswith("the same data hash")
    count = len(list((project / "data/shards/train").iterdir()))
    assert said["DVC cache"].startswith(f"all {count} files of ")


def test_the_cache_is_enough_where_the_shards_are_others(
    project: Path, tiny_sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / "data")
    shutil.copytree(tiny_sets / "test", project / "data" / "shards" / "train")
    assert main(["lineage", VERSION]) == 0
    assert lines_of(capsys)["data/shards/train"].startswith("other data: ")
    some = next(path for path in (project / CACHE).rglob("*") if path.is_file() and not path.suffix)
    some.unlink()
    assert main(["lineage", VERSION]) == 1
    said = capsys.readouterr()
    assert "files of " in said.out
    assert "`dvc pull` may get the others" in said.out
    assert said.err.startswith(f"stvsr lineage: {VERSION}: data of stdan version 1 not found here")


def test_a_commit_that_is_not_here_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_client(f"sqlite:///{project}/mlflow.db")
    client.set_model_version_tag("stdan", "1", "git_commit", "0" * 40)
    assert main(["lineage", VERSION]) == 1
    said = capsys.readouterr()
    assert f"{'0' * 40}: NOT in this repository; `git fetch` may get it" in said.out
    assert "commit of stdan version 1 not found here" in said.err
    client.set_model_version_tag("stdan", "1", "git_commit", "--output=written")
    assert main(["lineage", VERSION]) == 0
    assert "--output=written: no commit" in capsys.readouterr().out
    assert not list(project.glob("written*"))


def test_without_repository_and_data_the_record_is_printed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".git", ".dvc", "data"):
        shutil.rmtree(project / name)
    assert main(["lineage", VERSION]) == 0
    said = lines_of(capsys)
    assert said["commit"].endswith("not looked for: no git repository is here")
    assert said["DVC cache"] == "not looked for: no DVC cache is here"
    assert main(["lineage", "models:/stdan@nobody"]) == 1
    assert "stdan @nobody: no such version; versions of stdan: 1" in capsys.readouterr().err
    assert main(["lineage", "stdan"]) == 1
    assert "allowed: models:/NAME@ALIAS or models:/NAME/NUMBER" in capsys.readouterr().err
