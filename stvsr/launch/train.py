"""`stvsr train`: one run under Ray Train, from its newest checkpoint to a model folder."""

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from stvsr.artifact import (
    START_FOLDER,
    TRAINING_FILE,
    Card,
    load_artifact,
    load_weights,
    save_artifact,
)
from stvsr.core.errors import (
    BusyError,
    CheckpointError,
    LeaveAtOnceError,
    ServiceError,
    ShardError,
    StvsrError,
    TrainingError,
)
from stvsr.core.files import only_writer, whole_folder, write_text_whole
from stvsr.data.loading.loader import LoaderConfig
from stvsr.data.shards.format import Lineage
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.storage import Address, inside
from stvsr.launch.cluster import CapacityMonitor, cluster, worker_resources
from stvsr.launch.follow import following
from stvsr.launch.job import TrainJob, deciding_parameters, new_job, present_code, run_stem
from stvsr.launch.probe import refuse_unshared_storage
from stvsr.launch.start import Start, find_start
from stvsr.launch.torch_store import torch_config
from stvsr.launch.track import WEIGHTS_FILE, remember, training_facts
from stvsr.launch.worker import train_worker
from stvsr.models import build_model
from stvsr.params import Params
from stvsr.tracking.mlflow_tracker import tag_weights
from stvsr.tracking.store import resolve_uri
from stvsr.training.checkpoint import Checkpoint, Checkpoints
from stvsr.training.history import read_history_until, write_csv
from stvsr.training.run import (
    RunFolder,
    RunRecord,
    card_of,
    continue_run,
    find_run,
    flatten,
    open_run,
    read_run,
)
from stvsr.training.signals import stop_on_signals

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Restarts of failed workers that are allowed while the run makes no progress."""

POLL_SECONDS = 0.3
"""How often the command looks at the run's log."""

CAPACITY_SECONDS = 2.0
"""How often the command looks at the cluster's nodes."""

IDLE_SECONDS = 3.0
"""Seconds without a training worker before a command with a stop request exits."""

RESIZE_SECONDS = 10.0
"""How often an elastic run looks whether it may grow; only a change costs it a restart."""


def train(
    params: Params,
    shards: Address,
    out: Path,
    *,
    runs: Path,
    data_version: str = "",
    fresh: bool = False,
    continue_with_changed_code: bool = False,
    profile: bool = False,
    address: str | None = None,
) -> None:
    """Train the network of `params` and write the model folder, with its curves, to `out`.

    The run's state is in `runs`/NAME, NAME from what decides the weights: parameters, data and
    code. Started again, after whatever end, the run resumes from its newest complete checkpoint; a
    finished one is only written out again.

    Args:
        params: all parameters.
        shards: folder, or address, with the shard sets `train` and `test`.
        out: the model folder, history.csv and the model folder of what the run started from;
            appears whole or not at all.
        runs: folder of all runs' states, on storage that all workers share.
        data_version: DVC's hash of the shards, for the tracker.
        fresh: throw the run's state away first.
        continue_with_changed_code: resume the run of these parameters that other code began.
        profile: write a trace of a few steps to the run's folder.
        address: HOST:PORT of the cluster; None: RAY_ADDRESS, or else a local one.

    Raises:
        StvsrError: anything that the user can act on, in one line.
    """
    if fresh and continue_with_changed_code:
        raise TrainingError(
            "--fresh and --continue-with-changed-code: found both; give one of them"
        )
    wanted = _find_wanted(
        params,
        shards,
        runs.resolve(),
        data_version,
        continue_with_changed_code=continue_with_changed_code,
        fresh=fresh,
    )
    if not (fresh or wanted.path.exists()) and _is_published(out, wanted):
        logger.info("%s: is the model of this run already; --fresh trains anew", out)
        return
    uri = resolve_uri(params.tracking.uri, Path().resolve())
    newest = None if fresh else Checkpoints(wanted.open().checkpoints).newest_whole()
    if newest is None or newest.counters.step < params.train.steps:
        with cluster(address):
            newest = _train_to_the_end(
                wanted, newest, params, shards, uri, fresh=fresh, profile=profile
            )
    else:
        logger.info(
            "%s: is at step %d, its last; --fresh trains anew", wanted.path, params.train.steps
        )
    card = _publish(read_run(wanted.path), newest, wanted.start, out)
    write_text_whole(wanted.path / WEIGHTS_FILE, f"{card.weights_sha256}\n")
    _tag(uri, wanted.path, card, out)


@dataclass(frozen=True)
class _WantedRun:
    """The run that a command asks for, which may have begun before.

    Attributes:
        path: its folder.
        stem: the part of its name that its parameters decide.
        record: what its record is if it begins now.
        start: the network that it starts from; None: random weights.
    """

    path: Path
    stem: str
    record: RunRecord
    start: Start | None

    def open(self, *, fresh: bool = False) -> RunFolder:
        """Make the run's folder, or find what is there; errors as `open_run`."""
        return open_run(
            self.path,
            self.record.parameters,
            self.record.code[0],
            data_version=self.record.data_version,
            start_from=self.record.start_from,
            fresh=fresh,
        )


