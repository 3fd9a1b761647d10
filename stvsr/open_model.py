"""A network by its name, as `stvsr.load`, `score`, `upscale` and `train.start_from` take it."""

import re
from pathlib import Path

from stvsr.artifact import Card, load_artifact, load_weights
from stvsr.core.errors import CheckpointError, ParamsError
from stvsr.models import StvsrModel, build_model
from stvsr.published import load_published
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.run import RECORD_FILE, card_of, read_run
from stvsr.weights import PREFIX, load_shipped

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Begin of an address, such as http://."""


def load(name: str, tracking_uri: str | None = None) -> StvsrModel:
    """Load a network, on the CPU in evaluation mode; nothing is unpickled and none of its code run.

    Args:
        name: as `open_model` takes it, such as models:/stdan@champion or stvsr/small.
        tracking_uri: the MLflow store of a version, such as http://HOST:5000; default:
            MLFLOW_TRACKING_URI, else the sqlite file in the working directory.

    Returns:
        A module that takes lr_clip (B, T_in, 3, H, W), RGB in [0, 1] of any size, and returns
        sr_clip (B, 2 * T_in - 1, 3, 4H, 4W).

    Raises:
        ParamsError, ServiceError, CheckpointError: as `open_model`.
    """
    return open_model(name, tracking_uri)[0]


def open_model(name: str, tracking_uri: str | None = None) -> tuple[StvsrModel, Card]:
    """A network, on the CPU in evaluation mode, and its card.

    Args:
        name: models:/NAME@ALIAS or models:/NAME/NUMBER, a version in MLflow; stvsr/NAME, a network
            that ships; the folder of a model; the folder of a run, finished or not; or the file of
            a published checkpoint.
        tracking_uri: the MLflow store; default: MLFLOW_TRACKING_URI, else sqlite in the project.

    Raises:
        ParamsError: there is no such version, or the name is an address of another kind.
        ServiceError: MLflow does not answer.
        CheckpointError: none of this name ships, or the files are missing, damaged or no network's.
    """
    if name.startswith("models:/"):
        from stvsr.tracking.load import load_version_with_card  # MLflow takes seconds

        return load_version_with_card(name, tracking_uri)
    path = Path(name)
    if _ADDRESS.match(name) and not path.exists():
        raise ParamsError(
            f"model: found {name!r}; allowed: models:/NAME@ALIAS, models:/NAME/NUMBER, stvsr/NAME, "
            "or the path of a model's folder, a run's folder or a published checkpoint"
        )
    if name.startswith(PREFIX) and not path.exists():
        return load_shipped(name)
    if (path / RECORD_FILE).is_file():
        return _newest_of_run(path)
    return load_published(path) if path.is_file() else load_artifact(path)


def absolute_name(name: str) -> str:
    """The name by which `open_model` opens the same network from any folder."""
    path = Path(name)
    return str(path.resolve()) if path.exists() else name


def _newest_of_run(folder: Path) -> tuple[StvsrModel, Card]:
    """The weights of a run's newest whole checkpoint: the averaged ones, if the run keeps any."""
    run = read_run(folder)
    checkpoint = Checkpoints(run.checkpoints).newest_whole()
    if checkpoint is None:
        raise CheckpointError(f"{folder}: this run has no checkpoint yet; train on first")
    card = card_of(run, checkpoint.counters.step)
    model = build_model(card.model)
    load_weights(model, checkpoint.ema or checkpoint.weights, str(folder))
    return model.eval(), card
