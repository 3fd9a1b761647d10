"""The package of a job: parameters, this code, and settings."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stvsr
from stvsr.core.files import write_text_whole
from stvsr.launch.job import git_commit
from stvsr.launch.settings import Settings, own_settings
from stvsr.open_model import absolute_name
from stvsr.params import Params
from stvsr.tracking.store import resolve_uri

PARAMS_FILE = "params.yaml"
"""All parameters, resolved; JSON, which is YAML."""

SETTINGS_FILE = "settings.json"
"""The settings, for nobody but the user that the job runs as."""


@contextmanager
def package(params: Params, project: Path) -> Iterator[Path]:
    """Yield a folder to run a job in: `stvsr` as it is imported here, parameters and settings.

    Nothing else of the project is sent: no data, no `.git`, no file that happens to be there.

    Args:
        params: all parameters.
        project: the folder that the commit, and a relative MLflow store, are taken from.
    """
    with tempfile.TemporaryDirectory(prefix="stvsr-job-") as folder:
        source = Path(stvsr.__file__).parent
        shutil.copytree(
            source, Path(folder, source.name), ignore=shutil.ignore_patterns("__pycache__")
        )
        tracking = params.tracking.model_copy(update={"uri": None})
        start = params.train.start_from
        train = params.train.model_copy(update={"start_from": start and absolute_name(start)})
        sent = params.model_copy(update={"tracking": tracking, "train": train})
        write_text_whole(Path(folder, PARAMS_FILE), sent.model_dump_json(by_alias=True))
        settings = own_settings() | {
            "STVSR_GIT_COMMIT": git_commit(project),
            "MLFLOW_TRACKING_URI": resolve_uri(params.tracking.uri, project),
        }
        path = Path(folder, SETTINGS_FILE)
        write_text_whole(path, Settings(values=settings).model_dump_json())
        path.chmod(0o600)
        yield Path(folder)
