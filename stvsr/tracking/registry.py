"""The model registry: a trained network becomes a version under an alias.

Whether a new version becomes champion is decided by `stvsr.promotion`, which compares networks.

A version holds the model folder (safetensors and a card), a copy of this package, and a script
by which MLflow can serve it. Nothing in it is pickled; `stvsr.tracking.load` loads it.
"""

import hashlib
import importlib.metadata
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from stvsr.artifact import CARD_FILE, WEIGHTS_FILE, Card, load_artifact
from stvsr.core.config import Numbers, Tree
from stvsr.core.errors import ServiceError, SourceError
from stvsr.core.files import whole_folder
from stvsr.tracking.config import CHALLENGER, RegisterConfig, TrackingConfig
from stvsr.tracking.load import is_there, parse_uri
from stvsr.tracking.mlflow_tracker import WEIGHTS_TAG, log_data, origin_tags
from stvsr.tracking.model_card import Metrics, describe, lineage_tags
from stvsr.tracking.registration import (
    REGISTRATION_FILE,
    Compared,
    Registration,
    load_addresses,
)
from stvsr.tracking.store import (
    hide_password,
    is_default_uri,
    is_missing,
    open_client,
    open_experiment,
    resolve_uri,
    retrying,
)
from stvsr.tracking.versions import FACTS_PREFIX, RegisteredModel

logger = logging.getLogger(__name__)

EVALUATION_TAG = "evaluation"
"""Tag of a version with the digest of the evaluation that its scores are from; with a dash and a
digest behind it, the scores of another evaluation of the same weights."""

PROTOCOL = "all frames"
"""Protocol of an evaluation's scores: every frame of every test clip counts."""

_RUN_PATH = "model"
"""Begin of the path of a version's files among the artifacts of its run; a token follows."""

_SERVING_PACKAGES = ("numpy", "pydantic", "safetensors", "torch")
"""Requirements of the copy of stvsr in a version."""


@dataclass(frozen=True)
class Standing:
    """Standing of a version once it was decided about.

    Attributes:
        alias: its alias.
        reason: of the decision, in one line.
        rival: what it was compared with; "" where it was not.
        sets: the comparison on each set.
    """

    alias: str
    reason: str
    rival: str = ""
    sets: tuple[Compared, ...] = ()


Decide = Callable[[RegisteredModel, str], Standing]
"""Decides about a version of a model by its number, and moves the champion's alias."""


def register(
    model_folder: Path,
    evaluation: Path,
    config: RegisterConfig,
    tracking: TrackingConfig,
    out: Path,
    *,
    project: Path = Path(),
    decide: Decide | None = None,
) -> Registration:
    """Make the model folder a version of the registered model: the challenger.

    The aliases move last, so a registration that ends early leaves them where they were. Weights
    that are registered already are not registered again: their version becomes the challenger. Its
    facts are never overwritten: other facts, and the scores of another evaluation, are recorded
    beside the first ones, under names of their own.

    Args:
        model_folder: folder of the trained network.
        evaluation: folder of its scores.
        config: name and alias.
        tracking: store and experiment.
        out: folder that gets version.json.
        project: folder in which the default store is.
        decide: decides whether it becomes champion; None: it stays challenger.

    Raises:
        ServiceError: the store does not answer or refuses.
        CheckpointError: it is damaged or missing.
        SourceError: the evaluation is missing, damaged, or of other weights.
        StvsrError: what `decide` raises; the version is the challenger then.
    """
    _, card = load_artifact(model_folder)
    metrics = _read_metrics(evaluation)
    _refuse_other_weights(evaluation, card)
    uri = resolve_uri(tracking.uri, project)
    model = RegisteredModel(open_client(uri), config.name)
    version = _version_of(model, tracking.experiment, model_folder, card)
    _record_evaluation(model.client, config.name, version, evaluation, metrics, card)
    with retrying(uri):
        model.client.set_registered_model_alias(config.name, CHALLENGER, version.version)
    logger.info("registered %s version %s as %s", config.name, version.version, CHALLENGER)
    number = str(version.version)
    standing = decide(model, number) if decide else Standing(CHALLENGER, "")
    registration = _registration(config.name, version, standing, card, _shown_uri(uri, project))
    with whole_folder(out) as partial:
        text = registration.model_dump_json(indent=2) + "\n"
        (partial / REGISTRATION_FILE).write_text(text, encoding="utf-8")
    return registration


