"""`stvsr gc`: removal of old versions and runs, of their artifacts, and of the runs' folders.

docs/registry.md lists what stays in any case.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.errors import ParamsError
from stvsr.core.files import only_writer
from stvsr.promotion import champion_before
from stvsr.tracking.mlflow_tracker import MEMORY_FILE, known_run
from stvsr.tracking.removal import (
    FINISHED,
    RUNNING,
    RunFacts,
    address_of,
    find_experiment,
    finish_removals,
    folder_size,
    holds_version,
    list_runs,
    remove_experiment,
    remove_run,
    remove_version,
    size_of,
)
from stvsr.tracking.versions import RegisteredModel, VersionFacts, model_names

MB = 1_000_000

SET_ASIDE = ".removed"
"""End of the name that a run's folder has while it is removed; a dot is in front."""


@dataclass(frozen=True)
class Retention:
    """The limits of retention, and what goes although it is new.

    Attributes:
        versions: newest versions of the model that stay.
        runs: newest runs that stay; a search with its trials is one.
        named: names or ids of runs that go, finished or not.
        experiment: experiment of the runs.
        whole: the experiment goes with all its runs.
    """

    versions: int
    runs: int
    named: tuple[str, ...]
    experiment: str
    whole: bool = False


@dataclass(frozen=True)
class Group:
    """A run, or a search with its trials: they go together.

    Attributes:
        runs: the run, or the search and then its trials.
        folder: folder of its state, if it is here.
    """

    runs: tuple[RunFacts, ...]
    folder: Path | None

    @property
    def name(self) -> str:
        """Name of the run or search."""
        return self.runs[0].name

    @property
    def is_removed(self) -> bool:
        """True if it was removed, and the removal ended early."""
        return self.runs[0].is_removed

    def size(self, model: RegisteredModel) -> int:
        """Bytes of its artifacts and its folder."""
        artifacts = sum(size_of(model.client, run.artifacts) for run in self.runs)
        return artifacts + (folder_size(self.folder) if self.folder else 0)


@dataclass(frozen=True)
class Thing:
    """A version or a group that goes.

    Attributes:
        kind: "version" or "run".
        name: its name.
        size: bytes that are freed.
        version: the version.
        group: the group.
    """

    kind: str
    name: str
    size: int
    version: VersionFacts | None = None
    group: Group | None = None


def collect(model: RegisteredModel, alias: str, keep: Retention, runs: Path, *, dry: bool) -> None:
    """Remove what `keep` does not keep, and print a line for each thing; given again, it resumes.

    Args:
        model: the registered model.
        alias: the champion's.
        keep: what stays.
        runs: folder of all runs' states.
        dry: print what would go, and remove nothing.

    Raises:
        ParamsError: there is no such experiment or run, or a run that is named has to stay.
        BusyError: a run that is named is in training.
        ServiceError: the store does not answer or refuses.
    """
    client = model.client
    experiment_id = find_experiment(client, keep.experiment)
    found = list_runs(client, experiment_id)
    versions = [v for name in model_names(client) for v in RegisteredModel(client, name).versions()]
    if not dry:
        finish_removals(client, found, {address_of(client, version) for version in versions})
        _clear_set_aside(runs)
    plan = _plan(model, alias, keep, found, versions, runs)
    count = size = 0
    for thing in plan:
        if dry or _remove(model, alias, thing):
            count, size = count + 1, size + thing.size
            sys.stdout.write(f"{thing.kind:<8}{thing.name:<40}{thing.size / MB:>10.1f} MB\n")
            sys.stdout.flush()
    if keep.whole and not dry:
        remove_experiment(client, experiment_id)
    verb = "would remove" if dry else "removed"
    things = "thing" if count == 1 else "things"
    sys.stdout.write(f"{verb} {count} {things}, {size / MB:.1f} MB\n")


def _plan(
    model: RegisteredModel,
    alias: str,
    keep: Retention,
    runs: Sequence[RunFacts],
    versions: Sequence[VersionFacts],
    folder: Path,
) -> list[Thing]:
    """The removals: versions before the runs that hold their files, the oldest first."""
    client = model.client
    ours = [version for version in versions if version.name == model.name]
    surplus = () if keep.whole else ours[keep.versions :]
    going = [version for version in surplus if not _stays(version, ours, alias)]
    sizes = {each.number: size_of(client, address_of(client, each)) for each in going}
    bound = {each.run_id: str(each) for each in versions if each not in going}
    groups = list(_chosen(_groups(model, runs, folder), keep, bound))
    things = [
        Thing("version", str(each), sizes[each.number], version=each) for each in reversed(going)
    ]
    for group in reversed(groups):
        ids = {run.run_id for run in group.runs}
        counted = sum(sizes[version.number] for version in going if version.run_id in ids)
        size = group.size(model) - counted
        things.append(Thing("run", group.name, max(size, 0), group=group))
    return things


