"""Settings of the submitter's environment that its job and workers get; they are never logged."""

import os
from pathlib import Path

from stvsr.core.config import Config, Field
from stvsr.core.errors import ServiceError

TRAVELS = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)
"""The variables that travel, and no others."""


class Settings(Config):
    """Environment variables on their way to another process.

    Not Ray's `env_vars`: those stand in the logs and the job lists of the cluster.
    """

    values: dict[str, str] = Field(default_factory=dict, repr=False)
    """By name; may hold passwords."""

    def apply(self) -> None:
        """Set them in this process."""
        os.environ.update(self.values)


def own_settings() -> dict[str, str]:
    """Those of this process's variables that travel."""
    return {name: os.environ[name] for name in TRAVELS if name in os.environ}


def apply_file(path: Path) -> None:
    """Set what the submitter of this process's job sent."""
    Settings.read(path, ServiceError, "submit the job again").apply()
