"""The versions of a registered model: what there is, and moving an alias as one step.

MLflow's aliases have no compare-and-set: the last writer wins. Its one atomic call is the creation
of a name, so a change of a model is made while a registered model `NAME~lock` exists, which works
for every store and from every machine.
"""

import difflib
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stvsr.core.errors import BusyError, ParamsError
from stvsr.tracking.store import hide_password, retrying

logger = logging.getLogger(__name__)

LOCK_SUFFIX = "~lock"
"""End of a lock's name, which no model of ours may have."""

STALE_SECONDS = 120.0
"""A lock that did not change hands for so long was left by a killed process: changes take
a few requests."""

QUIET_SECONDS = 5.0
"""Time of waiting without a line about it."""

WAIT_SECONDS = 600.0
"""Time to wait for the changes of others."""

FACTS_PREFIX = "facts-"
"""Begin of the tags of a version with the facts of another run that ended in the same weights."""

RECORD_PREFIX = "decision-"
"""Begin of the tags with the records of decisions; the rest sorts by time."""


@dataclass(frozen=True)
class VersionFacts:
    """A registered version, as the registry has it.

    Attributes:
        name: name of the registered model.
        number: its number.
        aliases: names that point to it.
        made: when it was registered, in UTC.
        run_id: MLflow run that holds its files.
        tags: all its tags.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    made: datetime
    run_id: str
    tags: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"

    @property
    def records(self) -> list[str]:
        """The records of the decisions about it, oldest first."""
        return [text for key, text in sorted(self.tags.items()) if key.startswith(RECORD_PREFIX)]


class RegisteredModel:
    """A registered model of a store.

    Raises (every method): ServiceError, the store does not answer or refuses.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.client = client
        self.name = name

    def find(self, alias: str) -> str | None:
        """Number of the version that an alias points to; None where there is none."""
        with retrying(self.client.tracking_uri):
            try:
                return str(self.client.get_model_version_by_alias(self.name, alias).version)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        return None

    def versions(self) -> list[VersionFacts]:
        """All versions, the newest first.

        Raises:
            ParamsError: there is no such model; names the nearest.
        """
        with retrying(self.client.tracking_uri):
            names = model_names(self.client)
            if self.name not in names:
                raise ParamsError(
                    f"{self.name}: no such registered model; {nearest_of(self.name, names)}"
                )
            aliases = self.client.get_registered_model(self.name).aliases
            found = self.client.search_model_versions(f"name='{self.name}'")
        facts = [_facts(version, aliases) for version in found]
        return sorted(facts, key=lambda version: int(version.number), reverse=True)

    def version(self, which: str) -> VersionFacts:
        """A version by its number, or by @ALIAS.

        Raises:
            ParamsError: there is no such model, version or alias; says which there are.
        """
        versions = self.versions()
        for version in versions:
            if which == version.number or which.removeprefix("@") in version.aliases:
                return version
        raise ParamsError(f"{self.name} {which}: no such version; {what_versions(versions, which)}")

    def run_tags(self, version: VersionFacts) -> dict[str, str]:
        """Tags of the run that holds a version's files; none where the run is gone."""
        with retrying(self.client.tracking_uri):
            try:
                found = self.client.get_run(version.run_id).data.tags
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {str(key): str(value) for key, value in found.items()}

    def move(
        self, alias: str, before: str | None, after: str | None, record: str, about: Iterable[str]
    ) -> bool:
        """Let an alias point to a version, if it points where the caller saw it.

        The record is written first, so that an alias never moves without one.

        Args:
            alias: the alias.
            before: number of the version that it points to; None for no version.
            after: number of the version that it shall point to; `before`: it stays.
            record: text of the record.
            about: numbers of the versions that get the record.

        Returns:
            False if the alias points elsewhere, so that the caller has to look again.
        """
        with self.only_change() as refuse_if_lost, retrying(self.client.tracking_uri):
            if self.find(alias) != before:
                return False
            refuse_if_lost()
            key = f"{RECORD_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
            for number in about:
                self.client.set_model_version_tag(self.name, number, key, record)
            if after is not None and after != before:
                self.client.set_registered_model_alias(self.name, alias, after)
            return self.find(alias) == after

    @contextmanager
    def only_change(self) -> Iterator[Callable[[], None]]:
        """Hold the lock for changing this model, in its store.

        A lock whose holder is silent for `STALE_SECONDS` is taken over, also from one that was
        only slow. So whoever holds it calls what this yields before each change.

        Yields:
            A check that raises BusyError once another command has taken the lock over.

        Raises:
            BusyError: others held it for `WAIT_SECONDS`.
        """
        lock, token = f"{self.name}{LOCK_SUFFIX}", uuid.uuid4().hex
        self._take(lock, token)

        def refuse_if_lost() -> None:
            if self._tags(lock).get("token") != token:
                raise BusyError(
                    f"{self.name}: another command has taken over the lock of this one",
                    remedy="run this again",
                )

        try:
            yield refuse_if_lost
        finally:
            if self._tags(lock).get("token") == token:
                self._remove(lock)

    def _take(self, lock: str, token: str) -> None:
        seen, since, end = "", time.monotonic(), time.monotonic() + WAIT_SECONDS
        tell = since + QUIET_SECONDS
        while not self._created(lock, token):
            tags, now = self._tags(lock), time.monotonic()
            holder = tags.get("owner", "another command")
            if now > tell:
                tell = end
                logger.info("%s: waiting for %s, which is changing this model", self.name, holder)
            if tags.get("token", "") != seen:
                seen, since = tags.get("token", ""), now
            elif tags and now - since > STALE_SECONDS:
                time.sleep(random.random())  # so that of several that wait one removes it
                if self._tags(lock).get("token", "") == seen:
                    logger.warning("%s: removing the lock that %s left", self.name, holder)
                    self._remove(lock)
            if now > end:
                raise BusyError(
                    f"{self.name}: {holder} is changing this model at "
                    f"{hide_password(self.client.tracking_uri)}",
                    remedy="run this again when it has ended",
                )
            time.sleep(0.1)

    def _created(self, lock: str, token: str) -> bool:
        """Try to create the lock; True if it is ours, also where the answer to that was lost."""
        owner = f"process {os.getpid()} of {socket.gethostname()}"
        about = f"{owner} is changing {self.name}; this is gone in a moment"
        with retrying(self.client.tracking_uri):
            try:
                self.client.create_registered_model(lock, {"owner": owner, "token": token}, about)
            except MlflowException as error:
                # MLflow looks for the one that exists, which may be gone by then
                if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
                    raise
                return self._tags(lock).get("token") == token
        return True

    def _tags(self, lock: str) -> dict[str, str]:
        """Owner and token of the lock; empty where nobody holds it."""
        with retrying(self.client.tracking_uri):
            try:
                return dict(self.client.get_registered_model(lock).tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        return {}

    def _remove(self, lock: str) -> None:
        with retrying(self.client.tracking_uri):
            try:
                self.client.delete_registered_model(lock)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise


def model_names(client: MlflowClient) -> list[str]:
    """Names of the registered models, locks left out."""
    with retrying(client.tracking_uri):
        names: list[str] = []
        token = None
        while True:
            page = client.search_registered_models(page_token=token)
            names += [model.name for model in page if not model.name.endswith(LOCK_SUFFIX)]
            token = page.token
            if not token:
                return sorted(names)


def nearest_of(name: str, names: list[str]) -> str:
    """Remedy for a model that does not exist: the nearest name, and all names."""
    if not names:
        return "no model is registered there; register one with `stvsr register`"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    asked = f"did you mean {near[0]}? " if near else ""
    return f"{asked}registered models: {', '.join(names)}"


def what_versions(versions: Sequence[VersionFacts], which: str) -> str:
    """The versions and aliases that exist, for an error about `which`, which does not."""
    numbers = ", ".join(version.number for version in reversed(versions)) or "none"
    aliases = {alias: version.number for version in versions for alias in version.aliases}
    shown = ", ".join(f"{alias} -> {number}" for alias, number in sorted(aliases.items()))
    near = difflib.get_close_matches(which.removeprefix("@"), aliases, n=1, cutoff=0.5)
    asked = f"did you mean @{near[0]}? " if near else ""
    name = versions[0].name if versions else "it"
    return f"{asked}versions of {name}: {numbers}; aliases: {shown or 'none'}"


def _facts(version: ModelVersion, aliases: Mapping[str, str]) -> VersionFacts:
    number = str(version.version)
    return VersionFacts(
        name=version.name,
        number=number,
        aliases=tuple(sorted(a for a, v in aliases.items() if str(v) == number)),
        made=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=str(version.run_id),
        tags={str(key): str(value) for key, value in version.tags.items()},
    )
