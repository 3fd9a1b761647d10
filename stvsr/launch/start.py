"""`train.start_from`: the named network's weights, kept in the run's folder for its workers."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stvsr.artifact import Card, save_artifact, tensors_to_bytes
from stvsr.core.files import write_bytes_whole
from stvsr.launch.job import START_FILE
from stvsr.models import StvsrModel, build_model
from stvsr.open_model import open_model
from stvsr.params import Params
from stvsr.training.start import freeze, misfits, refuse_misfits


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from.

    Attributes:
        name: as `train.start_from` has it; of a path its last two parts, since others see a card.
        model: the network.
        card: its card.
        weights: the network's state.
        sha256: of the state as safetensors, which tells one run from another.
    """

    name: str
    model: StvsrModel
    card: Card
    weights: dict[str, Tensor]
    sha256: str

    def publish(self, folder: Path) -> None:
        """Write the network as a model folder, for whoever compares it with what came of it."""
        save_artifact(folder, self.model, self.card)

    def keep(self, run: Path) -> None:
        """Write the weights to a run's folder, where its workers find them."""
        write_bytes_whole(run / START_FILE, tensors_to_bytes(self.weights))


def find_start(params: Params) -> Start | None:
    """The network that `train.start_from` names, held against `model`; None where it is null.

    Raises:
        CheckpointError: it is missing or damaged, or tensors do not fit and `start_partly` is not
            set; a line for each.
        ParamsError: there is no such version, or `train.freeze` fits no parameter.
        ServiceError: MLflow does not answer.
    """
    with torch.device("meta"):
        network = build_model(params.model)
    freeze(network, params.train.freeze)
    name = params.train.start_from
    if name is None:
        return None
    start = open_start(name, params.tracking.uri)
    if not params.train.start_partly:
        refuse_misfits(misfits(network.state_dict(), start.weights), f"train.start_from: {name}")
    return start


def open_start(name: str, tracking_uri: str | None = None) -> Start:
    """The network of this name, as a start; arguments and errors as `open_model` has them."""
    model, card = open_model(name, tracking_uri)
    weights = model.state_dict()
    shown = name if name.startswith("models:/") else "/".join(Path(name).parts[-2:])
    sha256 = hashlib.sha256(tensors_to_bytes(weights)).hexdigest()
    return Start(shown, model, card, weights, sha256)
