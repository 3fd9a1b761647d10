"""`stvsr`: one verb per job, each of which calls one function; heavy imports wait in the verb."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stvsr.core.errors import LeaveAtOnceError, StvsrError
from stvsr.core.files import only_writer
from stvsr.core.log import set_up_logging

if TYPE_CHECKING:
    from stvsr.params import Params

QUIET_WAITING = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait for each other sleep: on a shared core, spinning costs many times the work."""

Verb = Callable[[argparse.Namespace], None]

SHARD_SETS = ("data/shards/train", "data/shards/test")
"""The sets that `stvsr shard` writes unless told otherwise."""

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What every entry point sets before a library that would call home is imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status: 0 done, 1 refused, 2 misused, 130 interrupted."""
    options = _parser().parse_args(arguments)
    for key, value in (TELEMETRY_OFF | QUIET_WAITING).items():
        os.environ.setdefault(key, value)
    set_up_logging()
    try:
        options.run(options)
    except LeaveAtOnceError as error:
        _refuse(options.verb, _without_fresh(options, str(error)))
        sys.stderr.flush()
        os._exit(error.status)
    except StvsrError as error:
        return _refuse(options.verb, _without_fresh(options, str(error)))
    except KeyboardInterrupt:
        text = _without_fresh(options, "interrupted; run the same command again to go on")
        _refuse(options.verb, text)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        subject = error.filename or getattr(options, "out", "a file")
        reason = error.strerror or str(error)
        remedy = "free some space or make the folder writable, and run the same command again"
        return _refuse(options.verb, f"{subject}: {reason}; {remedy}")
    return 0


def _refuse(verb: str, text: str) -> int:
    for line in text.splitlines():
        sys.stderr.write(f"stvsr {verb}: {line}\n")
    return 1


def _without_fresh(options: argparse.Namespace, text: str) -> str:
    """A remedy that the very same command would turn into a loss: it would start anew."""
    if not getattr(options, "fresh", False):
        return text
    return text.replace("the same command", "the same command without --fresh")


def _fetch(options: argparse.Namespace) -> None:
    from stvsr.data.sources.fetch import VIMEO90K, fetch

    with only_writer(options.out):
        fetch(VIMEO90K, options.out, options.mirror)


def _source(options: argparse.Namespace) -> None:
    params = _params(options)
    from stvsr.data.sources.source import make_source

    with only_writer(options.out, holds="source.json"):
        make_source(params.source, params.seed, options.out)


def _index(options: argparse.Namespace) -> None:
    params = _params(options)
    from stvsr.data.index.build import build_index

    with only_writer(options.out, holds="manifest.parquet"):
        build_index(options.source, options.out, params.index)


def _shard(options: argparse.Namespace) -> None:
    params = _params(options)
    out = options.out / options.split
    with only_writer(out):
        if os.environ.get("RAY_ADDRESS"):
            from stvsr.launch.shards import write_shards_on_cluster as write_shards
        else:
            from stvsr.data.shards.write import write_shards
        write_shards(options.index, options.split, out, params.shards, params.degradation)


def _verify_shards(options: argparse.Namespace) -> None:
    from stvsr.data.shards.verify import verify_sets

    verify_sets(options.sets or SHARD_SETS)


def _show_shards(options: argparse.Namespace) -> None:
    from stvsr.data.shards.show import show_set

    show_set(options.set, options.out, options.clips)


def _train(options: argparse.Namespace) -> None:
    params = _params(options)
    flags = ["--profile"] if options.profile else []
    flags += ["--continue-with-changed-code"] if options.continue_with_changed_code else []
    if _done_as_job(options, params, flags):
        return
    from stvsr.launch.train import train

    with only_writer(options.out, holds="model.json"):
        train(
            params,
            options.shards,
            options.out,
            runs=options.runs,
            data_version=options.data_version,
            fresh=options.fresh,
            continue_with_changed_code=options.continue_with_changed_code,
            profile=options.profile,
            address=options.address,
        )


def _done_as_job(options: argparse.Namespace, params: "Params", flags: Sequence[str] = ()) -> bool:
    """Run `train` or `tune` as a job where the cluster's address takes jobs; whether it does."""
    address = options.address or os.environ.get("RAY_ADDRESS")
    if options.settings:
        from stvsr.launch.settings import apply_file

        apply_file(options.settings)
        os.chdir("/")  # paths are absolute in a job, and Ray may replace the folder it began in
    from stvsr.data.shards.storage import absolute
    from stvsr.launch.submit import run_as_job, takes_jobs

    if not takes_jobs(address):
        return False
    out = options.out.resolve()
    arguments = [
        f"--shards={absolute(options.shards)}",
        f"--out={out}",
        f"--runs={options.runs.resolve()}",
        *([f"--data-version={options.data_version}"] if options.data_version else []),
        *(["--fresh"] if options.fresh else []),
        *flags,
    ]
    status = run_as_job(address, options.verb, arguments, params, out)
    if status:
        raise SystemExit(status)
    return True