def is_registered(registration: Registration, uri: str, project: Path) -> bool:
    """True if a registration was made in the store `uri`, and is still there.

    Of a server, its address has to do: it is not asked.

    A registration that was copied to another machine, or made while another store was set, tells
    of none that commands here would use.

    Args:
        registration: what `read_registration` read.
        uri: the store that is used now, as `resolve_uri` gives it.
        project: folder in which the default store is.
    """
    if registration.tracking_uri != _shown_uri(uri, project) or is_missing(uri):
        return False
    if not uri.startswith("sqlite:"):
        return True
    try:
        found = open_client(uri).get_model_version(registration.name, registration.version)
    except (MlflowException, ServiceError):
        return False
    return str(found.run_id) == registration.run_id


def record_scores(
    uri: str,
    weights_sha256: str,
    name: str,
    metrics: Mapping[str, float],
    folder: Path,
    *,
    tracking_uri: str | None = None,
    project: Path = Path(),
) -> None:
    """Record the scores of a registered network on a set, on its version and in its run.

    The version gets the tag `score-NAME`, the run metrics `scores/NAME/MEASURE` and the folder as
    artifacts `scores/NAME`. The same scores are not recorded twice; other ones take their place,
    and the run keeps the history of its metrics.

    Args:
        uri: models:/NAME@ALIAS or models:/NAME/NUMBER, from which the network was loaded.
        weights_sha256: the network's weights; an alias may have moved since.
        name: of set and conditions, such as "vid4_stvsr".
        metrics: numbers by name.
        folder: result of the score.
        tracking_uri: as `load_version_with_card`.
        project: as `load_version_with_card`.

    Raises:
        ServiceError: the store does not answer or refuses, or the version is gone; the same
            command, given again, tries again.
    """
    client = open_client(resolve_uri(tracking_uri, project))
    try:
        version = _find_version(client, parse_uri(uri)[0], weights_sha256)
        if version is None:
            raise ServiceError(f"{uri}: no version has the weights {weights_sha256[:12]}… any more")
        _record_scores(client, version, name, metrics, folder)
    except ServiceError as error:
        raise ServiceError(
            f"{folder}: these scores are whole, and could not be recorded in MLflow: {error.text}",
            remedy=error.remedy,
            resumable=True,
        ) from None


def _record_scores(
    client: MlflowClient,
    version: ModelVersion,
    name: str,
    metrics: Mapping[str, float],
    folder: Path,
) -> None:
    text = json.dumps(dict(metrics), sort_keys=True)
    tag = f"score-{name}"
    if version.tags.get(tag) == text:
        return
    run_id = str(version.run_id)
    with retrying(client.tracking_uri):
        for key, value in metrics.items():
            client.log_metric(run_id, f"scores/{name}/{key}", value)
        client.log_artifacts(run_id, str(folder), f"scores/{name}")
        client.set_model_version_tag(version.name, version.version, tag, text)
    logger.info("recorded %s on %s version %s", tag, version.name, version.version)


def _version_of(
    model: RegisteredModel, experiment: str, model_folder: Path, card: Card
) -> ModelVersion:
    """The version of a network's weights, made where there is none.

    Files are uploaded before the model is locked, which is for a moment; whoever comes second with
    the same weights takes the version of the first.
    """
    client, facts = model.client, lineage_tags(card)
    version = _find_version(client, model.name, card.weights_sha256)
    if version is None:
        run_id = _run_of(model, experiment, card)
        source = _upload(client, run_id, model_folder)
        tags = {key: value for key, value in facts.items() if value}
        with model.only_change() as refuse_if_lost:
            version = _find_version(client, model.name, card.weights_sha256)
            if version is None:
                refuse_if_lost()
                return _create_version(client, model.name, run_id, source, tags)
    _record_other_facts(client, model.name, version, facts)
    return version


def _find_version(client: MlflowClient, name: str, weights_sha256: str) -> ModelVersion | None:
    """The whole version that holds these weights, if there is one."""
    with retrying(client.tracking_uri):
        found = client.search_model_versions(
            f"name='{name}' and tags.`{WEIGHTS_TAG}`='{weights_sha256}'"
        )
        sources = {
            version.version: client.get_model_version_download_uri(name, version.version)
            for version in found
            if version.status == "READY"
        }
    ready = [version for version in found if is_there(sources.get(version.version, ""))]
    for version in found:
        if version not in ready:
            logger.warning(
                "%s version %s has these weights, and its files are not at %s; it is left as it is",
                name, version.version, sources.get(version.version, version.source),
            )  # fmt: skip
    return min(ready, key=lambda version: int(version.version), default=None)


