"""Promotion: a version becomes champion if it is better than the present one, and in no other way.

Both are scored in one run, on the same frames; the rule is in docs/registry.md. The decision with
its numbers is recorded on both versions.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from stvsr.artifact import load_artifact
from stvsr.core.config import Config, ContentError
from stvsr.core.errors import BusyError, StvsrError
from stvsr.evaluation.comparison import (
    Conditions,
    Network,
    SetComparison,
    compare_on_set,
    compare_on_shards,
)
from stvsr.tracking.config import (
    CHALLENGER,
    NO_PROMOTION,
    TEST_SHARDS,
    RegisterConfig,
    TrackingConfig,
)
from stvsr.tracking.load import load_version_with_card
from stvsr.tracking.registration import Compared, Registration
from stvsr.tracking.registry import Standing, register
from stvsr.tracking.store import open_client, refuse_missing_store, resolve_uri
from stvsr.tracking.versions import RegisteredModel, VersionFacts

logger = logging.getLogger(__name__)

BASELINE = "bicubic+linear"

ATTEMPTS = 5
"""Comparisons that are made while others move the champion meanwhile."""

_EXPERIMENT = "DVC_EXP_NAME"
"""Variable that DVC sets for the stages of an experiment: its name."""

_MOVES = ("promoted", "forced")
"""Actions by which a version became champion."""


class Decision(Config):
    """A decision about a version, as it is recorded on the versions it is about."""

    format: Literal[1] = 1
    """Version of this layout."""
    action: Literal["promoted", "forced", "kept", "rolled back"]
    """`promoted`: it became champion by the comparison; `forced`: without one; `kept`: it did not;
    `rolled back`: it was champion, and the one before is again."""
    version: str
    """Number of the version that was decided about."""
    before: str | None
    """Number of the champion before; null where there was none."""
    after: str | None
    """Number of the champion afterwards."""
    margin: float
    """Decibels above which the whole interval of the difference must be on every set."""
    sets: tuple[SetComparison, ...]
    """The comparisons with the champion before, or with bicubic+linear where there was none."""
    reason: str
    """The decision in one line."""
    time: str
    """When it was made, in UTC."""


@dataclass(frozen=True)
class Terms:
    """The terms of a promotion.

    Attributes:
        register: the model's name, the champion's alias, sets and margin.
        on: the conditions of the comparison.
    """

    register: RegisterConfig
    on: Conditions


def register_network(
    model: Path,
    evaluation: Path,
    terms: Terms,
    tracking: TrackingConfig,
    out: Path,
    *,
    project: Path = Path(),
) -> Registration:
    """Register a model folder as the challenger, and make it champion if it is better.

    In an experiment of DVC or a flow with parameters it stays challenger.

    Raises:
        StvsrError: as `stvsr.tracking.registry.register` and `consider`.
    """

    def decide(registered: RegisteredModel, version: str) -> Standing:
        facts = registered.version(version)
        hindrance = _hindrance(facts)
        decision = consider(registered, version, load_artifact(model), terms, hindrance)
        alias = terms.register.alias if decision.after == version else CHALLENGER
        if not decision.sets:
            return Standing(alias, decision.reason)
        sets = (each.model_dump(include=set(Compared.model_fields)) for each in decision.sets)
        compared = tuple(Compared(**numbers) for numbers in sets)
        return Standing(alias, decision.reason, _named(decision.before), compared)

    return register(
        model, evaluation, terms.register, tracking, out, project=project, decide=decide
    )


def consider(
    model: RegisteredModel, version: str, network: Network, terms: Terms, hindrance: str = ""
) -> Decision:
    """Compare a version with the champion, let the better one be champion, and record it.

    Args:
        model: the registered model.
        version: number of the version.
        network: its network and card.
        terms: name, alias, sets and margin.
        hindrance: why it may not become champion, however good; or empty.

    Raises:
        BusyError: others moved the champion during each of `ATTEMPTS` comparisons.
        StvsrError: a set is missing, or a network cannot be loaded or scored.
    """
    alias, margin = terms.register.alias, terms.register.margin
    for _ in range(ATTEMPTS):
        before = model.find(alias)
        if before == version:
            return _unchanged(version, margin, f"version {version} is {alias} already")
        sets = _compare(model, network, before, terms)
        is_promoted = all(each.is_better(margin) for each in sets) and not hindrance
        decision = Decision(
            action="promoted" if is_promoted else "kept",
            version=version,
            before=before,
            after=version if is_promoted else before,
            margin=margin,
            sets=sets,
            reason=_reason(before, sets, margin, hindrance),
            time=_now(),
        )
        if _carry_out(model, alias, decision):
            return decision
        logger.info("%s: the %s was moved meanwhile; comparing again", model.name, alias)
    raise BusyError(
        f"{model.name}: others moved the {alias} during each of {ATTEMPTS} comparisons",
        remedy="run this again",
    )


def promote(model: RegisteredModel, which: str, terms: Terms, *, force: bool) -> Decision:
    """Make a version champion by hand: by the same comparison, or without one.

    Args:
        model: the registered model.
        which: the version's number, or @ALIAS.
        terms: alias, sets and margin.
        force: do not compare; this is recorded.

    Raises:
        ParamsError: there is no such version.
        StvsrError: as `consider`.
    """
    facts = model.version(which)
    if not force:
        network = _load(model, facts.number)
        return consider(model, facts.number, network, terms)
    alias = terms.register.alias
    before = model.find(alias)
    if before == facts.number:
        return _unchanged(before, 0, f"version {before} is {alias} already")
    reason = f"by hand with --force, without a comparison with {_named(before)}"
    return _move_by_hand(model, alias, "forced", facts.number, before, facts.number, reason)


def rollback(model: RegisteredModel, alias: str) -> Decision:
    """Let the champion be the version that was champion before it.

    Raises:
        ParamsError: there is no such model.
        StvsrError: there is no champion, or none before it that is still there.
    """
    versions = model.versions()
    champion = model.find(alias)
    if champion is None:
        raise StvsrError(
            f"{model.name}: no version is {alias}; see `stvsr registry list {model.name}`"
        )
    before = champion_before(versions, alias)
    if before is None:
        raise StvsrError(
            f"{model.name}: version {champion} is the first {alias} that is recorded; name another "
            f"with `stvsr registry promote {model.name} VERSION --force`"
        )
    if before not in [version.number for version in versions]:
        raise StvsrError(
            f"{model.name}: version {before}, {alias} before version {champion}, was deleted; name "
            f"another with `stvsr registry promote {model.name} VERSION --force`"
        )
    reason = f"by hand, from version {champion} to version {before}"
    return _move_by_hand(model, alias, "rolled back", champion, champion, before, reason)


def champion_before(versions: Sequence[VersionFacts], alias: str) -> str | None:
    """Number of the version that was champion before the present one; None if there is none.

    Args:
        versions: all versions of a model.
        alias: the champion's.
    """
    for version in versions:
        if alias in version.aliases:
            moves = [d for d in decisions(version) if d.action in _MOVES]
            came = [d.before for d in moves if d.after == version.number]
            return came[-1] if came else None
    return None


def decisions(version: VersionFacts) -> list[Decision]:
    """The decisions about a version, oldest first; a record that cannot be read is left out."""
    found = []
    for text in version.records:
        try:
            found.append(Decision.parse(text.encode()))
        except ContentError as fault:
            logger.warning(
                "%s version %s: a decision's record is damaged (%s) and left out",
                version.name, version.number, fault,
            )  # fmt: skip
    return found


def open_registered(tracking: TrackingConfig, name: str, project: Path) -> RegisteredModel:
    """A registered model of the project's store, which is not made.

    Raises:
        ServiceError: the store is missing or does not answer.
    """
    uri = resolve_uri(tracking.uri, project)
    refuse_missing_store(uri)
    return RegisteredModel(open_client(uri), name)


def _compare(
    model: RegisteredModel, network: Network, rival: str | None, terms: Terms
) -> tuple[SetComparison, ...]:
    other = None if rival is None else _load(model, rival)
    return tuple(
        compare_on_shards(network, other, terms.on)
        if name == TEST_SHARDS
        else compare_on_set(name, network, other, terms.on)
        for name in terms.register.sets
    )


def _load(model: RegisteredModel, number: str) -> Network:
    return load_version_with_card(f"models:/{model.name}/{number}", model.client.tracking_uri)


def _reason(rival: str | None, sets: Sequence[SetComparison], margin: float, hindrance: str) -> str:
    worse = [each for each in sets if not each.is_better(margin)]
    than = f"than {_named(rival)}" + (f" by more than {margin:g} dB" if margin else "")
    compared = "; ".join(map(str, worse or sets))
    verdict = f"{'not ' if worse else ''}better {than}: {compared}"
    return f"{hindrance}; {verdict}" if hindrance else verdict


def _hindrance(version: VersionFacts) -> str:
    """Why a registration may not promote a version, however good it is; or empty."""
    if name := os.environ.get(_EXPERIMENT):
        return f"experiment {name}, which promotes nothing"
    if reason := os.environ.get(NO_PROMOTION):
        return reason
    last = [d for d in decisions(version) if d.action != "kept" and d.version == version.number]
    if last and last[-1].action == "rolled back":
        return f"rolled back at {last[-1].time}, and promoted again by hand alone"
    return ""


def _move_by_hand(
    model: RegisteredModel,
    alias: str,
    action: Literal["forced", "rolled back"],
    version: str,
    before: str | None,
    after: str,
    reason: str,
) -> Decision:
    decision = Decision(
        action=action,
        version=version,
        before=before,
        after=after,
        margin=0.0,
        sets=(),
        reason=reason,
        time=_now(),
    )
    if not _carry_out(model, alias, decision):
        raise BusyError(
            f"{model.name}: another command moved the {alias} just now",
            remedy=f"see `stvsr registry list {model.name}`, and run this again",
        )
    return decision


def _carry_out(model: RegisteredModel, alias: str, decision: Decision) -> bool:
    """Record a decision and move the alias, unless the alias was moved since it was read."""
    numbers = {decision.version, decision.before, decision.after}
    about = sorted(number for number in numbers if number is not None)
    text = decision.model_dump_json()
    if not model.move(alias, decision.before, decision.after, text, about):
        return False
    logger.info(
        "%s version %s %s: %s",
        model.name,
        decision.version,
        _shown(decision, alias),
        decision.reason,
    )
    return True


def _shown(decision: Decision, alias: str) -> str:
    match decision.action:
        case "promoted" | "forced":
            return f"is now {alias}"
        case "rolled back":
            return f"is {alias} no more"
        case "kept":
            return f"is not {alias}"


def _unchanged(version: str, margin: float, reason: str) -> Decision:
    """A decision that changes nothing and is not recorded."""
    logger.info("%s", reason)
    return Decision(
        action="kept",
        version=version,
        before=version,
        after=version,
        margin=margin,
        sets=(),
        reason=reason,
        time=_now(),
    )


def _named(rival: str | None) -> str:
    return BASELINE if rival is None else f"version {rival}"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
