"""The command line: one line for what a user can act on, and never a half-written result."""

import subprocess
import sys
from pathlib import Path

import pytest

from stvsr.cli import main

LIMITED = """
import resource, signal, sys
from stvsr.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
sys.exit(main(sys.argv[1:]))
"""


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("source: {train_clips: 2, test_clips: 1}")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["shard", "train"],
        ["train"],
        ["evaluate"],
        ["score", "model"],
        ["table"],
        ["report"],
        ["register"],
        ["tune"],
        ["summary"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_verb_without_what_it_reads_says_so_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 1
    assert only_line(capsys).startswith(f"stvsr {arguments[0]}: ")
    written = {path.name for path in project.rglob("*") if not path.name.endswith(".lock")}
    assert written <= {"params.yaml", "data", "shards", "scores"}


def test_a_missing_params_file_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").unlink()
    assert main(["index"]) == 1
    assert "params.yaml: no such file" in only_line(capsys)


def test_a_missing_source_path_is_one_line_with_the_key(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("source: {kind: videos, path: nowhere}")
    assert main(["source"]) == 1
    assert "source.path: nowhere does not exist" in only_line(capsys)


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(project: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, "source"], cwd=project, capture_output=True, text=True
    )
    refusals = [line for line in run.stderr.splitlines() if line.startswith("stvsr source: ")]
    assert run.returncode == 1
    assert len(refusals) == 1
    assert "Traceback" not in run.stderr
    assert not (project / "data").exists()


def test_an_unknown_verb_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as misuse:
        main(["trian"])
    assert misuse.value.code == 2
    assert "'train'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "mlflow", "av", "cv2", "numpy", "pydantic"}
    program = (
        "import sys; from stvsr.cli import main; main(['--help']); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_one_parameter_is_explained_with_its_value_here(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("train: {steps: 7}")
    assert main(["params", "--explain", "train.steps"]) == 0
    out = capsys.readouterr().out
    assert "Optimizer steps of the whole run." in out
    assert "integer, >= 1" in out
    assert "here     7" in out


def test_a_parameter_that_is_not_there_is_refused_with_the_nearest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["params", "--explain", "train.step"]) == 1
    assert "train.step: no such key; nearest: train.steps" in only_line(capsys)


MISSING: dict[str, dict[tuple[str, ...], str]] = {
    "av": {
        ("upscale", "in.mp4", "out.mp4"): "data",
        ("score", "--set", "in.mp4", "bicubic"): "data",
        ("source", "--params", "videos.yaml"): "data",
    },
    "ray": {("train",): "train"},
    "mlflow": {("registry", "list"): "track"},
}
"""The extra that each command needs of a package, by package."""


@pytest.mark.parametrize("package", MISSING)
def test_a_package_that_is_not_installed_is_one_line_with_its_extra(
    project: Path, package: str
) -> None:
    (project / "in.mp4").touch()
    (project / "videos").mkdir()
    (project / "videos.yaml").write_text("source: {kind: videos, path: videos}")
    commands = [list(command) for command in MISSING[package]]
    program = (
        f"import sys; sys.modules[{package!r}] = None; from stvsr.cli import main; "
        f"print([main(command) for command in {commands}])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True
    )
    assert run.stdout == f"{[1] * len(commands)}\n"
    assert run.stderr.splitlines() == [
        f"stvsr {command[0]}: {package} is not installed; it is in the extra `{extra}`; "
        f"pip install 'stvsr[{extra}]'"
        for command, extra in MISSING[package].items()
    ]
    assert not (project / "data").exists()


def test_a_refused_score_leaves_no_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--set", "nowhere", "stvsr/small"]) == 1
    assert "nowhere" in only_line(capsys)
    assert not (project / "scores").exists()
