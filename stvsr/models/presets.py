"""Presets: named sets of fields that a model's configuration starts from."""

from collections.abc import Mapping
from typing import Any


def expand_preset(given: Any, presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """Put a preset's fields under the fields given; what is no preset's name is left to validation.

    Args:
        given: what a configuration is validated from, usually a dict with or without "preset".
        presets: fields by the preset's name; "published" is the default.
    """
    if not isinstance(given, dict):
        return given
    preset = given.get("preset", "published")
    known = presets.get(preset, {}) if isinstance(preset, str) else {}
    return {**known, **given}


PUBLISHED_SCHEDULE: Mapping[str, object] = {
    "steps": 600_000,
    "restart_every": 150_000,
    "warmup_steps": 0,
    "log_every": 100,
    "checkpoint_every": 1_000,
    "validate_every": 5_000,
    "validate_clips": 48,
}
"""Fields that the recipes of Zooming Slow-Mo (§4.1) and STDAN (§4) share, and how often such a
run is logged and saved."""
