"""A network by its name: what `stvsr score`, `stvsr upscale` and `train.start_from` open."""

from pathlib import Path

from stvsr.artifact import Card, load_artifact, load_weights
from stvsr.core.errors import CheckpointError
from stvsr.models import StvsrModel, build_model
from stvsr.published import load_published
from stvsr.training.checkpoint import Checkpoints
from stvsr.training.run import RECORD_FILE, card_of, read_run
from stvsr.weights import PREFIX, load_shipped


def open_model(name: str, tracking_uri: str | None = None) -> tuple[StvsrModel, Card]:
    """A network, on the CPU in evaluation mode, and its card.

    Args:
        name: models:/NAME@ALIAS or models:/NAME/NUMBER, a version in MLflow; stvsr/NAME, a network
            that ships; the folder of a model; the folder of a run, finished or not; or the file of
            a published checkpoint.
        tracking_uri: MLflow's store; None: MLFLOW_TRACKING_URI, or else this folder's sqlite.

    Raises:
        ParamsError: there is no such version.
        ServiceError: MLflow does not answer.
        CheckpointError: none of this name ships, or the files are missing, damaged or no network's.
    """
    if name.startswith("models:/"):
        from stvsr.tracking.registry import load_version_with_card  # MLflow takes seconds

        return load_version_with_card(name, tracking_uri)
    path = Path(name)
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
