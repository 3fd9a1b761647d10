"""Names of the published STINet checkpoint."""

from stvsr.models.layers.naming import Rule

COUNT = 5
"""Projections and shared blocks of the published network."""

RULES: tuple[Rule, ...] = (
    (r"\.conv_offset\.conv\.", ".conv_offset_mask."),
    (r"^spatial\.feature(\d)\.", r"DBPN.feat\1."),
    (r"^spatial\.fusion\.", "DBPN.output_conv1.conv."),
    (r"^spatial\.picture\.", "DBPN.output_conv2.conv."),
    *((rf"^spatial\.(up|down)s\.{i}\.", rf"DBPN.\g<1>{i + 1}.") for i in range(COUNT)),
    (r"\.(up|down)(\d)\.reduce\.", r".\1\2.conv."),
    (r"\.(up\d)\.project([13])\.conv\.", r".\1.up_conv\2.deconv."),
    (r"\.(down\d)\.project(2)\.conv\.", r".\1.down_conv\2.deconv."),
    (r"\.(up|down)(\d)\.project", r".\1\2.\1_conv"),
    (r"^down\.", "motion_down."),
    (r"^interpolation\.from_flows\.", "motion_feat."),
    (r"^interpolation\.motion\.", "motion."),
    (r"^interpolation\.low_up\.", "interp_l.0."),
    (r"^interpolation\.low_block1\.", "interp_l.1."),
    *((rf"^interpolation\.shared\.{i}\.", f"interp_l.{i + 2}.") for i in range(COUNT)),
    (r"^interpolation\.low_block2\.", f"interp_l.{COUNT + 2}."),
    (r"^interpolation\.low_down\.", f"interp_l.{COUNT + 3}."),
    (r"^interpolation\.high_first\.", "interp_h.0."),
    (r"^interpolation\.high_block\.", f"interp_h.{COUNT + 1}."),
    (r"^interpolation\.high_last\.", f"interp_h.{COUNT + 2}."),
    (r"^picture_(low|high)\.", r"reconstruction_\1.conv."),
    (r"^reconstruction_(l|h)(ow|igh)\.", r"reconstruction_\1."),
    (r"^local_refinement\.(\w+)_before\.", r"\1AtB."),
    (r"^local_refinement\.(\w+)_after\.", r"\1CtB."),
    (r"^offset([AC])tB\.", r"layers\1tBOffset."),
    (r"^dcn([AC])tB\.", r"layers\1tB."),
    (r"^local_refinement\.offset_down\.", "offsetdown."),
    (r"^local_refinement\.mix\.", "conv11AtB."),
    (r"^local_refinement\.mix_([lh])\w+\.", r"\1_conv11AtB."),
    (r"^local_refinement\.(up|down)\.", r"h_\1."),
    (r"^local_refinement\.fusion\.", "layersFusion."),
    *((rf"^global_refinement\.layers\.{i}\.", f"SAG{i + 1}.") for i in range(4)),
    (r"^(SAG\d)\.linear\.", r"\1.fc_neigh."),
    (r"^global_refinement\.down\.", "h_down_gcn."),
    (r"^upsample(\d)\.conv\.", r"upconv\1."),
    (r"^conv_hr\.", "HRconv."),
    (r"^blending\.", "h_blending."),
)
"""From our names to the published ones, applied in this order."""

COPIES: tuple[Rule, ...] = tuple(
    (rf"^interp_h\.{i + 1}\.", f"interp_l.{i + 2}.") for i in range(COUNT)
)
"""The shared blocks' names in the HR branch: a `state_dict` has them once for each branch."""
