import json
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from stvsr.core.errors import ServiceError
from stvsr.launch.package import package
from stvsr.launch.settings import Settings, apply_file, own_settings
from stvsr.launch.submit import _Log, find_dashboard, takes_jobs
from stvsr.params import Params, load_params
from stvsr.training.config import TrainConfig
from tests.support.models import write_tiny_artifact


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_dead_address_is_one_line(address):
    with pytest.raises(ServiceError, match="Connection refused") as refusal:
        find_dashboard(address)
    assert str(refusal.value).startswith(f"{address}: cannot be reached")
    assert "\n" not in str(refusal.value)


def test_dashboards_and_ray_clients_take_jobs_and_the_control_service_does_not():
    assert takes_jobs("http://head:8265")
    assert takes_jobs("https://head")
    assert takes_jobs("ray://head:10001")
    assert not takes_jobs("head:6379")
    assert not takes_jobs(None)


def test_a_job_is_sent_the_code_the_parameters_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / ".env").write_text("PASSWORD=1")
    with package(Params(seed=7), tmp_path) as folder:
        assert {path.name for path in folder.iterdir()} == {
            "stvsr", "params.yaml", "settings.json",
        }  # fmt: skip
        assert (folder / "stvsr" / "cli.py").is_file()
        assert not list(folder.rglob("__pycache__"))
        assert load_params(folder / "params.yaml").seed == 7
        values = json.loads((folder / "settings.json").read_text())["values"]
    assert values["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert not folder.exists()


def test_a_job_opens_the_start_that_a_relative_path_names_here(tmp_path, monkeypatch):
    write_tiny_artifact(tmp_path / "models" / "start")
    monkeypatch.chdir(tmp_path)
    for name, sent in (
        ("models/start", str(tmp_path / "models" / "start")),
        ("models:/stdan@champion", "models:/stdan@champion"),
    ):
        params = Params(train=TrainConfig(start_from=name))
        with package(params, tmp_path) as folder:
            assert load_params(folder / "params.yaml").train.start_from == sent


def test_settings_travel_by_name_and_are_not_shown(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open-sesame")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    settings = Settings(values=own_settings())
    assert settings.values["MLFLOW_TRACKING_PASSWORD"] == "open-sesame"
    assert "SOMETHING_ELSE" not in settings.values
    assert "open-sesame" not in repr(settings)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    apply_file(tmp_path / "settings.json")
    assert own_settings() == settings.values


def test_a_job_moves_no_cursor_of_the_terminal_that_shows_its_log(capsys):
    class Client:
        async def tail_job_logs(self, _):
            yield "one\n"
            yield "\x1b[2Jtwo\n"

        def get_job_status(self, _):
            return JobStatus.SUCCEEDED

    _Log(Client(), "job").follow()  # type: ignore[arg-type]
    assert capsys.readouterr().err == "one\n\\x1b[2Jtwo\n"
