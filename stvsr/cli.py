"""`stvsr`: one verb per job, each of which calls one function; heavy imports wait in the verb."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stvsr.core.errors import RESUME, RESUME_WITHOUT_FRESH, LeaveAtOnceError, StvsrError
from stvsr.core.escape import one_line
from stvsr.core.extras import naming_extras
from stvsr.core.files import only_writer
from stvsr.core.home import ensure_home
from stvsr.core.log import set_up_logging
from stvsr.core.project import project_of

if TYPE_CHECKING:
    from stvsr.artifact import Card
    from stvsr.evaluation.score import Recorder
    from stvsr.evaluation.set_scores import SetScores
    from stvsr.models import StvsrModel
    from stvsr.params import Params
    from stvsr.promotion import Terms
    from stvsr.tracking.versions import RegisteredModel

QUIET_WAITING = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait for each other sleep: on a shared core, spinning costs many times the work."""

SHARD_SETS = ("data/shards/train", "data/shards/test")
"""The sets that `stvsr shard` writes unless `--out` names another folder."""

DISK_FAULTS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}
"""Errors of the system that `DISK_REMEDY` is for."""

DISK_REMEDY = "free some space or make the folder writable, and run the same command again"

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables that every entry point sets before a library that would call home is imported."""


def _group(help_: str = "", epilog: str = "") -> typer.Typer:
    return typer.Typer(
        help=help_,
        epilog=epilog,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = _group(
    "Space-time video super-resolution: clips to shards, shards to a trained network, a network to "
    "a report and a registered model.",
    "The stages read params.yaml and are usually run, in their order, by `dvc repro`.",
)
shards_app = _group("Verify sets of shards, or show what is in one.")
track_app = _group("Bring MLflow up to date.")
registry_app = _group("List, show, promote and roll back the registered versions.")
app.add_typer(shards_app, name="shards")
app.add_typer(track_app, name="track")
app.add_typer(registry_app, name="registry")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status: 0 done, 1 refused, 130 interrupted.

    Raises:
        SystemExit: the arguments are misused (status 2).
    """
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="stvsr")
    except SystemExit as end:
        if end.code == 2:
            raise
        return int(end.code or 0)
    return 0


Verb = Callable[..., None]


def verb(name: str, group: typer.Typer = app, *, shown: str = "") -> Callable[[Verb], Verb]:
    """Register a function as a verb; whatever a user can act on becomes one line and a status.

    Args:
        name: the verb's word.
        group: where it is registered.
        shown: the verb as its lines name it, where that is another word.
    """

    def register(run: Verb) -> Verb:
        @functools.wraps(run)
        def guarded(*arguments: Any, **options: Any) -> None:
            status = _run(shown or name, functools.partial(run, *arguments, **options), options)
            if status:
                raise typer.Exit(status)

        group.command(name)(guarded)
        return guarded

    return register


def _run(name: str, run: Callable[[], None], options: dict[str, Any]) -> int:
    for key, value in (TELEMETRY_OFF | QUIET_WAITING).items():
        os.environ.setdefault(key, value)
    set_up_logging()
    fresh = bool(options.get("fresh"))
    try:
        ensure_home()
        with naming_extras():
            run()
    except LeaveAtOnceError as error:
        _refuse(name, error.message(fresh=fresh))
        sys.stderr.flush()
        os._exit(error.status)
    except StvsrError as error:
        return _refuse(name, error.message(fresh=fresh))
    except KeyboardInterrupt:
        _refuse(name, f"interrupted; {RESUME_WITHOUT_FRESH if fresh else RESUME}")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        subject = error.filename or options.get("out") or "a file"
        remedy = DISK_REMEDY if error.errno in DISK_FAULTS else RESUME
        return _refuse(name, one_line(f"{subject}: {error.strerror or error}; {remedy}"))
    return 0


def _refuse(name: str, text: str) -> int:
    for line in text.splitlines():
        sys.stderr.write(f"stvsr {name}: {one_line(line)}\n")
    return 1


# --- options that several verbs share

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters.")]
ShardsAt = Annotated[
    str, typer.Option("--shards", help="Folder, or an address such as s3://BUCKET/FOLDER.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the result.")]
