"""A network by its name: what `stvsr score`, `stvsr upscale` and `train.start_from` open."""

from pathlib import Path

from stvsr.artifact import Card, load_artifact
from stvsr.models import StvsrModel
from stvsr.published import load_published
from stvsr.weights import PREFIX, load_shipped


def open_model(name: str) -> tuple[StvsrModel, Card]:
    """A network, on the CPU in evaluation mode, and its card.

    Args:
        name: models:/NAME@ALIAS or models:/NAME/NUMBER, a version in MLflow; stvsr/NAME, a network
            that ships; the folder of a model; or the file of a published checkpoint.

    Raises:
        ParamsError: there is no such version.
        ServiceError: MLflow does not answer.
        CheckpointError: none of this name ships, or the files are missing, damaged or no network's.
    """
    if name.startswith("models:/"):
        from stvsr.tracking.registry import load_version_with_card  # MLflow takes seconds

        return load_version_with_card(name)
    path = Path(name)
    if name.startswith(PREFIX) and not path.exists():
        return load_shipped(name)
    return load_published(path) if path.is_file() else load_artifact(path)