def _find_wanted(
    params: Params,
    shards: Address,
    runs: Path,
    data_version: str,
    *,
    continue_with_changed_code: bool,
    fresh: bool,
) -> _WantedRun:
    """The run of these parameters, this data and this code; nothing is written."""
    lineage = checked_lineage(shards, params.loader)
    start = find_start(params)
    sha256, name = (start.sha256, start.name) if start else ("", "")
    stem, code = run_stem(params, lineage, sha256), present_code(params.model.name)
    path = find_run(
        runs, stem, code, continue_with_changed_code=continue_with_changed_code, fresh=fresh
    )
    record = RunRecord(
        parameters=flatten(deciding_parameters(params, lineage, sha256)),
        code=(code,),
        data_version=data_version,
        start_from=name,
    )
    return _WantedRun(path, stem, record, start)


def _train_to_the_end(
    wanted: _WantedRun,
    newest: Checkpoint | None,
    params: Params,
    shards: Address,
    uri: str,
    *,
    fresh: bool,
    profile: bool,
) -> Checkpoint:
    """Train on the cluster that is connected; the last checkpoint.

    What `fresh` throws away, and the record of other code, change when nothing is in the way any
    more.
    """
    planned = RunFolder(wanted.path, wanted.record)
    refuse_unshared_storage(new_job(params, shards, planned, tracking_uri=uri))
    resources = worker_resources(params.train.workers, params.train.min_workers)
    wanted.open(fresh=fresh)
    step = newest.counters.step if newest else 0
    run = continue_run(wanted.path, wanted.record.code[0], step)
    if wanted.start:
        logger.info("train.start_from: the weights of %s", wanted.start.name)
        wanted.start.keep(wanted.path)
    sha256 = wanted.start.sha256 if wanted.start else ""
    fit(new_job(params, shards, run, tracking_uri=uri, profile=profile, start=sha256), resources)
    last = Checkpoints(run.checkpoints).newest_whole()
    if last is None:
        raise TrainingError(
            f"{run.path}: the run ended without a checkpoint; see {run.path / 'train.log'}"
        )
    return last


def _tag(uri: str, run: Path, card: Card, out: Path) -> None:
    """Name the weights in the run's MLflow run; a store that fails costs a warning."""
    try:
        tag_weights(uri, run, card.weights_sha256)
    except ServiceError as error:
        logger.warning(
            "tracker: %s; the trained network is in %s all the same, and `stvsr track sync` "
            "uploads the run when the store is back",
            error,
            out,
        )


def fit(job: TrainJob, resources: Mapping[str, float]) -> None:
    """Run a job's workers on the cluster that is connected, showing its log, to its end.

    Workers that die are started again as long as the run gets further in between. SIGTERM and
    Ctrl-C let the step end, save a checkpoint, and raise; a second one does not wait.
    Where no worker trains there is nothing to save, and nothing to wait for.

    Args:
        job: what to train.
        resources: what each worker gets, as `worker_resources` says.

    Raises:
        TrainingError: a worker refused to train, or workers died too often.
        LeaveAtOnceError: it was stopped, and Ray is still busy with it.
    """
    checkpoints = Checkpoints(read_run(Path(job.run)).checkpoints)
    with stop_on_signals() as asked:
        job.conversation.stop.unlink(missing_ok=True)
        remember(job)
        while True:
            before = checkpoints.steps()[:1]
            error = _fit_once(job, resources, asked)
            after = checkpoints.steps()[:1]
            if error is None or job.conversation.is_refused or after == before or asked():
                break
            logger.warning(
                "%s: its workers failed %d times, but it got from step %d to %d: it resumes",
                job.run, MAX_FAILURES + 1, *(before or [0]), *after,
            )  # fmt: skip
        is_ours = job.conversation.is_refused or isinstance(error, StvsrError)
        if asked() and error and not is_ours:
            # Ray got the same signal and ended its workers before they had saved
            step = next(iter(checkpoints.steps()), 0)
            raise TrainingError(
                f"{job.run}: stopped as asked after step {step} of {job.params.train.steps}",
                resumable=True,
            ) from error
    raise_refusal(job, error)