Runs = Annotated[
    Path,
    typer.Option(
        "--runs", help="Folder of all runs.", callback=lambda runs: project_of(Path()) / runs
    ),
]
DataVersion = Annotated[str, typer.Option(help="DVC's hash of the shards, to be logged.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove the state that is there first.")]
At = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The Ray cluster: http://HOST:8265 or ray://HOST:10001 runs this there as a job, "
        "HOST:6379 joins from one of its nodes; default: RAY_ADDRESS, or else this machine.",
    ),
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", hidden=True)]
ModelFolder = Annotated[Path, typer.Option("--model", help="Folder of the model.")]
ModelName = Annotated[
    str, typer.Argument(metavar="NAME", help="The registered model, such as stdan.")
]
WhichVersion = Annotated[
    str, typer.Argument(metavar="VERSION|@ALIAS", help="Such as 3, @challenger or @champion.")
]
EvaluationFolder = Annotated[Path, typer.Option("--evaluation", help="Folder of the scores.")]

PARAMS = Path("params.yaml")


# --- data


@verb("fetch")
def fetch(
    dataset: Literal["vimeo90k"],
    out: Out = Path("data/vimeo90k"),
    mirror: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="A mirror that has the zip and the lists."),
    ] = None,
) -> None:
    """Download Vimeo-90K; given again, it resumes."""
    from stvsr.data.sources.fetch import VIMEO90K
    from stvsr.data.sources.fetch import fetch as download

    with only_writer(out):
        download(VIMEO90K, out, mirror)


@verb("source")
def source(params: ParamsFile = PARAMS, out: Out = Path("data/source")) -> None:
    """Make the clips: the sample dataset, cuts of videos or of folders of frames, or Vimeo-90K."""
    from stvsr.data.sources.source import make_source
    from stvsr.params import load_params

    values = load_params(params)
    with only_writer(out, holds="source.json"):
        make_source(values.source, values.seed, out)


@verb("index")
def index(
    params: ParamsFile = PARAMS,
    source: Annotated[Path, typer.Option(help="Folder of the clips.")] = Path("data/source"),
    out: Out = Path("data/index"),
) -> None:
    """Inspect every clip and list the valid ones."""
    from stvsr.data.index.build import build_index
    from stvsr.params import load_params

    values = load_params(params)
    with only_writer(out, holds="manifest.parquet"):
        build_index(source, out, values.index)


@verb("shard")
def shard(
    split: Literal["train", "test"],
    params: ParamsFile = PARAMS,
    index: Annotated[Path, typer.Option(help="Folder of the index.")] = Path("data/index"),
    out: Out = Path("data/shards"),
) -> None:
    """Degrade the clips of one split and pack them into shards."""
    from stvsr.params import load_params

    values = load_params(params)
    with only_writer(out / split):
        if os.environ.get("RAY_ADDRESS"):
            from stvsr.launch.shards import write_shards_on_cluster as write_shards
        else:
            from stvsr.data.shards.write import write_shards
        write_shards(index, split, out / split, values.shards, values.degradation)


@verb("verify", shards_app, shown="shards")
def verify_shards(
    sets: Annotated[
        list[str] | None, typer.Argument(metavar="[SET]...", help=" ".join(SHARD_SETS))
    ] = None,
) -> None:
    """Re-read every byte and name all damage."""
    from stvsr.data.shards.verify import verify_sets

    verify_sets(sets or SHARD_SETS)


@verb("show", shards_app, shown="shards")
def show_shards(
    set_: Annotated[
        str, typer.Argument(metavar="SET", help="Folder, or an address such as s3://BUCKET/SET.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The picture; default: SET-contact-sheet.png.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips in it.")] = 12,
) -> None:
    """Print the contents of a set and draw a contact sheet."""
    from stvsr.data.shards.show import show_set

    show_set(set_, out, clips)


# --- training


