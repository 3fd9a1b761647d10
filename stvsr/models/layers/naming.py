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


def published_name(name: str, rules: Sequence[Rule]) -> str:
    """Apply all rules to one of our parameter names, in their order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
