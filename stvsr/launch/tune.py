"""`stvsr tune`: Ray Tune over STDAN's k, T_top and learning rate, each trial a Ray Train run."""

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd  # type: ignore[import-untyped]
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch
from rich.table import Table

from stvsr.core.errors import ParamsError, ServiceError, TrainingError
from stvsr.core.files import only_writer, whole_folder
from stvsr.core.terminal import output
from stvsr.data.shards.storage import Address
from stvsr.launch.cluster import cluster, free_cores, worker_resources
from stvsr.launch.job import TrainJob, deciding_parameters, new_job, present_code
from stvsr.launch.probe import refuse_unshared_storage
from stvsr.launch.start import Start, find_start
from stvsr.launch.track import remember
from stvsr.launch.train import (
    MAX_FAILURES,
    checked_lineage,
    make_torch_trainer,
    raise_refusal,
)
from stvsr.params import Params, TuneConfig, parse_params
from stvsr.tracking.mlflow_tracker import MlflowTracker
from stvsr.tracking.search import close_search
from stvsr.tracking.store import resolve_uri
from stvsr.training.run import RunFolder, RunRecord, fingerprint, flatten, open_run, read_run

logger = logging.getLogger(__name__)

SCORE = "psnr_y"
"""Aim of the search: PSNR-Y over all frames of the validation clips, in dB."""

SEARCHED = ("k", "T_top", "learning_rate")
"""Parameters that a search varies."""

COLUMNS = ("trial", "k", "T_top", "learning_rate", "step", SCORE, f"{SCORE}_input",
           f"{SCORE}_interpolated", "end")  # fmt: skip
"""Columns of the table, best trial first."""

TRIAL_RESOURCES = {"memory": 64.0 * 1024**2}
"""Resources of a trial itself; its workers take the cores."""


def tune(
    params: Params,
    shards: Address,
    out: Path,
    *,
    runs: Path,
    resume: bool,
    data_version: str = "",
    address: str | None = None,
) -> None:
    """Search k, T_top and the learning rate; print the table and keep it in `out`.

    Optuna proposes, ASHA stops the weaker trials early. An interrupted search resumes with the
    trials it had.

    Args:
        params: `tune` says how far to search, the other sections what every trial shares.
        shards: folder, or address, with the shard sets `train` and `test`.
        out: folder that gets table.csv and best.json, whole or not at all.
        runs: folder of all runs' states, on storage that all workers share.
        resume: resume an interrupted search of the same parameters.
        data_version: DVC's hash of the shards, for the tracker.
        address: HOST:PORT of the cluster; None: RAY_ADDRESS, or else a local one.

    Raises:
        StvsrError: anything that the user can act on, in one line.
    """
    if params.model.name != "stdan":
        raise ParamsError(
            f"model.name: found {params.model.name!r}; allowed with `stvsr tune`: 'stdan', whose k "
            "and T_top it searches"
        )
    uri = resolve_uri(params.tracking.uri, Path().resolve())
    run, start = _wanted_search(params, shards, runs.resolve(), data_version)
    sha256 = start.sha256 if start else ""
    job = new_job(params, shards, run, tracking_uri=uri, reports=True, start=sha256)
    with cluster(address, dashboard=True), ExitStack() as held:
        refuse_unshared_storage(job)
        open_run(
            run.path, run.parameters, run.record.code[0],
            data_version=data_version, start_from=run.record.start_from, fresh=not resume,
        )  # fmt: skip
        held.enter_context(only_writer(run.path))
        if start:
            start.keep(run.path)
        tracker = MlflowTracker(
            uri, params.tracking.experiment, run.path.name, run.path, tags=job.tags
        )
        tracker.log_params(run.parameters)
        try:
            parented = job.model_copy(update={"parent": tracker.run_id})
            table = _search(parented, run.path, params.tune, params.seed)
        finally:
            free_cores()
    best = _best(table)
    _keep(table, best, out)
    _print(table, best, out)
    _close(uri, params.tracking.experiment, tracker.run_id, best, out)


def _wanted_search(
    params: Params, shards: Address, runs: Path, data_version: str
) -> tuple[RunFolder, Start | None]:
    """The search of these parameters, data and code, and its start; nothing is written."""
    lineage = checked_lineage(shards, params.loader)
    start = find_start(params)
    code = present_code(params.model.name)
    deciding = flatten(
        {
            **deciding_parameters(params, lineage, start.sha256 if start else ""),
            "tune": params.tune.model_dump(),
            "code": code.fingerprint,
        }
    )
    record = RunRecord(
        parameters=deciding,
        code=(code,),
        data_version=data_version,
        start_from=start.name if start else "",
    )
    return RunFolder(runs / f"tune-{fingerprint(deciding)}", record), start