def _track(options: argparse.Namespace) -> None:
    params = _params(options)
    from stvsr.launch.track import sync_runs
    from stvsr.tracking.store import resolve_uri

    sync_runs(options.runs, resolve_uri(params.tracking.uri, Path().resolve()))


def _evaluate(options: argparse.Namespace) -> None:
    params = _params(options)
    from stvsr.data.shards.storage import inside
    from stvsr.evaluation.evaluate import evaluate

    with only_writer(options.out, holds="metrics.json"):
        evaluate(options.model, inside(options.shards, "test"), options.out, params.evaluate)


def _report(options: argparse.Namespace) -> None:
    from stvsr.evaluation.report import write_report

    with only_writer(options.out):
        write_report(options.evaluation, options.model, options.out / "index.html")


def _register(options: argparse.Namespace) -> None:
    params = _params(options)
    from stvsr.tracking.registry import register

    with only_writer(options.out, holds="version.json"):
        register(options.model, options.evaluation, params.register_, params.tracking, options.out)


def _tune(options: argparse.Namespace) -> None:
    params = _params(options)
    if _done_as_job(options, params):
        return
    from stvsr.launch.tune import tune

    with only_writer(options.out, holds="best.json"):
        tune(
            params,
            options.shards,
            options.out,
            runs=options.runs,
            resume=not options.fresh,
            data_version=options.data_version,
            address=options.address,
        )


def _import_checkpoint(options: argparse.Namespace) -> None:
    from stvsr.published import import_checkpoint

    with only_writer(options.out, holds="model.json"):
        import_checkpoint(options.model, options.file, options.out)


def _export_checkpoint(options: argparse.Namespace) -> None:
    from stvsr.published import export_checkpoint

    export_checkpoint(options.model, options.file)


def _show_params(options: argparse.Namespace) -> None:
    sys.stdout.write(_params(options).model_dump_json(indent=2, by_alias=True) + "\n")


def _summary(options: argparse.Namespace) -> None:
    from stvsr.summary import print_summary

    print_summary(Path())


def _doctor(options: argparse.Namespace) -> None:
    from stvsr.doctor import print_diagnosis

    print_diagnosis(Path())