@verb("train")
def train(
    params: ParamsFile = PARAMS,
    shards: ShardsAt = "data/shards",
    out: Out = Path("model"),
    runs: Runs = Path("runs"),
    data_version: DataVersion = "",
    fresh: Fresh = False,
    continue_with_changed_code: Annotated[
        bool,
        typer.Option(
            "--continue-with-changed-code",
            help="Resume the run that other code began; its record and model card list both.",
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a trace of a few steps.")
    ] = False,
    address: At = None,
    settings: SettingsFile = None,
) -> None:
    """Train on the shards; given again, it resumes."""
    from stvsr.launch.submit import done_as_job
    from stvsr.params import load_params

    values = load_params(params)
    flags = {
        "--fresh": fresh,
        "--continue-with-changed-code": continue_with_changed_code,
        "--profile": profile,
    }
    if done_as_job("train", address, values, shards, out, runs, data_version, flags, settings):
        return
    from stvsr.launch.train import train as run_training

    with only_writer(out, holds="model.json"):
        run_training(
            values,
            shards,
            out,
            runs=runs,
            data_version=data_version,
            fresh=fresh,
            continue_with_changed_code=continue_with_changed_code,
            profile=profile,
            address=address,
        )


@verb("tune")
def tune(
    params: ParamsFile = PARAMS,
    shards: ShardsAt = "data/shards",
    out: Out = Path("tune"),
    runs: Runs = Path("runs"),
    data_version: DataVersion = "",
    fresh: Fresh = False,
    address: At = None,
    settings: SettingsFile = None,
) -> None:
    """Search k, T_top and the learning rate with Ray Tune."""
    from stvsr.launch.submit import done_as_job
    from stvsr.params import load_params

    values = load_params(params, search=True)
    flags = {"--fresh": fresh}
    if done_as_job("tune", address, values, shards, out, runs, data_version, flags, settings):
        return
    from stvsr.launch.tune import tune as run_search

    with only_writer(out, holds="best.json"):
        run_search(
            values,
            shards,
            out,
            runs=runs,
            resume=not fresh,
            data_version=data_version,
            address=address,
        )


@verb("finetune")
def finetune(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Videos, or folders of videos.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Network to start from: stvsr/NAME, models:/NAME@ALIAS, folder of a model or run, "
            "or published checkpoint."
        ),
    ] = "stvsr/small",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: finetune/NAME-DIGITS.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training; default: 150.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: 0.0002.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Size of the clips; default: what all videos have, up to 448x256."
        ),
    ] = None,
    register: Annotated[
        str,
        typer.Option(metavar="NAME", help="Register the result under this name, if it is better."),
    ] = "",
) -> None:
    """Adapt a network to your own videos, and say what was gained; given again, it resumes."""
    from stvsr.finetune import FinetuneRequest
    from stvsr.finetune import finetune as adapt

    request = FinetuneRequest(
        files=files,
        model=model,
        steps=steps,
        learning_rate=learning_rate,
        size=None if size is None else _parse_size(size),
        register=register,
    )
    adapt(request, out)


def _parse_size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise StvsrError(f"--size: found {text!r}; allowed: WIDTHxHEIGHT, such as 448x256")
    return int(parts[0]), int(parts[1])


@verb("sync", track_app, shown="track")
def sync(params: ParamsFile = PARAMS, runs: Runs = Path("runs")) -> None:
    """Upload what MLflow missed of the runs while it was down."""
    from stvsr.launch.track import sync_runs
    from stvsr.params import load_params
    from stvsr.tracking.store import resolve_uri

    sync_runs(runs, resolve_uri(load_params(params).tracking.uri, Path().resolve()))


# --- results


@verb("evaluate")
def evaluate(
    params: ParamsFile = PARAMS,
    model: ModelFolder = Path("model"),
    shards: ShardsAt = "data/shards",
    out: Out = Path("evaluation"),
) -> None:
    """Score the network beside the bicubic+linear baseline."""
    from stvsr.data.shards.storage import inside
    from stvsr.evaluation.evaluate import evaluate as score
    from stvsr.params import load_params

    values = load_params(params)
    with only_writer(out, holds="metrics.json"):
        score(model, inside(shards, "test"), out, values.evaluate)


