"""The table of docs/models.md: what each model is, costs and can do, and what its paper reports.

    python -m benchmarks.models_table

Operations are counted, not timed: of a window of 4 LR frames of 112x64 (a Vimeo-90K clip), a
multiply-add being two.
"""

from stvsr.evaluation.published_scores import OUR_MODELS, PUBLISHED
from stvsr.models import MODELS, AnyTimeModel, build_model
from stvsr.models.operations import count_operations

WINDOW = (4, 64, 112)


def main() -> None:
    print("| `model.name` | `preset` | parameters | operations, 10⁹ | times | Vid4, paper |")
    print("|---|---|---|---|---|---|")
    for entry in MODELS:
        presets = entry.config.model_fields["preset"].annotation.__args__  # type: ignore[union-attr]
        for preset in presets:
            model = build_model(entry.config(preset=preset))  # type: ignore[call-arg]
            count = sum(parameter.numel() for parameter in model.parameters())
            operations = count_operations(model, WINDOW) / 1e9
            times = "any" if isinstance(model, AnyTimeModel) else "middle"
            method = OUR_MODELS.get(f"{entry.name}-{preset}")
            paper = PUBLISHED[method]["vid4"] if method else None
            scores = f"{paper.psnr_y:.2f} / {paper.ssim_y:.4f}" if paper else ""
            print(
                f"| {entry.name} | {preset} | {count:,} | {operations:,.1f} | {times} | {scores} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
