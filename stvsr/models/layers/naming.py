"""How the shared layers' parameters are called in published checkpoints."""

import re
from collections.abc import Sequence

Rule = tuple[str, str]
"""A regular expression on our name, and what replaces it in the published one."""

MLP: tuple[Rule, ...] = (
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)

SWIN: tuple[Rule, ...] = (
    (r"\.embed_norm\.", ".patch_embed.norm."),
    (r"\.groups\.(\d+)\.blocks\.", r".layers.\1.residual_group.blocks."),
    (r"\.groups\.(\d+)\.conv\.", r".layers.\1.conv."),
    *MLP,
)

PYRAMID: tuple[Rule, ...] = (
    (r"\bpyramid\.down([23])\.", r"fea_L\1_conv1."),
    (r"\bpyramid\.conv([23])\.", r"fea_L\1_conv2."),
)

PCD: tuple[Rule, ...] = (
    (r"\.conv_offset\.conv\.", ".conv_offset."),
    (r"branches\.(\d)\.level(\d)\.dcn\.", r"branches.\1.level\2.dcnpack."),
    (r"branches\.0\.level(\d)\.(\w+)\.", r"L\1_\2_1."),
    (r"branches\.1\.level(\d)\.(\w+)\.", r"L\1_\2_2."),
)


CONV_LSTM: tuple[Rule, ...] = (
    (r"^aggregation\.fusion\.", "ConvBLSTM.conv_1x1."),
    (r"^aggregation\.(recurrent\.)?cell\.", "ConvBLSTM.forward_net.cell_list.0."),
    (r"^aggregation\.(recurrent\.)?hidden_alignment\.", "ConvBLSTM.forward_net.pcd_h."),
    (r"^aggregation\.(recurrent\.)?cell_alignment\.", "ConvBLSTM.forward_net.pcd_c."),
    (r"\.(pcd_[hc])\.alignment\.branches\.", r".\1.pcd_align.branches."),
    (r"\.(pcd_[hc])\.alignment\.", r".\1."),
)


def published_name(name: str, rules: Sequence[Rule]) -> str:
    """Apply all rules to one of our parameter names, in their order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