def _keep(table: pd.DataFrame, best: Mapping[str, Any], out: Path) -> None:
    """Write table.csv and best.json, whole or not at all."""
    with whole_folder(out) as partial_out:
        table.to_csv(partial_out / "table.csv", index=False)
        (partial_out / "best.json").write_text(json.dumps(best, indent=2) + "\n")


def _close(uri: str, experiment: str, run_id: str, best: Mapping[str, Any], out: Path) -> None:
    """End the search's MLflow run with its result; a store that fails costs a warning."""
    numbers = {key: value for key, value in best.items() if isinstance(value, float | int)}
    try:
        close_search(uri, experiment, run_id, out, numbers)
    except ServiceError as error:
        logger.warning("tracker: %s; the search's result is in %s all the same", error, out)


def run_trial(config: Mapping[str, Any], job_json: str, steps: int, report_every: int) -> None:
    """One trial, in a process of Tune's: a Ray Train run with the trial's k, T_top and rate."""
    base = TrainJob.model_validate_json(job_json)
    params = trial_params(base.params, config, steps, report_every)
    path = Path(base.run) / f"trial-{ray_tune.get_context().get_trial_id()}"
    _open_trial(path, read_run(Path(base.run)).record, params)
    job = base.model_copy(update={"params": params, "run": str(path)})
    remember(job)
    job.conversation.raise_refusal()  # Tune starts again what failed, and this would end alike
    shutil.rmtree(path / "ray", ignore_errors=True)
    resources = worker_resources(params.train.workers * base.params.tune.concurrent)
    error: Exception | None = None
    try:
        make_torch_trainer(job, resources, [TuneReportCallback()], max_failures=0).fit()
    except Exception as failure:  # Ray raises its own kinds; raise_refusal says which it was
        error = failure
    job.conversation.raise_refusal()
    raise_refusal(job, error)


def _open_trial(path: Path, search: RunRecord, params: Params) -> None:
    """Make a trial's folder: its record is the search's, with the trial's own model and recipe."""
    own = {"model": params.model.model_dump(mode="json"), "train": params.train.deciding()}
    replaced = ("model.", "train.", "tune.", "code")
    shared = {k: v for k, v in search.parameters.items() if not k.startswith(replaced)}
    open_run(
        path,
        {**shared, **flatten(own)},
        search.code[-1],
        data_version=search.data_version,
        start_from=search.start_from,
    )


def trial_params(
    params: Params, config: Mapping[str, Any], steps: int, report_every: int
) -> Params:
    """The parameters of one trial; refused like those of a file if they do not fit together."""
    raw = params.model_dump(mode="json", by_alias=True)
    raw["model"] |= {"k": config["k"], "T_top": config["T_top"]}
    raw["train"] |= {
        "learning_rate": config["learning_rate"],
        "min_learning_rate": min(params.train.min_learning_rate, config["learning_rate"]),
        "steps": steps,
        "validate_every": report_every,
        "checkpoint_every": report_every,
        "min_workers": None,
    }
    return parse_params(raw, "trial")


def suggest(trial: optuna.Trial, config: TuneConfig) -> None:
    """Draw one trial's k, T_top in 1..k² and learning rate."""
    k = trial.suggest_categorical("k", list(config.k))
    trial.suggest_int("T_top", 1, k * k)
    trial.suggest_float(
        "learning_rate", config.learning_rate_min, config.learning_rate_max, log=True
    )


