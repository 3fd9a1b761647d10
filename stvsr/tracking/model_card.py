"""The facts of a version, as tags, and its description, a model card in Markdown."""

from collections.abc import Iterator, Mapping

from stvsr.artifact import Card
from stvsr.data.shards.degrade import describe_degradation
from stvsr.tracking.mlflow_tracker import WEIGHTS_TAG

Metrics = dict[str, float | int | bool | None]
"""Numbers by name; null where nothing could be measured."""

_SCORES = {
    "psnr_y": ("PSNR-Y, all frames", ".2f", " dB"),
    "psnr_y_input": ("PSNR-Y, input frames", ".2f", " dB"),
    "psnr_y_interpolated": ("PSNR-Y, interpolated frames", ".2f", " dB"),
    "ssim_y": ("SSIM-Y, all frames", ".4f", ""),
    "gain_psnr_y": ("gain over bicubic+linear", "+.2f", " dB"),
    "clips": ("test clips", "d", ""),
}
"""Scores of a model card, where the evaluation has them: words, format and unit."""


def lineage_tags(card: Card) -> dict[str, str]:
    """The facts of a version, from the model's card; they never change."""
    code = [f"from step {c.step}: {c.fingerprint} {c.git_commit}".strip() for c in card.code]
    return {
        WEIGHTS_TAG: card.weights_sha256,
        "degradation": describe_degradation(card.degradation),
        "data_hash": card.data_hash,
        "git_commit": card.git_commit,
        "run": card.run,
        "code": "; ".join(code),
        "step": str(card.step),
        "seed": str(card.seed),
        "stvsr_version": card.stvsr_version,
        "start_from": card.start_from,
        "start_sha256": card.start_sha256,
    }


def describe(card: Card, metrics: Mapping[str, float | int | bool | None]) -> str:
    """A model card in Markdown: what the network is, its scores, its origin, and how to load it."""
    facts = lineage_tags(card)
    scale = "x4 in space and x2 in time"
    lines = [
        f"**{card.model.name} {card.model.preset}**: space-time video super-resolution, {scale}.",
        "Input: clips (B, T_in, 3, H, W), RGB in [0, 1], degraded as "
        f"`{facts['degradation']}`. Output: (B, 2 * T_in - 1, 3, 4H, 4W).",
        "| scores on the test shards | |\n|---|---|\n" + "\n".join(_score_rows(metrics)),
        f"Trained {card.step} of {card.steps_total} steps with seed {card.seed}"
        + (f" from `{card.start_from}`" if card.start_from else "")
        + f", on training shards with data hash `{card.data_hash}`, code "
        + f"`{facts['code'] or card.git_commit or 'not recorded'}`.",
        "Load it with `stvsr.load`; `stvsr lineage` finds its data and code.",
    ]
    return "\n\n".join(lines)


def _score_rows(metrics: Mapping[str, float | int | bool | None]) -> Iterator[str]:
    for name, (words, spec, unit) in _SCORES.items():
        value = metrics.get(name)
        if value is not None:
            number = int(value) if spec == "d" else value
            yield f"| {words} | {number:{spec}}{unit} |"
