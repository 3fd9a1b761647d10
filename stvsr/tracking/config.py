"""Configuration of the tracking store and of the registered model."""

import re

from stvsr.core.config import Config, Field, field_validator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

CHALLENGER = "challenger"
"""Alias of the version that was registered last."""

NO_PROMOTION = "STVSR_NO_PROMOTION"
"""Environment variable with the reason why a registration may not move the champion; or empty."""

TEST_SHARDS = "test"
"""Name, among `register.sets`, of the project's own test clips."""


class TrackingConfig(Config):
    """The MLflow store and the experiment in it."""

    experiment: str = "stvsr"
    """Experiment that training runs are logged to."""
    uri: str | None = None
    """MLflow tracking URI; null takes MLFLOW_TRACKING_URI, or without it sqlite in the project."""

    @field_validator("experiment")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        return _checked_name(name)


class RegisterConfig(Config):
    """The registered model, and when a new version of it becomes champion."""

    name: str = "stdan"
    """Name of the registered model."""
    alias: str = "champion"
    """Alias of the best version, as in models:/stdan@champion. A new version gets it if it is
    better; until then it is `challenger`."""
    sets: tuple[str, ...] = Field(default=(TEST_SHARDS,), min_length=1, max_length=20)
    """Sets on each of which a new version must be better than the champion: `test` is the project's
    test shards; others are benchmarks or folders of clips, as `stvsr score --set` takes them."""
    protocol: str = "stvsr"
    """Scoring protocol on the sets beside `test`."""
    margin: float = Field(default=0.0, ge=0, le=100)
    """Decibels of PSNR-Y: the lower end of the interval of the paired difference must be above."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        return _checked_name(name)

    @field_validator("alias")
    @classmethod
    def _is_an_alias(cls, alias: str) -> str:
        if not _ALIAS.fullmatch(alias):
            raise ValueError(
                "a letter, then letters, digits, '-' and '_', without spaces; such as champion"
            )
        if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError(
                "any name but latest, v1, v2, …, which MLflow keeps for itself; take champion"
            )
        if alias == CHALLENGER:
            raise ValueError(
                f"any name but {CHALLENGER}, which is the version registered last; take champion"
            )
        return alias

    @field_validator("sets")
    @classmethod
    def _are_named_once(cls, sets: tuple[str, ...]) -> tuple[str, ...]:
        if "" in sets or len(set(sets)) != len(sets):
            raise ValueError("names of sets, each once, such as [test, vid4]")
        return sets


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a letter or digit, then letters, digits, '_', '.' and '-', without spaces; such as "
            "stdan"
        )
    return name
