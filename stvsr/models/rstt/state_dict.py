"""Names of the published RSTT checkpoints."""

from stvsr.models.layers.naming import MLP, Rule

IGNORED: tuple[str, ...] = ("relative_position_index",)
"""Last parts of names in the checkpoints that hold no weights: we compute them."""

RULES: tuple[Rule, ...] = (
    (r"^conv_first\.", "input_proj.proj.0."),
    (r"^(en|de)coder\.", r"\1coder_layers."),
    *MLP,
    (r"^downsample\.(\d)\.", r"downsample.\1.conv.0."),
    (r"^upsample\.(\d)\.", r"upsample.\1.deconv.0."),
    (r"^upsample(\d)\.conv\.", r"upconv\1."),
    (r"^conv_hr\.", "HRconv."),
)
"""From our names to the published ones, applied in this order."""
