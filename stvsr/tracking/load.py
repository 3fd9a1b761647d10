"""Loading a registered version: its model folder is fetched and read, and nothing of it is run.

It imports no more of MLflow than mlflow-skinny, alembic and SQLAlchemy run, which are in the base
dependencies: a registered network is loaded without the extra `track`.
"""

import re
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stvsr.artifact import CARD_FILE, Card, load_artifact, read_card
from stvsr.core.errors import CheckpointError, ParamsError, ServiceError
from stvsr.models import StvsrModel
from stvsr.tracking.mlflow_tracker import WEIGHTS_TAG
from stvsr.tracking.store import (
    hide_password,
    open_client,
    refuse_missing_store,
    resolve_uri,
    retrying,
)
from stvsr.tracking.versions import RegisteredModel, model_names, nearest_of, what_versions

MODEL_PATH = "artifacts/model"
"""Path of the model folder within a version."""


def load_version(
    uri: str, tracking_uri: str | None = None, *, project: Path = Path()
) -> StvsrModel:
    """Load a registered network: `load_version_with_card` without the card."""
    return load_version_with_card(uri, tracking_uri, project=project)[0]


def load_version_with_card(
    uri: str, tracking_uri: str | None = None, *, project: Path = Path()
) -> tuple[StvsrModel, Card]:
    """Load a registered network, on the CPU in evaluation mode; nothing of the version is run.

    Args:
        uri: models:/NAME@ALIAS or models:/NAME/NUMBER.
        tracking_uri: the MLflow store; default: MLFLOW_TRACKING_URI, else the project's sqlite.
        project: folder in which the default store is.

    Raises:
        ParamsError: the uri is of another form, or there is no such model, alias or version; the
            text says which there are.
        ServiceError: the store is missing, does not answer or refuses.
        CheckpointError: the version's files are damaged or no model folder of this package.
    """
    parse_uri(uri)
    store = resolve_uri(tracking_uri, project)
    refuse_missing_store(store)
    client = open_client(store)
    version = _resolve_version(client, uri)
    with tempfile.TemporaryDirectory() as folder:
        with retrying(client.tracking_uri):
            source = client.get_model_version_download_uri(version.name, version.version)
            if not is_there(source):
                raise ServiceError(
                    f"{uri}: its files are not at {source}",
                    remedy="put them back there, or register the network again",
                )
            path = download_artifacts(
                artifact_uri=f"{source}/{MODEL_PATH}",
                dst_path=folder,
                tracking_uri=client.tracking_uri,
            )
        network, card = _read_model(Path(path), uri, f"{source}/{MODEL_PATH}")
    recorded = version.tags.get(WEIGHTS_TAG, card.weights_sha256)
    if card.weights_sha256 != recorded:
        raise CheckpointError(
            f"{uri}: {source}/{MODEL_PATH}: other weights than were registered: found "
            f"{card.weights_sha256[:12]}…, the version has {recorded[:12]}…",
            remedy="put the files back from a copy, or register the network again",
        )
    return network, card


def _read_model(folder: Path, uri: str, address: str) -> tuple[StvsrModel, Card]:
    """Read the copy of a version's model folder; a refusal names the version and its address."""
    try:
        read_card(folder)
    except CheckpointError:
        raise CheckpointError(
            f"{uri}: {address}/{CARD_FILE}: missing, damaged, or of another version of stvsr",
            remedy="put it back from a copy, or register the network again",
        ) from None
    try:
        return load_artifact(folder)
    except CheckpointError as error:
        text = error.text.replace(str(folder), address)
        raise CheckpointError(f"{uri}: {text}", remedy=error.remedy) from None


def parse_uri(uri: str) -> tuple[str, str]:
    """Name of the model, and @ALIAS or NUMBER.

    Raises:
        ParamsError: the uri is of another form.
    """
    parsed = re.fullmatch(r"models:/([^/@]+)(?:(@[^/@]+)|/(\d+))", uri)
    if parsed is None:
        raise ParamsError(
            f"model uri: found {uri!r}; allowed: models:/NAME@ALIAS or models:/NAME/NUMBER, "
            "such as models:/stdan@champion"
        )
    name, alias, number = parsed.groups()
    return name, alias or number


def _resolve_version(client: MlflowClient, uri: str) -> ModelVersion:
    name, which = parse_uri(uri)
    with retrying(client.tracking_uri):
        try:
            if which.startswith("@"):
                return client.get_model_version_by_alias(name, which[1:])
            return client.get_model_version(name, which)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        raise ParamsError(
            f"{uri}: not in MLflow at {hide_password(client.tracking_uri)}; "
            f"{_what_exists(client, name, which)}"
        )


def _what_exists(client: MlflowClient, name: str, which: str) -> str:
    """List the versions that exist, for the error about one that does not."""
    names = model_names(client)
    if name not in names:
        return nearest_of(name, names)
    return what_versions(RegisteredModel(client, name).versions(), which)


def is_there(source: str) -> bool:
    """True if a version's files are there, as far as that is seen from this machine."""
    parts = urlsplit(source)
    return bool(source) and (parts.scheme != "file" or Path(unquote(parts.path)).is_dir())