@verb("score")
def score(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="stvsr/NAME, models:/NAME@ALIAS, folder of a model or run, published checkpoint.",
        ),
    ] = None,
    set_: Annotated[
        str,
        typer.Option(
            "--set", metavar="NAME|FOLDER|VIDEO", help="A benchmark, or clips as frames or videos."
        ),
    ] = "vid4",
    protocol: Annotated[
        str, typer.Option(help="Which frames count; docs/protocols.md lists them.")
    ] = "stvsr",
    outputs: Annotated[
        Path | None, typer.Option(help="Score the frames CLIP/*.png of a folder, not a model.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the benchmark is.")] = None,
    degradation: Annotated[
        Literal["bicubic", "bicubic-uint8", "gaussian-bd", "pillow"],
        typer.Option(help="How LR frames are made."),
    ] = "bicubic",
    lr: Annotated[
        str, typer.Option(metavar="NAME", help="Read LR frames from this folder of the set.")
    ] = "",
    measures: Annotated[
        str, typer.Option(metavar="NAME,…", help="Further measures: tof, xpsnr.")
    ] = "",
    speed: Annotated[
        str,
        typer.Option(metavar="WxH,…", help="Measure speed at these LR sizes, such as 112x64:bf16."),
    ] = "",
    partial: Annotated[
        bool, typer.Option("--partial", help="Score the whole clips of a set that is not whole.")
    ] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device of the network.")
    ] = "auto",
    name: Annotated[
        str, typer.Option(help="The method's name in tables; default: its folder's.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result; default: scores/NAME_SET_PROTOCOL…")
    ] = None,
) -> None:
    """Score a model, or frames that others made, on a benchmark set."""
    from stvsr.evaluation.request import ScoreRequest, run_score
    from stvsr.open_model import open_model

    request = ScoreRequest(
        model=model,
        outputs=outputs,
        set=set_,
        protocol=protocol,
        folder=folder,
        degradation=degradation,
        lr=lr,
        partial=partial,
        device=device,
        name=name,
        measures=measures,
        speed=speed,
    )
    at = out or request.default_out()
    with only_writer(at, holds="frames.csv"):
        sys.stdout.write(run_score(request, at, open_model, _recorder(model or "")))


def _recorder(model: str) -> "Recorder | None":
    """Records the scores of a registered network where it is registered; None for any other."""
    if not model.startswith("models:/"):
        return None
    from stvsr.evaluation.set_scores import score_metrics, score_name
    from stvsr.tracking.registry import record_scores

    def record(scores: "SetScores", folder: Path) -> None:
        weights = scores.model.weights_sha256 if scores.model else ""
        record_scores(model, weights, score_name(scores), score_metrics(scores), folder)

    return record


@verb("upscale")
def upscale(
    input_: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A video, a folder of numbered images, or FOLDER/f_%04d.png."
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="A .mp4, .mkv, .mov or .webm, a folder, or FOLDER/f_%04d.png."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="stvsr/NAME, models:/NAME@ALIAS, folder of a model or run, published checkpoint, "
            "or bicubic_linear."
        ),
    ] = "stvsr/small",
    space: Annotated[int, typer.Option(help="Scale in height and width: 4, 2 or 1.")] = 4,
    time: Annotated[
        int, typer.Option(help="Scale of the frame rate: 2, 1, or more if the model can.")
    ] = 2,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin here: seconds or H:MM:SS.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="End here: seconds or H:MM:SS.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Frames per second of images; default: 25.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="h264, h265, vp9, av1, png or png16; default: what plays everywhere."),
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Quality, lower is better; default: by the codec.")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16"],
        typer.Option(help="Of the network; auto is bf16 on a GPU."),
    ] = "auto",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device of the network.")
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The most to use, such as 8GiB; the tile follows."),
    ] = None,
    preview: Annotated[
        int,
        typer.Option(
            min=0, max=100, metavar="N", help="Write a strip of N frames, before and after."
        ),
    ] = 0,
    segment: Annotated[int, typer.Option(min=1, hidden=True)] = 60,
) -> None:
    """Upscale a video, or numbered images; given again, it resumes."""
    from stvsr.inference.memory import parse_size
    from stvsr.inference.video import VideoRequest, upscale_video
    from stvsr.video.times import parse_rate, parse_time

    request = VideoRequest(
        input=input_,
        output=output,
        model=model,
        space=space,
        time=time,
        start=None if start is None else parse_time(start, "--start"),
        end=None if end is None else parse_time(end, "--end"),
        codec=codec,
        crf=crf,
        precision=precision,
        device=device,
        memory=None if memory is None else parse_size(memory),
        preview=preview,
        rate=None if rate is None else parse_rate(rate),
        segment=segment,
    )
    sys.stdout.write(upscale_video(request, _load_upscaler))


