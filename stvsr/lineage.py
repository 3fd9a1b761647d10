"""`stvsr lineage`: the data and the code that made a registered version, and whether they are here.

What made it is read from the version's own record. Where a repository, shards or a DVC cache are in
the project, they are asked for that commit and those bytes.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stvsr.core.config import Tree
from stvsr.core.errors import ParamsError, ShardError, StvsrError
from stvsr.core.files import MIB, read_bytes
from stvsr.core.terminal import output
from stvsr.data.shards.format import Lineage
from stvsr.tracking.load import parse_uri
from stvsr.tracking.mlflow_tracker import WEIGHTS_TAG
from stvsr.tracking.versions import FACTS_PREFIX, RegisteredModel, VersionFacts

SHARDS = Path("data/shards/train")
"""The training shards of a project."""

CACHE = Path(".dvc/cache/files/md5")
"""DVC's cache of a project, where it was not moved."""

WIDTH = 120

_COMMIT = re.compile(r"[0-9a-f]{7,40}")

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class Check:
    """A part of what made a version, looked for in the project.

    Attributes:
        subject: the part.
        found: what was found, in words.
        is_here: whether it is in the project; None: it could not be looked for.
    """

    subject: str
    found: str
    is_here: bool | None = None


def print_lineage(model: RegisteredModel, uri: str, project: Path) -> None:
    """Print what made a version, and what of it is in the project.

    Args:
        model: the registered model that the uri names.
        uri: models:/NAME@ALIAS or models:/NAME/NUMBER.
        project: folder of the project.

    Raises:
        ParamsError: there is no such version.
        ServiceError: the store does not answer.
        StvsrError: the commit or the data are not here; all was printed.
    """
    name, which = parse_uri(uri)
    version = model.version(which)
    tags = {**model.run_tags(version), **version.tags}
    rows = dict(_origin(version, tags))
    checks = [_commit(tags, project), _shards(tags, project), _cache(tags, project)]
    rows |= {check.subject: check.found for check in checks}
    console = output(WIDTH)
    width = max(map(len, rows))
    for subject, text in rows.items():
        console.print(f"{subject:<{width}}  {text}", soft_wrap=True)
    commit, *data = (check.is_here for check in checks)
    missing = ["commit"] if commit is False else []
    if False in data and True not in data:  # either place is enough
        missing.append("data")
    if missing:
        raise StvsrError(
            f"{uri}: {' and '.join(missing)} of {name} version {version.number} not found here",
            remedy="see the lines above",
        )


def _origin(version: VersionFacts, tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The recorded facts, in words."""
    trained = f"step {tags.get('step', '?')}, seed {tags.get('seed', '?')}"
    run = f"run {tags['run']}, " if tags.get("run") else ""
    yield "version", f"{version}, {', '.join(version.aliases) or 'no alias'}"
    yield "weights", tags.get(WEIGHTS_TAG, "not recorded")
    yield "training", f"{run}{trained}, stvsr {tags.get('stvsr_version', '?')}"
    yield "code", tags.get("code") or f"commit {tags.get('git_commit') or 'not recorded'}"
    if tags.get("start_from"):
        yield "start", f"{tags['start_from']} {tags.get('start_sha256', '')}"
    yield "data hash", tags.get("data_hash", "not recorded")
    yield "degradation", tags.get("degradation", "not recorded")
    yield "data version", tags.get("data_version") or "not recorded (DVC's hash of the shards)"
    for key, text in sorted(version.tags.items()):
        if key.startswith(FACTS_PREFIX):
            yield key, f"registered again with {text}"


def _commit(tags: Mapping[str, str], project: Path) -> Check:
    """The commit in the project's repository."""
    subject, recorded = "commit", tags.get("git_commit", "")
    commit = recorded.removesuffix("-dirty")
    if not _COMMIT.fullmatch(commit):  # what a registry says is not passed to git as it is
        return Check(subject, f"{commit}: no commit" if commit else "not recorded")
    if _git(project, "rev-parse", "--git-dir") is None:
        return Check(subject, f"{commit}: not looked for: no git repository is here")
    title = _git(project, "log", "-1", "--format=%cs %s", f"{commit}^{{commit}}", "--")
    if title is None:
        return Check(subject, f"{commit}: NOT in this repository; `git fetch` may get it", False)
    changed = "; files differed from it, and that is not recorded" if commit != recorded else ""
    return Check(subject, f"{commit}: in this repository ({title}){changed}", True)


def _shards(tags: Mapping[str, str], project: Path) -> Check:
    """The training shards in the project."""
    subject, wanted = f"{SHARDS}", tags.get("data_hash", "")
    try:
        found = Lineage.read(project / SHARDS / "lineage.json", ShardError, "").data_hash
    except FileNotFoundError:
        return Check(subject, "not looked for: no shards are here")
    except ShardError as error:
        return Check(subject, str(error), False)
    if found == wanted:
        return Check(subject, "the same data hash; `stvsr shards verify` reads every byte", True)
    return Check(subject, f"other data: {found}", False)


def _cache(tags: Mapping[str, str], project: Path) -> Check:
    """The shards in DVC's cache."""
    subject, version = "DVC cache", tags.get("data_version", "")
    if not (project / CACHE).is_dir():
        return Check(subject, "not looked for: no DVC cache is here")
    if not version:
        return Check(subject, "not looked for: the data version is not recorded")
    listed = _listing(project, version)
    if listed is None:
        return Check(subject, f"NOT there: {version}; `dvc pull` may get it", False)
    there = [md5 for md5 in listed.values() if _place(project, md5).is_file()]
    if len(there) < len(listed):
        text = f"{len(there)} of {len(listed)} files of {version}; `dvc pull` may get the others"
        return Check(subject, text, False)
    found = _data_hash(_place(project, listed.get("lineage.json", "")))
    if found != tags.get("data_hash"):
        return Check(subject, f"{version} has other data: {found or 'no lineage'}", False)
    return Check(subject, f"all {len(listed)} files of {version}, with the same data hash", True)


def _place(project: Path, md5: str) -> Path:
    """Place of a file in the cache; a name that is no MD5 has one where nothing is."""
    if not _MD5.fullmatch(md5):
        return project / CACHE / "none"
    return project / CACHE / md5[:2] / md5[2:]


def _listing(project: Path, version: str) -> dict[str, str] | None:
    """MD5 of the files of a folder in DVC's cache by their paths; None if it is not there."""
    name = version if version.endswith(".dir") else f"{version}.dir"
    try:
        entries = json.loads(read_bytes(_place(project, name), 64 * MIB))
        return {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _data_hash(lineage: Path) -> str:
    try:
        return str(Tree.read(lineage, ParamsError, "").branches.get("data_hash", ""))
    except (OSError, ParamsError):
        return ""


def _git(project: Path, *arguments: str) -> str | None:
    """The output of git; None where it failed or is not installed."""
    command = ["git", "-C", str(project), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