def _search(job: TrainJob, folder: Path, config: TuneConfig, seed: int) -> pd.DataFrame:
    """Run all trials, or those that an interrupted search had left, and return their table."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours to answer
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # what a trial does is ours to say
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", "The reported value is ignored")  # of a trial started again
    trainable = ray_tune.with_resources(
        partial(
            run_trial,
            job_json=job.model_dump_json(by_alias=True),
            steps=config.steps,
            report_every=config.report_every,
        ),
        TRIAL_RESOURCES,
    )
    experiment = folder / "ray"
    if ray_tune.Tuner.can_restore(str(experiment)):
        logger.info("%s: the interrupted search resumes", folder)
        tuner = ray_tune.Tuner.restore(
            str(experiment), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        tuner = _new_tuner(trainable, experiment, config, seed)
    results = tuner.fit()
    table = results.get_dataframe()
    if table.empty or SCORE not in table:
        raise TrainingError(
            f"{folder}: none of the {len(results)} trials reported a score",
            remedy="see the train.log in its folders",
            resumable=True,
        )
    ended = (results[number] for number in range(len(results)))
    failed = {(result.metrics or {}).get("trial_id") for result in ended if result.error}
    return _table(table, config.steps, failed)


def _new_tuner(
    trainable: Callable[..., Any], experiment: Path, config: TuneConfig, seed: int
) -> ray_tune.Tuner:
    searcher = OptunaSearch(
        space=partial(suggest, config=config), metric=SCORE, mode="max", seed=seed
    )
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            metric=SCORE,
            mode="max",
            num_samples=config.trials,
            search_alg=ConcurrencyLimiter(searcher, max_concurrent=config.concurrent),
            scheduler=ASHAScheduler(
                time_attr="step",
                max_t=config.steps,
                grace_period=min(config.grace_steps, config.steps),
                reduction_factor=config.reduction_factor,
            ),
        ),
        run_config=ray_tune.RunConfig(
            name=experiment.name,
            storage_path=str(experiment.parent),
            verbose=0,
            # A trial is started again as a whole, and resumes from its newest checkpoint: a worker
            # group of Train's that starts again while its trial is stopped would keep its cores.
            failure_config=ray_tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[_Progress(config)],
        ),
    )


class _Progress(ray_tune.Callback):
    """Says what each trial reports."""

    def __init__(self, config: TuneConfig) -> None:
        self._config = config

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        logger.info("trial %s (%d of %d) starts: %s", trial.trial_id, len(trials),
                    self._config.trials, _shown(trial.config))  # fmt: skip

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        logger.info(
            "trial %s  step %d/%d  PSNR-Y %.3f dB",
            trial.trial_id, result["step"], self._config.steps, result[SCORE],
        )  # fmt: skip

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        logger.warning("trial %s failed (%s): %s", trial.trial_id, _shown(trial.config),
                       _reason(trial))  # fmt: skip

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        logger.warning("trial %s is started again after: %s", trial.trial_id, _reason(trial))


def _reason(trial: Trial) -> str:
    """Why a trial failed: the last line of what it raised."""
    lines = Path(trial.error_file).read_text().strip().splitlines() if trial.error_file else []
    return re.sub(r"^[\w.]+: ", "", lines[-1]) if lines else "no reason given"


def _shown(config: Mapping[str, Any]) -> str:
    return f"k {config['k']}, T_top {config['T_top']}, learning rate {config['learning_rate']:.2e}"


def _table(reported: pd.DataFrame, steps: int, failed: Collection[str | None]) -> pd.DataFrame:
    """The table of a search, best trial first; trials without any report are in the log alone.

    Args:
        reported: the last report of each trial, as Ray Tune has it.
        steps: of a trial that is not stopped early.
        failed: ids of the trials that failed after a report.
    """
    names = {"trial_id": "trial", **{f"config/{name}": name for name in SEARCHED}}
    table = reported.rename(columns=names)
    table["end"] = [
        "failed" if trial in failed else "all steps" if step >= steps else "stopped early"
        for trial, step in zip(table["trial"], table["step"], strict=True)
    ]
    table = table.reindex(columns=list(COLUMNS))
    return table.sort_values(SCORE, ascending=False, ignore_index=True)


def _best(table: pd.DataFrame) -> dict[str, Any]:
    """The first row, in Python's own types."""
    best: dict[str, Any] = json.loads(table.iloc[0].to_json(double_precision=15))
    return best


def _print(table: pd.DataFrame, best: Mapping[str, Any], out: Path) -> None:
    shown = Table(title="Search, best first (PSNR-Y in dB)", title_justify="left")
    for name in COLUMNS:
        shown.add_column(name)
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console = output(width=120)
    console.print(shown)
    sections = {"k": "model", "T_top": "model", "learning_rate": "train"}
    setting = " ".join(f"-S {sections[name]}.{name}={best[name]}" for name in SEARCHED)
    console.print(f"kept in     {out / 'table.csv'}", soft_wrap=True)
    console.print(f"train it    dvc exp run {setting}", soft_wrap=True)


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
