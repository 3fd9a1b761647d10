"""Names of the published Zooming Slow-Mo checkpoint."""

from stvsr.models.layers.naming import CONV_LSTM, PCD, PYRAMID, Rule

IGNORED: tuple[str, ...] = ()
"""Last parts of names in the checkpoint that hold no weights."""

RULES: tuple[Rule, ...] = (
    (r"\.conv_offset\.", ".conv_offset_mask."),
    (r"^extraction\.", "feature_extraction."),
    (r"^interpolation\.pyramid\.", "pyramid."),
    (r"^interpolation\.alignment\.branches\.", "pcd_align.branches."),
    (r"^interpolation\.(alignment\.)?fusion\.", "fusion."),
    *CONV_LSTM,
    *PYRAMID,
    *PCD,
    (r"\.conv_offset_mask\.conv\.", ".conv_offset_mask."),
    (r"^reconstruction\.", "recon_trunk."),
    (r"^upsample(\d)\.conv\.", r"upconv\1."),
    (r"^conv_hr\.", "HRconv."),
)
"""From our names to the published ones, applied in this order."""
