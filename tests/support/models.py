"""A network so small that it runs in milliseconds, as training leaves one behind."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.artifact import Card, read_card, save_artifact
from stvsr.core.clip import ClipBatch
from stvsr.models import StdanConfig, build_model
from stvsr.models.stdan.model import Stdan

TINY_STDAN = StdanConfig(
    preset="small",
    channels=8,
    embedding=8,
    deformable_groups=2,
    extraction_groups=1,
    reconstruction_groups=1,
    blocks_per_group=1,
)

TINY_CARD = Card(
    model=TINY_STDAN,
    step=300,
    steps_total=300,
    seed=0,
    degradation={"name": "bicubic"},
    data_hash="ab" * 32,
    git_commit="1234567",
    stvsr_version="0.1.0",
)


def write_tiny_artifact(folder: Path, seed: int = 0, degradation: str = "bicubic") -> Card:
    """A model folder whose every weight differs from a fresh network's."""
    torch.manual_seed(seed)
    model = build_model(TINY_STDAN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    card = TINY_CARD.model_copy(update={"seed": seed, "degradation": {"name": degradation}})
    return save_artifact(folder, model, card)


def write_tiny_evaluation(folder: Path, model: Path, psnr_y: float = 30.5) -> Path:
    """An evaluation of a model folder, as far as a registration reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"psnr_y": psnr_y, "gain_psnr_y": None, "clips": 3, "same_degradation": True}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    scores = {"model": {"weights_sha256": read_card(model).weights_sha256}}
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "before_after.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def fit_last_layer(clips: Iterable[ClipBatch]) -> Stdan:
    """A tiny network that is better than bicubic+linear on `clips`, found by least squares.

    All but its last convolution is as a fresh network has it. That convolution's weights times a
    number between 0 and 1 give networks in between, and times a negative one worse ones.
    """
    torch.manual_seed(0)
    model = build_model(TINY_STDAN).eval()
    assert isinstance(model, Stdan)
    inputs: list[Tensor] = []
    hook = model.conv_last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    columns, wanted = [], []
    with torch.no_grad(), hook:
        for batch in clips:
            residual = (batch.hr_clip - model(batch.lr_clip)).flatten(0, 1)
            features = torch.cat([F.unfold(part, 3, padding=1) for part in inputs])
            inputs.clear()
            columns.append(features.transpose(1, 2).flatten(0, 1)[::7])
            wanted.append(residual.flatten(2).transpose(1, 2).flatten(0, 1)[::7])
        solved = torch.linalg.lstsq(torch.cat(columns), torch.cat(wanted)).solution
        model.conv_last.weight.copy_(solved.T.reshape_as(model.conv_last.weight))
    return model


def write_share(folder: Path, fitted: Stdan, share: float) -> Card:
    """A model folder of `fit_last_layer`'s network with its last weights times `share`."""
    model = copy.deepcopy(fitted)
    with torch.no_grad():
        model.conv_last.weight.mul_(share)
    return save_artifact(folder, model, TINY_CARD)
