"""Parts that the flows share: a run of DVC's stages with its log, and its result."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Flow, __version__
from prefect.artifacts import create_markdown_artifact
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from pipelines.dvc_cli import repro
from pipelines.flows.watch import watched
from pipelines.verb import run_verb
from stvsr.core.config import Tree
from stvsr.core.errors import StvsrError
from stvsr.core.escape import markdown, one_line
from stvsr.core.yaml import Value


def given(parameters: Mapping[str, Value | None]) -> dict[str, Value]:
    """The parameters that a run was given; the others are in params.yaml."""
    return {key: value for key, value in parameters.items() if value is not None}


def run_stages(targets: Sequence[str], overrides: Mapping[str, Value], project: Path) -> State[Any]:
    """Bring stages up to date inside a flow run.

    Args:
        targets: the stages, with what they depend on; none: all of dvc.yaml.
        overrides: parameters of this run alone, by dotted key.
        project: the folder with dvc.yaml.

    Returns:
        The state the flow ends in: failed with the stage's own words and no traceback, where what
        failed is the user's to act on.
    """
    done = f"{', '.join(targets) or 'all stages'}: up to date"
    return _run(partial(repro, targets), overrides, project, done)


def run_pipeline(parameters: Mapping[str, Value | None], key: str, title: str) -> State[Any]:
    """Bring all stages of this folder's project up to date, and show scores and version.

    Args:
        parameters: of this run alone, by dotted key; None: as in params.yaml.
        key: of the artifact with the results.
        title: its heading.

    Returns:
        As `run_stages`.
    """
    project = Path.cwd()
    state = run_stages((), given(parameters), project)
    if state.is_completed():
        results = ("evaluation/metrics.json", "registration/version.json")
        show_results(key, title, [project / result for result in results])
    return state


def run_command(
    arguments: Sequence[str], overrides: Mapping[str, Value], project: Path
) -> State[Any]:
    """Run a verb of `stvsr` that is no stage inside a flow run.

    Args:
        arguments: the verb and its arguments, such as ("tune",).
        overrides: parameters of this run alone, by dotted key.
        project: the folder with params.yaml.

    Returns:
        As `run_stages`.
    """
    done = f"stvsr {' '.join(arguments)}: done"
    return _run(partial(run_verb, arguments), overrides, project, done)


def _run(
    run: Callable[[Mapping[str, Value], Path, Callable[[str], None]], None],
    overrides: Mapping[str, Value],
    project: Path,
    done: str,
) -> State[Any]:
    logger = get_run_logger()
    for key, value in overrides.items():
        logger.info("%s = %s for this run", key, value)
    try:
        with watched(flow_run.get_id()):
            run(overrides, project, logger.info)
    except StvsrError as error:
        logger.error("%s", error)
        return Failed(message=str(error))
    return Completed(message=done)


def run_here(flow: Flow[..., State[Any]]) -> int:
    """Run a flow in this process, with params.yaml; a failure is one line of standard error.

    Returns:
        The exit status: 0 when all stages are up to date.
    """
    if fault := _server_fault():
        sys.stderr.write(f"{flow.name}: {fault}\n")
        return 1
    state = flow(return_state=True)
    if not state.is_completed():
        sys.stderr.write(f"{flow.name}: {state.message}\n")
        return 1
    return 0


def _server_fault() -> str:
    """Why the Prefect server cannot be used, and what to do; empty where it can."""
    where = PREFECT_API_URL.value() or "an address of its own"
    correct = "or correct PREFECT_API_URL"
    try:
        with get_client(sync_client=True) as client:
            dead, found = client.api_healthcheck(), ""
            if not dead and client.server_type != ServerType.CLOUD:  # which suits every version
                found = client.api_version()
    except Exception as error:  # of any of Prefect's parts, such as a server that did not start
        dead = error
    if dead:
        status = getattr(getattr(dead, "response", None), "status_code", None)
        if status in (401, 403):
            return (
                f"the Prefect server at {where} refuses this client ({status}); set "
                "PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            )
        return (
            f"the Prefect server at {where} does not answer; start it with `prefect server start`, "
            f"{correct}"
        )
    if found and found.partition(".")[0] != __version__.partition(".")[0]:
        return one_line(
            f"the Prefect server at {where} has version {found}, this project has {__version__}; "
            f"start one with `prefect server start`, {correct}"
        )
    return ""


def show_results(key: str, title: str, files: Sequence[Path]) -> None:
    """Make a Markdown artifact of what stages wrote in JSON; a file that is not there is left out.

    Args:
        key: the artifact's key, lower case and dashes; its versions make a history.
        title: its heading.
        files: JSON files, one table each.
    """
    tables = [results_table(file) for file in files if file.exists()]
    if tables:
        create_markdown_artifact(markdown="\n".join([f"# {title}", *tables]), key=key)


def results_table(file: Path) -> str:
    """A Markdown table of the values in a JSON file, below the name of its folder."""
    try:
        tree = Tree.read(file, StvsrError, "run its stage again").branches
    except StvsrError as error:
        tree = {"cannot be shown": str(error)}
    rows = [f"| {markdown(name)} | {markdown(value)} |" for name, value in _leaves(tree)]
    return "\n".join(["", f"## {markdown(file.parent.name)}", "", "| | |", "|---|---|", *rows])


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every value in a JSON tree with its path; numbers as short as they are read."""
    match tree:
        case dict():
            for name, branch in tree.items():
                yield from _leaves(branch, (*path, str(name)))
        case list():
            for number, branch in enumerate(tree):
                yield from _leaves(branch, (*path, str(number)))
        case float():
            yield " ".join(path), f"{tree:.4g}"
        case _:
            yield " ".join(path), str(tree)