def _fit_once(
    job: TrainJob, resources: Mapping[str, float], asked: Callable[[], bool]
) -> BaseException | None:
    """Run Ray Train's trainer in a thread and look after it; returns what it failed with."""
    run, talk = Path(job.run), job.conversation
    train = job.params.train
    monitor = CapacityMonitor(resources, train.workers, train.min_workers)
    outcome = _Outcome(make_torch_trainer(job, resources).fit)
    thread = threading.Thread(target=outcome, daemon=True)
    next_look = last_busy = time.monotonic()
    try:
        with following(talk.log, talk.history, train.steps) as follower:
            thread.start()
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                follower.look()
                now = time.monotonic()
                if not asked() or _is_training(run):
                    last_busy = now
                if asked() and not talk.stop.exists():
                    talk.stop.touch()
                    logger.warning("stopping: the step is ended and a checkpoint saved")
                if asked() and (monitor.waits or now - last_busy > IDLE_SECONDS):
                    what = "it waited for a node" if monitor.waits else "no worker was training"
                    return LeaveAtOnceError(f"{run}: stopped as asked while {what}")
                if not asked() and now >= next_look:
                    monitor.look()
                    next_look = now + CAPACITY_SECONDS
    except KeyboardInterrupt:
        raise LeaveAtOnceError("interrupted", status=130) from None
    finally:
        shutil.rmtree(talk.ray, ignore_errors=True)
    return outcome.error


def _is_training(run: Path) -> bool:
    """True if a worker holds the run's folder: from before its first step to after its last."""
    try:
        with only_writer(run):
            return False
    except BusyError:
        return True


def make_torch_trainer(
    job: TrainJob,
    resources: Mapping[str, float],
    callbacks: Sequence[Any] = (),
    max_failures: int = MAX_FAILURES,
) -> TorchTrainer:
    """Ray Train's trainer of a job; `resources` is what each worker gets."""
    train = job.params.train
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job.model_dump_json(by_alias=True)},
        torch_config=torch_config(),
        scaling_config=ScalingConfig(
            num_workers=(train.min_workers, train.workers) if train.min_workers else train.workers,
            use_gpu="GPU" in resources,
            resources_per_worker=dict(resources),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=job.attempt,
            storage_path=str(job.conversation.ray),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[*callbacks],
        ),
    )
    if train.min_workers:
        # An elastic run reserves its resources under this name, and the reservation of a driver
        # that was killed holds for three minutes: with the same name, its successor takes it over.
        name = uuid.uuid5(uuid.NAMESPACE_URL, job.run).hex
        object.__setattr__(trainer.train_run_context, "run_id", name)  # which Ray draws and freezes
    return trainer


def raise_refusal(job: TrainJob, error: BaseException | None) -> None:
    """Raise what a job's worker refused, or what Ray failed with; return if neither did."""
    if refusal := job.conversation.take_refusal():
        kind = LeaveAtOnceError if isinstance(error, LeaveAtOnceError) else TrainingError
        raise kind(refusal.text, remedy=refusal.remedy, resumable=refusal.resumable)
    if isinstance(error, TrainingError):
        raise error
    if error is not None:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise TrainingError(
            f"{job.run}: its workers failed once too often, with: {last}",
            remedy=f"see {job.conversation.log}",
            resumable=True,
        ) from error


class _Outcome:
    """Calls a function in a thread and keeps what it raises."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._call()
        except Exception as error:
            self.error = error


def checked_lineage(shards: Address, loader: LoaderConfig) -> Lineage:
    """Lineage of the training set; both sets must be there, degraded alike."""
    train_set = ShardSet.open(inside(shards, "train"), damaged_tars=loader.skips_damage)
    test_set = ShardSet.open(inside(shards, "test"))
    trained, tested = train_set.lineage.degradation, test_set.lineage.degradation
    if trained != tested:
        raise ShardError(
            f"{shards}: train was degraded with {trained}, test with {tested}; "
            "they must be alike: run `dvc repro shard` again"
        )
    return train_set.lineage


def _is_published(out: Path, wanted: _WantedRun) -> bool:
    """True if `out` holds the whole, finished model of these parameters and this code."""
    try:
        _, card = load_artifact(out)
    except CheckpointError:
        return False
    last = card.code[-1].fingerprint if card.code else ""
    is_code = last == wanted.record.code[0].fingerprint
    return card.run.startswith(f"{wanted.stem}-") and is_code and card.step == card.steps_total


def _publish(run: RunFolder, checkpoint: Checkpoint, start: Start | None, out: Path) -> Card:
    """Write the model folder (the averaged weights, if the run keeps any), start and curves."""
    card = card_of(run, checkpoint.counters.step)
    model = build_model(card.model)
    load_weights(model, checkpoint.ema or checkpoint.weights, str(run.path))
    with whole_folder(out) as partial:
        card = save_artifact(partial, model, card)
        records = read_history_until(run.history, card.step, checkpoint.records)
        write_csv(records, partial / "history.csv")
        if facts := training_facts(run):
            (partial / TRAINING_FILE).write_text(facts.model_dump_json(indent=1) + "\n", "utf-8")
        if start:
            start.publish(partial / START_FOLDER)
    return card
