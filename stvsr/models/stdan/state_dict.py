"""Names of the published STDAN checkpoint."""

from stvsr.models.layers.naming import PCD, PYRAMID, SWIN, Rule

IGNORED: tuple[str, ...] = ("attn_mask", "relative_position_index")
"""Last parts of names in the checkpoint that hold no weights: we compute them."""

RULES: tuple[Rule, ...] = (
    (r"^extraction\.", "feature_extraction."),
    (r"^reconstruction\.", "feature_recon."),
    *SWIN,
    (r"^interpolation\.fusion\.", "fusion_f_b."),
    (r"^interpolation\.join_state\.", "pcd_align_modified.fusion_1x1."),
    (r"^interpolation\.next_state(\d)\.", r"pcd_align_modified.conv_h\1."),
    (r"^interpolation\.pyramid\.", "pyramid."),
    (r"^interpolation\.alignment\.", "pcd_align_modified."),
    (
        r"^interpolation\.state_alignment\.alignment\.branches",
        "pcd_align_modified.pcd_h.pcd_align.branches",
    ),
    (r"^interpolation\.state_alignment\.(alignment\.)?", "pcd_align_modified.pcd_h."),
    *PYRAMID,
    *PCD,
    (r"^aggregation\.to_query\.", "stdfa.qkv_maps.w_qs."),
    (r"^aggregation\.to_key\.", "stdfa.qkv_maps.w_ks."),
    (r"^aggregation\.to_value\.", "stdfa.qkv_maps.w_vs."),
    (
        r"^aggregation\.points\.conv_offset\.",
        "stdfa.deformable_corr.dcn_attention.conv_offset_mask.",
    ),
    (r"^aggregation\.points\.", "stdfa.deformable_corr."),
    (r"^aggregation\.", "stdfa."),
    (r"^conv_before_upsample\.", "conv_before_upsample.0."),
    (r"^upsample\.0\.conv\.", "upsample.0."),
    (r"^upsample\.1\.conv\.", "upsample.2."),
)
"""From our names to the published ones, applied in this order."""
