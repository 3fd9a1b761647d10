"""The model registry: a trained network becomes a version under an alias, and is loaded from it.

A version holds the model folder (safetensors and a card), a copy of this package, and a script
by which MLflow can serve it. Nothing in it is pickled, and `load_version` runs nothing of it.
"""

import hashlib
import importlib.metadata
import json
import logging
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from stvsr.artifact import CARD_FILE, WEIGHTS_FILE, Card, load_artifact
from stvsr.core.config import Config, Numbers, Tree
from stvsr.core.errors import ParamsError, SourceError
from stvsr.core.files import whole_folder
from stvsr.data.shards.degrade import describe_degradation
from stvsr.models import StvsrModel
from stvsr.tracking.config import RegisterConfig, TrackingConfig
from stvsr.tracking.mlflow_tracker import WEIGHTS_TAG
from stvsr.tracking.store import (
    hide_password,
    is_default_uri,
    open_client,
    open_experiment,
    refuse_missing_store,
    resolve_uri,
    retrying,
)

logger = logging.getLogger(__name__)

REGISTRATION_FILE = "version.json"

Metrics = dict[str, float | int | bool | None]
"""Numbers by name; null where nothing could be measured."""

EVALUATION_TAG = "evaluation"
"""Tag of a version with the digest of the evaluation that its scores are from."""

_RUN_PATH = "model"
"""Path of a version's files among the artifacts of its run."""

_ARTIFACT_PATH = "artifacts/model"
"""Path of the model folder within a version."""

_SERVING_PACKAGES = ("numpy", "pydantic", "safetensors", "torch")
"""Requirements of the copy of stvsr in a version."""


class Registration(Config):
    """A registered version: the content of version.json."""

    name: str
    """Name of the registered model."""
    version: str
    """Number of the version, as MLflow gives it."""
    alias: str
    """Alias that pointed to it when it was registered."""
    uri: str
    """Where to load it from, such as models:/stdan@champion."""
    load_line: str
    """The line of Python that loads it."""
    tracking_uri: str | None
    """The MLflow store without passwords; null is the one in the project's folder."""
    run_id: str
    """MLflow run that holds its files."""
    weights_sha256: str
    """SHA-256 of its weights."""


def register(
    model_folder: Path,
    evaluation: Path,
    config: RegisterConfig,
    tracking: TrackingConfig,
    out: Path,
    *,
    project: Path = Path(),
) -> Registration:
    """Make the model folder a version of the registered model, and let the alias point to it.

    The alias moves last, so a registration that ends early leaves it where it was. Weights that
    are registered already are not registered again: their version gets the alias. Its facts are
    never overwritten: other facts, and the scores of another evaluation, are recorded beside the
    first ones, under names of their own.

    Args:
        model_folder: folder of the trained network.
        evaluation: folder of its scores.
        config: name and alias.
        tracking: store and experiment.
        out: folder that gets version.json.
        project: folder in which the default store is.

    Raises:
        ServiceError: the store does not answer or refuses.
        CheckpointError: it is damaged or missing.
        SourceError: the evaluation is missing, damaged, or of other weights.
    """
    _, card = load_artifact(model_folder)
    metrics = _read_metrics(evaluation)
    _refuse_other_weights(evaluation, card)
    facts = _lineage_tags(card)
    uri = resolve_uri(tracking.uri, project)
    client = open_client(uri)
    version = _find_version(client, config.name, card.weights_sha256)
    if version is None:
        run_id = _run_of(client, tracking.experiment, card)
        tags = {key: value for key, value in facts.items() if value}
        version = _create_version(client, config.name, run_id, model_folder, tags)
    else:
        _record_other_facts(client, config.name, version, facts)
    _record_evaluation(client, config.name, version, evaluation, metrics)
    with retrying(uri):
        client.set_registered_model_alias(config.name, config.alias, version.version)
    registration = _registration(config, version, card, _shown_uri(uri, project))
    with whole_folder(out) as partial:
        text = registration.model_dump_json(indent=2) + "\n"
        (partial / REGISTRATION_FILE).write_text(text, encoding="utf-8")
    logger.info("registered %s version %s as %s", config.name, version.version, registration.uri)
    return registration