def _load_upscaler(model: str) -> "tuple[StvsrModel, Card | None]":
    """The network that `stvsr upscale` and `stvsr export` name; the baseline has no card."""
    from stvsr.models import BicubicLinear
    from stvsr.open_model import open_model

    if model == "bicubic_linear":
        return BicubicLinear(), None
    return open_model(model)


@verb("export")
def export(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME@ALIAS, folder of a model, published checkpoint, stvsr/NAME, or "
            "bicubic_linear."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="A .pt2 (torch-export) or .onnx.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="torch-export or onnx.")
    ],
    frames: Annotated[
        int, typer.Option(help="Frames of a clip, where the file takes one number only.")
    ] = 4,
) -> None:
    """Write a network as one file that runs without stvsr, and check that file."""
    from stvsr.inference.export import ExportRequest
    from stvsr.inference.export import export as write_export

    request = ExportRequest(model=model, output=out, format=format_, frames=frames)
    sys.stdout.write(write_export(request, _load_upscaler))


@verb("table")
def table(
    scores: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SCORES]...", help="Folders of scores; default: all in scores/."),
    ] = None,
    out: Out = Path("tables"),
) -> None:
    """Write scores beside the published figures: Markdown, CSV, and HTML with pictures."""
    from stvsr.evaluation.benchmark_table import write_table

    with only_writer(out, holds="table.csv"):
        sys.stdout.write(write_table(scores or [], out))


@verb("report")
def report(
    evaluation: EvaluationFolder = Path("evaluation"),
    model: ModelFolder = Path("model"),
    registration: Annotated[
        Path, typer.Option(help="Folder of the registration; the report has no version without.")
    ] = Path("registration"),
    out: Out = Path("report"),
) -> None:
    """Write the report, one HTML page."""
    from stvsr.project_report import report_project

    with only_writer(out):
        report_project(evaluation, model, registration, out / "index.html")


@verb("register")
def register(
    params: ParamsFile = PARAMS,
    model: ModelFolder = Path("model"),
    evaluation: EvaluationFolder = Path("evaluation"),
    shards: ShardsAt = "data/shards",
    out: Out = Path("registration"),
) -> None:
    """Register the network in MLflow; it becomes champion if it is better than the present one."""
    from stvsr.evaluation.scores import refuse_other_headline
    from stvsr.params import load_params
    from stvsr.promotion import register_network

    values = load_params(params)
    refuse_other_headline(evaluation)
    with only_writer(out, holds="version.json"):
        register_network(model, evaluation, _terms(values, shards), values.tracking, out)


def _terms(values: "Params", shards: str, name: str | None = None) -> "Terms":
    """The terms of a promotion, for the model of params.yaml or another one."""
    from stvsr.data.shards.storage import inside
    from stvsr.evaluation.comparison import Conditions
    from stvsr.promotion import Terms

    register = values.register_
    on = Conditions(inside(shards, "test"), values.evaluate, register.protocol, values.degradation)
    return Terms(register if name is None else register.model_copy(update={"name": name}), on)


def _registered(values: "Params", name: str) -> "RegisteredModel":
    from stvsr.promotion import open_registered

    return open_registered(values.tracking, name, Path())


