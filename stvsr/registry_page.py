"""`stvsr registry list` and `show`: versions with their aliases, scores and decisions."""

from collections.abc import Iterable, Mapping

from rich.table import Table

from stvsr.core.errors import ParamsError
from stvsr.core.terminal import output
from stvsr.promotion import decisions
from stvsr.tracking.versions import RECORD_PREFIX, RegisteredModel, VersionFacts, model_names

WIDTH = 120


def print_versions(models: Iterable[RegisteredModel]) -> None:
    """Print a row for each version of some models, the newest first."""
    table = Table()
    for heading in ("model", "version", "aliases", "PSNR-Y", "gain", "registered (UTC)", "run"):
        is_number = heading in ("version", "PSNR-Y", "gain")
        table.add_column(heading, justify="right" if is_number else "left")
    for model in models:
        for version in model.versions():
            table.add_row(*_row(version))
    output(WIDTH).print(table)


def models_of(model: RegisteredModel, name: str | None) -> list[RegisteredModel]:
    """The model that is named, or all of the store.

    Raises:
        ParamsError: no model is registered.
    """
    if name is not None:
        return [RegisteredModel(model.client, name)]
    names = model_names(model.client)
    if not names:
        raise ParamsError("no model is registered here yet; register one with `stvsr register`")
    return [RegisteredModel(model.client, each) for each in names]


def print_version(version: VersionFacts) -> None:
    """Print all that is recorded of a version: facts, scores, and the decisions about it."""
    console = output(WIDTH)
    facts = {
        "version": f"{version.name} {version.number}",
        "load it from": _addresses(version),
        "registered": f"{version.made:%Y-%m-%d %H:%M:%S} UTC",
        "MLflow run": version.run_id,
        **{
            key: text
            for key, text in sorted(version.tags.items())
            if not key.startswith(RECORD_PREFIX)
        },
    }
    width = max(map(len, facts))
    for key, text in facts.items():
        console.print(f"{key:<{width}}  {text}", soft_wrap=True)
    for decision in decisions(version):
        moved = f"version {decision.version} {decision.action}"
        console.print(f"{decision.time}  {moved}: {decision.reason}", soft_wrap=True)


def _addresses(version: VersionFacts) -> str:
    places = [f"models:/{version.name}@{alias}" for alias in version.aliases]
    return ", ".join([*places, f"models:/{version.name}/{version.number}"])


def _row(version: VersionFacts) -> list[str]:
    return [
        version.name,
        version.number,
        ", ".join(version.aliases) or "-",
        _decibels(version.tags, "psnr_y", ".2f"),
        _decibels(version.tags, "gain_psnr_y", "+.2f"),
        f"{version.made:%Y-%m-%d %H:%M}",
        version.tags.get("run") or version.run_id[:8],
    ]


def _decibels(tags: Mapping[str, str], name: str, spec: str) -> str:
    """A score of a version's tags; "-" where there is none."""
    try:
        return f"{float(tags[name]):{spec}} dB"
    except (KeyError, ValueError):
        return "-"