def _run_of(model: RegisteredModel, experiment: str, card: Card) -> str:
    """The MLflow run that trained the network, or a new one where the store has none."""
    client = model.client
    experiment_id = open_experiment(client, experiment)
    with model.only_change(), retrying(client.tracking_uri):
        wanted = f"tags.`{WEIGHTS_TAG}` = '{card.weights_sha256}'"
        if card.run:  # another run may have come to the same weights
            wanted += f" and attributes.run_name = '{card.run}'"
        runs = client.search_runs([experiment_id], wanted, max_results=1)
        if runs:
            return str(runs[0].info.run_id)
        run_name = f"{card.model.name}-{card.weights_sha256[:8]}"
        origin = origin_tags("stvsr register", card.git_commit)
        run = client.create_run(
            experiment_id, run_name=run_name, tags={**origin, WEIGHTS_TAG: card.weights_sha256}
        )
        log_data(client, run.info.run_id, card.data_hash, "")
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _refuse_other_weights(evaluation: Path, card: Card) -> None:
    """Refuse scores of other weights, or of weights that they do not name."""
    path, remedy = evaluation / "scores.json", "run `stvsr evaluate` again"
    try:
        model = Tree.read(path, SourceError, remedy).branches.get("model")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` first") from None
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
    tag = f"{FACTS_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with retrying(client.tracking_uri):
        client.set_model_version_tag(name, version.version, tag, text)
    logger.info(
        "%s version %s has these weights already and keeps its facts; other ones (%s) are in its "
        "tag %s",
        name, version.version, ", ".join(other), tag,
    )  # fmt: skip


def _record_evaluation(
    client: MlflowClient,
    name: str,
    version: ModelVersion,
    evaluation: Path,
    metrics: Metrics,
    card: Card,
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
            client.set_model_version_tag(name, version.version, "protocol", PROTOCOL)
            client.update_model_version(name, version.version, describe(card, metrics))
            client.set_model_version_tag(name, version.version, EVALUATION_TAG, digest)
        else:
            client.set_model_version_tag(name, version.version, f"{EVALUATION_TAG}-{digest}", text)
            logger.info(
                "%s version %s keeps its scores; the new ones are beside them as evaluation-%s",
                name, version.version, digest,
            )  # fmt: skip


def _upload(client: MlflowClient, run_id: str, model_folder: Path) -> str:
    """Put a version's files beside its run, in a folder of their own; its address."""
    place = f"{_RUN_PATH}-{uuid.uuid4().hex[:8]}"
    with retrying(client.tracking_uri), _servable(model_folder) as folder:
        client.log_artifacts(run_id, str(folder), place)
        return f"{client.get_run(run_id).info.artifact_uri}/{place}"


def _create_version(
    client: MlflowClient, name: str, run_id: str, source: str, tags: dict[str, str]
) -> ModelVersion:
    with retrying(client.tracking_uri):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return client.create_model_version(name, source, run_id, tags=tags)


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


def _read_metrics(evaluation: Path) -> Metrics:
    """The numbers of an evaluation's metrics.json, whatever their names."""
    path = evaluation / "metrics.json"
    try:
        return Numbers.read(path, SourceError, "run `stvsr evaluate` again").by_name
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; run `stvsr evaluate` first") from None


def _registration(
    name: str, version: ModelVersion, standing: Standing, card: Card, tracking_uri: str | None
) -> Registration:
    return Registration(
        name=name,
        version=str(version.version),
        alias=standing.alias,
        **load_addresses(name, standing.alias, tracking_uri),
        tracking_uri=tracking_uri,
        run_id=str(version.run_id),
        weights_sha256=card.weights_sha256,
        decision=standing.reason,
        rival=standing.rival,
        sets=standing.sets,
    )


def _shown_uri(uri: str, project: Path) -> str | None:
    """The store as a file may name it: no password, and no path for the project's own."""
    return None if is_default_uri(uri, project) else hide_password(uri)