@verb("list", registry_app, shown="registry")
def list_versions(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The model; default: all.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """List the versions with aliases, scores, date and run."""
    from stvsr.params import load_params
    from stvsr.registry_page import models_of, print_versions

    values = load_params(params)
    print_versions(models_of(_registered(values, values.register_.name), name))


@verb("show", registry_app, shown="registry")
def show_version(name: ModelName, version: WhichVersion, params: ParamsFile = PARAMS) -> None:
    """Print all that is recorded of a version, with the decisions about it."""
    from stvsr.params import load_params
    from stvsr.registry_page import print_version

    print_version(_registered(load_params(params), name).version(version))


@verb("promote", registry_app, shown="registry")
def promote(
    name: ModelName,
    version: WhichVersion,
    params: ParamsFile = PARAMS,
    shards: ShardsAt = "data/shards",
    force: Annotated[
        bool, typer.Option("--force", help="Do not compare; the record says so.")
    ] = False,
) -> None:
    """Make a version champion if it is better than the present one."""
    from stvsr.params import load_params
    from stvsr.promotion import promote as promote_version

    values = load_params(params)
    terms = _terms(values, shards, name)
    decision = promote_version(_registered(values, name), version, terms, force=force)
    if decision.after != decision.version:
        raise StvsrError(
            f"{name} version {decision.version} is not {terms.register.alias}: {decision.reason}",
            remedy="--force promotes it without a comparison",
        )


@verb("rollback", registry_app, shown="registry")
def rollback(name: ModelName, params: ParamsFile = PARAMS) -> None:
    """Let the champion be the version that was champion before it."""
    from stvsr.params import load_params
    from stvsr.promotion import rollback as roll_back

    values = load_params(params)
    roll_back(_registered(values, name), values.register_.alias)


@verb("lineage")
def lineage(
    version: Annotated[
        str, typer.Argument(metavar="models:/NAME@ALIAS", help="Or models:/NAME/NUMBER.")
    ],
    params: ParamsFile = PARAMS,
) -> None:
    """Print which data and which code made a version, and whether they are here."""
    from stvsr.lineage import print_lineage
    from stvsr.params import load_params
    from stvsr.tracking.load import parse_uri

    name, _ = parse_uri(version)
    print_lineage(_registered(load_params(params), name), version, Path())


@verb("gc")
def gc(
    runs_to_go: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs that go too, finished or not."),
    ] = None,
    params: ParamsFile = PARAMS,
    keep_versions: Annotated[
        int, typer.Option(min=0, metavar="N", help="Newest versions that stay.")
    ] = 10,
    keep_runs: Annotated[
        int, typer.Option(min=0, metavar="N", help="Newest runs and searches that stay.")
    ] = 20,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model; default: register.name.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Remove this temporary experiment and all its runs."),
    ] = None,
    runs: Runs = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go, and how many MB.")
    ] = False,
) -> None:
    """Remove old versions, runs and trials with their files; given again, it resumes."""
    from stvsr.params import load_params
    from stvsr.retention import Retention, collect

    values = load_params(params)
    keep = Retention(
        versions=keep_versions,
        runs=keep_runs,
        named=tuple(runs_to_go or ()),
        experiment=experiment or values.tracking.experiment,
        whole=experiment is not None,
    )
    if experiment == values.tracking.experiment:
        raise StvsrError(
            f"--experiment {experiment}: is the project's own (tracking.experiment); name a "
            "temporary one"
        )
    registered = _registered(values, model or values.register_.name)
    if model is not None:
        registered.versions()  # refuses a name that does not exist
    collect(registered, values.register_.alias, keep, runs, dry=dry_run)


@verb("import-checkpoint")
def import_checkpoint(
    model: Annotated[str, typer.Argument(help="The model's name, such as stdan.")],
    file: Annotated[Path, typer.Argument(help="The published checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder of the model.")],
) -> None:
    """Turn a published checkpoint into a model folder."""
    from stvsr.published import import_checkpoint as import_

    with only_writer(out, holds="model.json"):
        import_(model, file, out)


@verb("export-checkpoint")
def export_checkpoint(
    model: Annotated[Path, typer.Argument(help="Folder of the model.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
) -> None:
    """Write a model folder's weights under their published names."""
    from stvsr.published import export_checkpoint as export

    export(model, file)


# --- looking


@verb("params")
def show_params(
    params: ParamsFile = PARAMS,
    explain: Annotated[
        str | None, typer.Option(metavar="KEY", help="Explain one key, such as train.steps.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/params.md instead.")
    ] = False,
) -> None:
    """Check params.yaml and print every parameter with its value."""
    from stvsr.params import load_params
    from stvsr.params_page import explain_key, params_page

    if markdown:
        text = params_page()
    elif explain:
        text = explain_key(explain, load_params(params))
    else:
        text = load_params(params).model_dump_json(indent=2, by_alias=True)
    sys.stdout.write(f"{text.rstrip()}\n")


@verb("summary")
def summary(params: ParamsFile = PARAMS) -> None:
    """Print report, scores and version of the last run."""
    from stvsr.params import load_params
    from stvsr.summary import print_summary

    print_summary(Path(), load_params(params).tracking)


@verb("doctor")
def doctor(params: ParamsFile = PARAMS) -> None:
    """Try what jobs need, and list what is missing for which; the status is 1 where a part is."""
    from stvsr.doctor import print_diagnosis

    print_diagnosis(Path(), params)


if __name__ == "__main__":
    sys.exit(main())
