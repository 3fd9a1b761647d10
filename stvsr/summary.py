"""`stvsr summary`: report, scores and registered version of the last run."""

from pathlib import Path

from rich.table import Table

from stvsr.core.errors import StvsrError
from stvsr.core.terminal import output
from stvsr.evaluation.scores import Comparison, GroupScores, Quality, read_scores
from stvsr.tracking.registration import read_registration

FRAME_KINDS = ("input", "interpolated", "all")


def print_summary(project: Path) -> None:
    """Print report, table, version and load line of the project's last run.

    Raises:
        StvsrError: the pipeline has not run to its end here; the text names the command that does.
    """
    report = project / "report" / "index.html"
    if not report.is_file():
        raise StvsrError(f"{report}: no such file; run `dvc repro` first")
    scores = read_scores(project / "evaluation")
    registered = read_registration(project / "registration")
    if registered.weights_sha256 != scores.model.weights_sha256:
        raise StvsrError(
            f"{project / 'registration'}: is of the weights {registered.weights_sha256[:12]}…, "
            f"evaluation scores {scores.model.weights_sha256[:12]}…; run `stvsr register`"
        )
    console = output(width=100)
    for name, group in scores.groups.items():
        if name == "all" or len(scores.groups) > 2:
            console.print(_table(name, group))
    console.print(f"report      {report.resolve()}", soft_wrap=True)
    console.print(
        f"registered  {registered.name} version {registered.version}, {registered.uri}",
        soft_wrap=True,
    )
    if registered.decision:
        console.print(f"{registered.alias:<11} {registered.decision}", soft_wrap=True)
    console.print(f"load it     {registered.load_line}", soft_wrap=True)


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
