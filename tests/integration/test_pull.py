"""A registered version is loaded where nothing is installed but what the documents say."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stvsr.artifact import load_artifact
from stvsr.tracking.config import RegisterConfig, TrackingConfig
from stvsr.tracking.registry import register
from tests.support.clean_venv import REPOSITORY, CleanVenv, base_installation
from tests.support.models import write_tiny_artifact, write_tiny_evaluation
from tests.support.projects import new_mlflow_store

pytestmark = pytest.mark.slow

SIZES = [(1, 2, 3, 9, 10), (2, 3, 3, 8, 8), (1, 4, 3, 17, 5)]

NOT_UNPICKLED = """
import sys
unpickled = []
sys.addaudithook(lambda event, what: unpickled.append(what) if event == "pickle.find_class" else 0)
"""

LOAD = """
import stvsr, torch
from safetensors.torch import save_file
model = stvsr.load("models:/stdan@challenger")
save_file(model.state_dict(), "loaded.safetensors")
with torch.inference_mode():
    for number in range(3):
        lr_clip = torch.from_numpy(numpy.load(f"lr_clip{number}.npy"))
        numpy.save(f"sr_clip{number}.npy", model(lr_clip).numpy())
for absent in ("ray", "nvidia.dali", "prefect", "dvc", "pandas", "av"):
    try:
        __import__(absent)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{absent} is here")
assert not unpickled, unpickled
print(stvsr.__file__)
"""

SERVE = """
import mlflow
model = mlflow.pyfunc.load_model("models:/stdan@challenger")
for number in range(3):
    lr_clip = numpy.load(f"lr_clip{number}.npy")
    numpy.save(f"sr_clip{number}.npy", model.predict(lr_clip))
assert not unpickled, unpickled
import stvsr
print(stvsr.__file__)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a registered version and clips of several sizes."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mlflow.db").write_bytes(new_mlflow_store())
    write_tiny_artifact(folder / "model", seed=6)
    write_tiny_evaluation(folder / "evaluation", folder / "model")
    register(
        folder / "model", folder / "evaluation", RegisterConfig(), TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"),
        folder / "registration", project=folder,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        np.save(folder / f"lr_clip{number}.npy", generator.random(size, dtype=np.float32))
    return folder


def assert_upscaled_as_trained(project: Path) -> None:
    expected, _ = load_artifact(project / "model")
    for number in range(len(SIZES)):
        with torch.inference_mode():
            lr_clip = torch.from_numpy(np.load(project / f"lr_clip{number}.npy"))
            sr_clip = expected(lr_clip).numpy()
        np.testing.assert_allclose(np.load(project / f"sr_clip{number}.npy"), sr_clip, atol=1e-6)


def test_the_base_installation_loads_the_network_that_was_trained(
    project: Path, tmp_path: Path
) -> None:
    environment = base_installation(tmp_path / "venv")
    printed = environment.run(NOT_UNPICKLED + "import numpy\n" + LOAD, project)
    assert Path(printed.splitlines()[-1]).is_relative_to(environment.packages)
    trained = load_file(project / "model" / "weights.safetensors")
    loaded = load_file(project / "loaded.safetensors")
    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)
    assert_upscaled_as_trained(project)


def test_mlflow_alone_installs_and_loads_what_the_documents_say(
    project: Path, tmp_path: Path
) -> None:
    page = (REPOSITORY / "docs" / "registry.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"""pip install -r "\$\((python -c '.*')\)\"""", page)
    only_mlflow = CleanVenv(tmp_path / "mlflow", ["mlflow"])
    command = line.replace("@champion", "@challenger")
    printed = only_mlflow.call(
        ["bash", "-c", command], project, PATH=f"{only_mlflow.python.parent}:/usr/bin:/bin"
    )
    needs = Path(printed.strip()).read_text(encoding="utf-8").splitlines()
    environment = CleanVenv(tmp_path / "venv", needs)
    printed = environment.run(NOT_UNPICKLED + "import numpy\n" + SERVE, project)
    assert Path(printed.splitlines()[-1]).is_relative_to(project / "mlartifacts")
    assert_upscaled_as_trained(project)