def _params(options: argparse.Namespace) -> "Params":
    from stvsr.params import load_params

    return load_params(options.params)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stvsr",
        description="Space-time video super-resolution: clips to shards, shards to a trained "
        "network, a network to a report and a registered model.",
        epilog="The stages read params.yaml and are usually run, in their order, by `dvc repro`.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def plain_verb(name: str, run: Verb, help_: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=help_, description=help_)
        added.set_defaults(run=run)
        return added

    def verb(name: str, run: Verb, help_: str) -> argparse.ArgumentParser:
        added = plain_verb(name, run, help_)
        added.add_argument(
            "--params", type=Path, default=Path("params.yaml"), help="default: params.yaml"
        )
        return added

    fetched = plain_verb(
        "fetch", _fetch, "download Vimeo-90K; started again, it goes on where it was"
    )
    fetched.add_argument("dataset", choices=("vimeo90k",))
    _folder(fetched, "--out", "data/vimeo90k")
    fetched.add_argument(
        "--from", dest="mirror", metavar="URL", help="a mirror that has the zip and the lists"
    )

    source = verb("source", _source, "make the clips: the sample, cuts of videos, or Vimeo-90K")
    _folder(source, "--out", "data/source")

    index = verb("index", _index, "judge every clip and list the sound ones")
    _folder(index, "--source", "data/source")
    _folder(index, "--out", "data/index")

    shard = verb("shard", _shard, "degrade the clips of one split and pack them into shards")
    shard.add_argument("split", choices=("train", "test"))
    _folder(shard, "--index", "data/index")
    _folder(shard, "--out", "data/shards")

    shards = verbs.add_parser("shards", help="verify sets of shards, or show what is in one")
    of_shards = shards.add_subparsers(dest="what", metavar="WHAT", required=True)
    verify = of_shards.add_parser("verify", help="re-read every byte and name all damage")
    verify.add_argument("sets", nargs="*", metavar="SET", help=f"default: {' '.join(SHARD_SETS)}")
    verify.set_defaults(run=_verify_shards)
    show = of_shards.add_parser("show", help="print what a set holds and draw a contact sheet")
    show.add_argument("set", metavar="SET", help="folder, or an address such as s3://BUCKET/SET")
    show.add_argument("--out", type=Path, help="the picture; default: SET-contact-sheet.png")
    show.add_argument("--clips", type=_positive, default=12, help="clips in it; default: 12")
    show.set_defaults(run=_show_shards)

    train = verb("train", _train, "train on the shards; started again, it goes on where it was")
    _address(train, "--shards", "data/shards")
    _folder(train, "--out", "model")
    _folder(train, "--runs", "runs")
    train.add_argument("--data-version", default="", help="DVC's hash of the shards, to be logged")
    train.add_argument("--fresh", action="store_true", help="throw the run's state away first")
    train.add_argument(
        "--continue-with-changed-code",
        action="store_true",
        help="resume the run that other code began; its record and model card list both",
    )
    _cluster(train)
    train.add_argument("--profile", action="store_true", help="write a trace of a few steps")

    track = verb("track", _track, "upload to MLflow what it missed of the runs while it was down")
    track.add_argument("action", choices=("sync",))
    _folder(track, "--runs", "runs")

    evaluate = verb("evaluate", _evaluate, "score the network against the bicubic+linear baseline")
    _folder(evaluate, "--model", "model")
    _address(evaluate, "--shards", "data/shards")
    _folder(evaluate, "--out", "evaluation")

    report = plain_verb("report", _report, "write the report, one HTML page")
    _folder(report, "--evaluation", "evaluation")
    _folder(report, "--model", "model")
    _folder(report, "--out", "report")

    register = verb("register", _register, "register the network as a version in MLflow")
    _folder(register, "--model", "model")
    _folder(register, "--evaluation", "evaluation")
    _folder(register, "--out", "registration")

    tune = verb("tune", _tune, "search k, T and the learning rate with Ray Tune")
    _address(tune, "--shards", "data/shards")
    _folder(tune, "--out", "tune")
    _folder(tune, "--runs", "runs")
    tune.add_argument("--data-version", default="", help="DVC's hash of the shards, to be logged")
    tune.add_argument("--fresh", action="store_true", help="forget an interrupted search")
    _cluster(tune)

    imported = plain_verb(
        "import-checkpoint", _import_checkpoint, "turn a published checkpoint into a model folder"
    )
    imported.add_argument("model", help="stdan or zooming_slowmo")
    imported.add_argument("file", type=Path, help="the published checkpoint")
    imported.add_argument("out", type=Path, help="folder of the model")

    exported = plain_verb(
        "export-checkpoint", _export_checkpoint, "write a model folder's weights as published ones"
    )
    exported.add_argument("model", type=Path, help="folder of the model")
    exported.add_argument("file", type=Path, help="the checkpoint to write")

    verb("params", _show_params, "check params.yaml and print every parameter with its value")
    plain_verb("summary", _summary, "print what the last run gave: report, table, version")
    plain_verb("doctor", _doctor, "say what this machine has and what is missing for which job")
    return parser


def _folder(parser: argparse.ArgumentParser, flag: str, default: str) -> None:
    parser.add_argument(flag, type=Path, default=Path(default), help=f"default: {default}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 1, 2, 3, …")
    return int(text)


def _address(parser: argparse.ArgumentParser, flag: str, default: str) -> None:
    help_ = f"folder, or an address such as s3://BUCKET/FOLDER; default: {default}"
    parser.add_argument(flag, default=default, help=help_)


def _cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        help="the Ray cluster: http://HOST:8265 or ray://HOST:10001 runs this there as a job, "
        "HOST:6379 joins from one of its nodes; default: RAY_ADDRESS, or else this machine",
    )
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)


if __name__ == "__main__":
    sys.exit(main())