def _stays(version: VersionFacts, versions: Sequence[VersionFacts], alias: str) -> bool:
    """True for a version with an alias, and for the one that a rollback would go back to."""
    return bool(version.aliases) or version.number == champion_before(versions, alias)


def _chosen(groups: Sequence[Group], keep: Retention, bound: Mapping[str, str]) -> Iterator[Group]:
    """The groups that go, the newest first."""
    unknown = set(keep.named) - {key for group in groups for key in _keys(group)}
    if unknown:
        raise ParamsError(
            f"{min(unknown)}: no such run in experiment {keep.experiment}; `mlflow ui` shows them"
        )
    for number, group in enumerate(groups):
        is_named = bool(_keys(group) & set(keep.named))
        hindrance = "" if group.is_removed else _hindrance(group, bound)
        is_unfinished = not group.is_removed and group.runs[0].status != FINISHED
        if is_named and hindrance:
            raise ParamsError(f"{group.name}: {hindrance}, so it stays; nothing was removed")
        if keep.whole and (hindrance or group.runs[0].status == RUNNING) and not is_named:
            raise ParamsError(
                f"{keep.experiment}: run {group.name} stays ({hindrance or 'it is running'}), so "
                "the experiment does; nothing was removed"
            )
        is_old = keep.whole or group.is_removed or number >= keep.runs
        if is_named or (is_old and not hindrance and (keep.whole or not is_unfinished)):
            yield group


def _keys(group: Group) -> set[str]:
    return {group.name, group.runs[0].run_id}


def _hindrance(group: Group, bound: Mapping[str, str]) -> str:
    """The version for whose sake a group stays, in words; or empty."""
    found = [bound[run.run_id] for run in group.runs if run.run_id in bound]
    return f"{found[0]} has its files there" if found else ""


def _groups(model: RegisteredModel, runs: Sequence[RunFacts], folder: Path) -> list[Group]:
    """Runs and searches, the newest first and removed ones last; a trial of none is a run."""
    ids = {run.run_id for run in runs}
    folders = _folders(folder, model.client.tracking_uri)
    trials: dict[str, list[RunFacts]] = {}
    for run in runs:
        if run.parent in ids:
            trials.setdefault(run.parent, []).append(run)
    groups = [
        Group((run, *trials.get(run.run_id, ())), folders.get(run.run_id))
        for run in runs
        if run.parent not in ids
    ]
    left = [group for group in groups if not group.is_removed or group.size(model)]
    return sorted(left, key=lambda group: group.is_removed)


def _folders(runs: Path, uri: str) -> dict[str, Path]:
    """Folders of runs' states by their run in this store."""
    found = {known_run(uri, path.parent): path.parent for path in runs.glob(f"[!.]*/{MEMORY_FILE}")}
    return {run_id: folder for run_id, folder in found.items() if run_id is not None}


def _remove(model: RegisteredModel, alias: str, thing: Thing) -> bool:
    """Remove a version or a group; False if it has to stay by now."""
    if thing.version is not None:
        number = thing.version.number

        def is_kept(versions: Sequence[VersionFacts]) -> bool:
            return any(v.number == number and _stays(v, versions, alias) for v in versions)

        return remove_version(model, number, is_kept)
    if thing.group is None or any(holds_version(model.client, r.run_id) for r in thing.group.runs):
        return False
    with only_writer(thing.group.folder) if thing.group.folder else nullcontext():
        _remove_group(model, thing.group)
    return True


def _remove_group(model: RegisteredModel, group: Group) -> None:
    """Remove the trials before the search, so that what is left is still a search."""
    for run in reversed(group.runs):
        remove_run(model.client, run)
    if group.folder is not None:
        aside = group.folder.with_name(f".{group.folder.name}{SET_ASIDE}")
        group.folder.rename(aside)
        shutil.rmtree(aside)


def _clear_set_aside(runs: Path) -> None:
    """Remove the folders whose removal ended early."""
    for folder in runs.glob(f".*{SET_ASIDE}"):
        shutil.rmtree(folder)
