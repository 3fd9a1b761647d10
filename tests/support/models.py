"""A network so small that it runs in milliseconds, as training leaves one behind."""

import json
from pathlib import Path

import torch

from stvsr.artifact import Card, save_artifact
from stvsr.models import StdanConfig, build_model

TINY_STDAN = StdanConfig(
    preset="small",
    channels=8,
    embedding=8,
    deformable_groups=2,
    extraction_groups=1,
    reconstruction_groups=1,
    blocks_per_group=1,
)


def write_tiny_artifact(folder: Path, seed: int = 0, degradation: str = "bicubic") -> Card:
    """A model folder whose every weight differs from a fresh network's."""
    torch.manual_seed(seed)
    model = build_model(TINY_STDAN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    card = Card(
        model=TINY_STDAN,
        step=300,
        steps_total=300,
        seed=seed,
        degradation={"name": degradation},
        data_hash="ab" * 32,
        git_commit="1234567",
        stvsr_version="0.1.0",
    )
    return save_artifact(folder, model, card)


def write_tiny_evaluation(folder: Path, psnr_y: float = 30.5) -> Path:
    """An evaluation, as far as a registration reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"psnr_y": psnr_y, "gain_psnr_y": None, "clips": 3, "same_degradation": True}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "before_after.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder
