"""`stvsr summary`: report, scores and registered version of the last run."""

import os
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from stvsr.core.errors import StvsrError
from stvsr.core.terminal import output
from stvsr.evaluation.scores import Comparison, GroupScores, Quality, read_scores
from stvsr.tracking.config import TrackingConfig
from stvsr.tracking.registration import REGISTRATION_FILE, Registration, read_registration
from stvsr.tracking.registry import is_registered
from stvsr.tracking.store import hide_password, resolve_uri

FRAME_KINDS = ("input", "interpolated", "all")


def print_summary(project: Path, tracking: TrackingConfig) -> None:
    """Print report, table, version and load line of the project's last run.

    Where the MLflow store has no version of it, as in a clone, a line says how to make one.

    Args:
        project: its folder.
        tracking: the store.

    Raises:
        StvsrError: the pipeline has not run to its end here; the text names the command that does.
    """
    report = project / "report" / "index.html"
    if not report.is_file():
        raise StvsrError(f"{report}: no such file; run `dvc repro` first")
    scores = read_scores(project / "evaluation")
    store = resolve_uri(tracking.uri, project)
    registered = _registered(project, store, scores.model.weights_sha256)
    console = output(width=100)
    for name, group in scores.groups.items():
        if name == "all" or len(scores.groups) > 2:
            console.print(_table(name, group))
    console.print(f"report      {report.resolve()}", soft_wrap=True)
    for line in _registration_lines(registered, store):
        console.print(line, soft_wrap=True)


def _registered(project: Path, store: str, weights_sha256: str | None) -> Registration | None:
    """The registration of the scored weights in the store; None where it has none.

    Raises:
        StvsrError: it is damaged, or of other weights.
    """
    folder = project / "registration"
    if not os.path.lexists(folder / REGISTRATION_FILE):  # a link to nothing is refused
        return None
    found = read_registration(folder)
    if not is_registered(found, store, project):
        return None
    if found.weights_sha256 != weights_sha256:
        raise StvsrError(
            f"{folder}: is of the weights {found.weights_sha256[:12]}…, evaluation scores "
            f"{str(weights_sha256)[:12]}…; run `stvsr register`"
        )
    return found


def _registration_lines(registered: Registration | None, store: str) -> Iterator[str]:
    if registered is None:
        yield f"registered  not in {hide_password(store)} yet; run `stvsr register`"
        return
    yield f"registered  {registered.name} version {registered.version}, {registered.uri}"
    if registered.decision:
        yield f"{registered.alias:<11} {registered.decision}"
    yield f"load it     {registered.load_line}"


def _table(name: str, group: GroupScores) -> Table:
    of = "" if name == "all" else f"{name} "
    table = Table(title=f"{group.clips} {of}clips, PSNR-Y in dB / SSIM-Y", title_justify="left")
    start = ("start",) if group.all.start else ()
    for heading in ("frames", "network", *start, "bicubic+linear", "gain"):
        table.add_column(heading, justify="left" if heading == "frames" else "right")
    for kind in FRAME_KINDS:
        compared: Comparison = getattr(group, kind)
        gain = compared.gain_psnr_y
        table.add_row(
            kind,
            _shown(compared.network),
            *([_shown(compared.start)] if compared.start else []),
            _shown(compared.bicubic_linear),
            "-" if gain is None else f"{gain:+.2f} dB",
        )
    return table


def _shown(quality: Quality) -> str:
    if quality.psnr_y is None or quality.ssim_y is None:
        return "-"
    return f"{quality.psnr_y:.2f} / {quality.ssim_y:.4f}"