def read_registration(folder: Path) -> Registration:
    """Read what `register` wrote.

    Raises:
        SourceError: version.json is missing or damaged.
    """
    path = folder / REGISTRATION_FILE
    try:
        return Registration.read(path, SourceError, "run `stvsr register` again")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr register` first") from None


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
    store = resolve_uri(tracking_uri, project)
    refuse_missing_store(store)
    client = open_client(store)
    version = _resolve_version(client, uri)
    with tempfile.TemporaryDirectory() as folder:
        with retrying(client.tracking_uri):
            source = client.get_model_version_download_uri(version.name, version.version)
            path = download_artifacts(
                artifact_uri=f"{source}/{_ARTIFACT_PATH}",
                dst_path=folder,
                tracking_uri=client.tracking_uri,
            )
        return load_artifact(Path(path))


def _resolve_version(client: MlflowClient, uri: str) -> ModelVersion:
    parsed = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if parsed is None:
        raise ParamsError(
            f"model uri: found {uri!r}; allowed: models:/NAME@ALIAS or models:/NAME/NUMBER, "
            "such as models:/stdan@champion"
        )
    name, alias, number = parsed.groups()
    with retrying(client.tracking_uri):
        try:
            if alias:
                return client.get_model_version_by_alias(name, alias)
            return client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        raise ParamsError(
            f"{uri}: not in MLflow at {hide_password(client.tracking_uri)}; "
            f"{_what_exists(client, name)}"
        )


def _what_exists(client: MlflowClient, name: str) -> str:
    """List the versions that exist, for the error about one that does not."""
    models = {model.name: model for model in client.search_registered_models()}
    if not models:
        return "no model is registered there; register one with `stvsr register`"
    if name not in models:
        return f"registered models: {', '.join(sorted(models))}"
    versions = client.search_model_versions(f"name='{name}'")
    numbers = ", ".join(sorted((str(version.version) for version in versions), key=int)) or "none"
    aliases = ", ".join(f"{a} -> {v}" for a, v in sorted(models[name].aliases.items())) or "none"
    return f"versions of {name}: {numbers}; aliases: {aliases}"


def _find_version(client: MlflowClient, name: str, weights_sha256: str) -> ModelVersion | None:
    """The whole version that holds these weights, if there is one."""
    with retrying(client.tracking_uri):
        found = client.search_model_versions(
            f"name='{name}' and tags.`{WEIGHTS_TAG}`='{weights_sha256}'"
        )
    ready = [version for version in found if version.status == "READY"]
    return min(ready, key=lambda version: int(version.version), default=None)


def _run_of(client: MlflowClient, experiment: str, card: Card) -> str:
    """The MLflow run that trained the network, or a new one where the store has none."""
    experiment_id = open_experiment(client, experiment)
    with retrying(client.tracking_uri):
        wanted = f"tags.`{WEIGHTS_TAG}` = '{card.weights_sha256}'"
        if card.run:  # another run may have come to the same weights
            wanted += f" and attributes.run_name = '{card.run}'"
        runs = client.search_runs([experiment_id], wanted, max_results=1)
        if runs:
            return str(runs[0].info.run_id)
        run_name = f"{card.model.name}-{card.weights_sha256[:8]}"
        run = client.create_run(
            experiment_id, run_name=run_name, tags={WEIGHTS_TAG: card.weights_sha256}
        )
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _refuse_other_weights(evaluation: Path, card: Card) -> None:
    """Refuse scores of other weights; only an evaluation that names its weights can be compared."""
    path, remedy = evaluation / "scores.json", "run `stvsr evaluate` again"
    try:
        model = Tree.read(path, SourceError, remedy).branches.get("model")
    except FileNotFoundError:
        return
    scored = model.get("weights_sha256") if isinstance(model, dict) else None
    if scored is None:
        raise SourceError(
            f"{path}: names no weights; it is damaged or of another version of stvsr",
            remedy=remedy,
        )
    if scored != card.weights_sha256:
        raise SourceError(
            f"{path}: scores the weights {str(scored)[:12]}…, the model has "
            f"{card.weights_sha256[:12]}…",
            remedy="run `stvsr evaluate` on this model",
        )


def _record_other_facts(
    client: MlflowClient, name: str, version: ModelVersion, facts: Mapping[str, str]
) -> None:
    """Record facts that differ from the version's, as of other code that made the same weights.

    They are in one tag with their digest; the version's own facts stay.
    """
    other = {key: value for key, value in facts.items() if version.tags.get(key, "") != value}
    if not other:
        return
    text = json.dumps(other, sort_keys=True)
    tag = f"facts-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with retrying(client.tracking_uri):
        client.set_model_version_tag(name, version.version, tag, text)
    logger.info(
        "%s version %s has these weights already and keeps its facts; other ones (%s) are in its "
        "tag %s",
        name, version.version, ", ".join(other), tag,
    )  # fmt: skip


def _record_evaluation(
    client: MlflowClient, name: str, version: ModelVersion, evaluation: Path, metrics: Metrics
) -> None:
    """Put scores and pictures beside the training's curves and on the version.

    The first evaluation of a version gives it its scores; each other one is recorded beside it, its
    metrics, artifacts and tag under a name with its digest.
    """
    text = json.dumps(metrics, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    first = version.tags.get(EVALUATION_TAG)
    if first == digest or f"{EVALUATION_TAG}-{digest}" in version.tags:
        return
    beside = "" if first is None else f"-{digest}"
    run_id = str(version.run_id)
    with retrying(client.tracking_uri):
        for key, value in metrics.items():
            if isinstance(value, float):
                client.log_metric(run_id, f"test{beside}/{key}", value)
        client.log_artifacts(run_id, str(evaluation), f"evaluation{beside}")
        if first is None:
            for key, score in metrics.items():
                if score is not None:
                    client.set_model_version_tag(name, version.version, key, str(score))
            client.set_model_version_tag(name, version.version, EVALUATION_TAG, digest)
        else:
            client.set_model_version_tag(name, version.version, f"{EVALUATION_TAG}-{digest}", text)
            logger.info(
                "%s version %s keeps its scores; the new ones are beside them as evaluation-%s",
                name, version.version, digest,
            )  # fmt: skip


def _create_version(
    client: MlflowClient, name: str, run_id: str, model_folder: Path, tags: dict[str, str]
) -> ModelVersion:
    with retrying(client.tracking_uri), _servable(model_folder) as folder:
        place = _RUN_PATH
        if client.list_artifacts(run_id, place):  # another version's files, which stay
            place = f"{_RUN_PATH}-{uuid.uuid4().hex[:8]}"
        client.log_artifacts(run_id, str(folder), place)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        root = client.get_run(run_id).info.artifact_uri
        return client.create_model_version(name, f"{root}/{place}", run_id, tags=tags)


@contextmanager
def _servable(model_folder: Path) -> Iterator[Path]:
    """A temporary folder with the model folder as a model that MLflow can load and serve."""
    clip = TensorSpec(np.dtype(np.float32), (-1, -1, 3, -1, -1))
    with tempfile.TemporaryDirectory() as temporary:
        content = Path(temporary, "model")
        content.mkdir()
        for name in (WEIGHTS_FILE, CARD_FILE):
            shutil.copyfile(model_folder / name, content / name)
        folder = Path(temporary, "servable")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": str(content)},
            code_paths=[str(Path(__file__).parents[1])],
            input_example=np.zeros((1, 2, 3, 8, 8), np.float32),
            signature=ModelSignature(inputs=Schema([clip]), outputs=Schema([clip])),
            pip_requirements=[
                f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
                for package in _SERVING_PACKAGES
            ],
        )
        yield folder


def _lineage_tags(card: Card) -> dict[str, str]:
    """The facts of a version, from the model's card; they never change."""
    code = [f"from step {c.step}: {c.fingerprint} {c.git_commit}".strip() for c in card.code]
    return {
        WEIGHTS_TAG: card.weights_sha256,
        "degradation": describe_degradation(card.degradation),
        "data_hash": card.data_hash,
        "git_commit": card.git_commit,
        "run": card.run,
        "code": "; ".join(code),
        "step": str(card.step),
        "seed": str(card.seed),
        "stvsr_version": card.stvsr_version,
    }


def _read_metrics(evaluation: Path) -> Metrics:
    """The numbers of an evaluation's metrics.json, whatever their names."""
    path = evaluation / "metrics.json"
    try:
        return Numbers.read(path, SourceError, "run `stvsr evaluate` again").by_name
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` first") from None


def _registration(
    config: RegisterConfig, version: ModelVersion, card: Card, tracking_uri: str | None
) -> Registration:
    uri = f"models:/{config.name}@{config.alias}"
    place = f', "{tracking_uri}"' if tracking_uri else ""
    return Registration(
        name=config.name,
        version=str(version.version),
        alias=config.alias,
        uri=uri,
        load_line=(
            "from stvsr.tracking.registry import load_version; "
            f'model = load_version("{uri}"{place})'
        ),
        tracking_uri=tracking_uri,
        run_id=str(version.run_id),
        weights_sha256=card.weights_sha256,
    )


def _shown_uri(uri: str, project: Path) -> str | None:
    """The store as a file may name it: no password, and no path for the project's own."""
    return None if is_default_uri(uri, project) else hide_password(uri)
