"""Configuration of the tracking store and of the registered model."""

import re

from stvsr.core.config import Config, Field, field_validator

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class TrackingConfig(Config):
    """The MLflow store and the experiment in it."""

    experiment: str = Field(default="stvsr", pattern=_NAME)
    """Experiment that training runs are logged to."""
    uri: str | None = None
    """MLflow tracking URI; null takes MLFLOW_TRACKING_URI, or without it sqlite in the project."""


class RegisterConfig(Config):
    """The registered model and the alias that its newest version gets."""

    name: str = Field(default="stdan", pattern=_NAME)
    """Name of the registered model."""
    alias: str = Field(default="champion", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """Alias that points to the version, as in models:/stdan@champion."""

    @field_validator("alias")
    @classmethod
    def _refuse_what_mlflow_reserves(cls, alias: str) -> str:
        if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError(
                "any name but latest, v1, v2, …, which MLflow keeps for itself; take champion"
            )
        return alias
