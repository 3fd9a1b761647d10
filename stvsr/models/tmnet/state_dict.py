"""Names of the published TMNet checkpoint."""

from stvsr.models.layers.naming import CONV_LSTM, PCD, PYRAMID, Rule

RULES: tuple[Rule, ...] = (
    (r"\.conv_offset\.conv\.", ".conv_offset_mask."),
    (r"^extraction\.", "feature_extraction."),
    (r"^interpolation\.pyramid\.", "pyramid."),
    (r"^interpolation\.alignment\.fusion\.", "fusion."),
    (r"^interpolation\.alignment\.branches\.", "pcd_align.branches."),
    *(
        (rf"\.branches\.{branch}\.modulations\.{level}\.", f".TMB_{letter}_l{level + 1}.")
        for branch, letter in enumerate("AB")
        for level in range(3)
    ),
    (r"(\.TMB_\w+)\.term\.", r"\1.f_process."),
    (r"(\.TMB_\w+)\.time\.", r"\1.t_process."),
    (r"^comparison\.offset_before\.", "layersAtBOffset."),
    (r"^comparison\.offset_after\.", "layersCtBOffset."),
    (r"^comparison\.dcn_before\.", "layersAtB."),
    (r"^comparison\.dcn_after\.", "layersCtB."),
    (r"^comparison\.fusion\.", "layersFusion."),
    *CONV_LSTM,
    *PYRAMID,
    *PCD,
    (r"^reconstruction\.", "recon_trunk."),
    (r"^upsample(\d)\.conv\.", r"upconv\1."),
    (r"^conv_hr\.", "HRconv."),
)
"""From our names to the published ones, applied in this order."""
