"""The function of each Ray Train worker: build the parts of a run and train."""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from torch import nn

from stvsr.artifact import read_tensors
from stvsr.core.clip import ClipBatch
from stvsr.core.errors import StvsrError, TrainingError
from stvsr.core.extras import naming_extras
from stvsr.core.log import set_up_logging
from stvsr.core.world import World
from stvsr.data.loading.loader import eval_clips, train_batches
from stvsr.data.shards.read import ShardSet
from stvsr.data.shards.storage import inside
from stvsr.evaluation.pictures import before_after
from stvsr.launch.job import TrainJob, weights_code
from stvsr.launch.track import open_tracker, tracked
from stvsr.models import build_model
from stvsr.training.loop import Trainer, make_optimizer
from stvsr.training.run import read_run
from stvsr.training.start import freeze, start_at
from stvsr.training.validation import score_clips

logger = logging.getLogger(__name__)


def train_worker(config: Mapping[str, str]) -> None:
    """Train the run of a job from its newest checkpoint to its end; Ray Train calls this.

    Starting again does not help against a StvsrError, and Ray starts a loop that raised again: so
    it is written to the conversation, which ends every later start at once.
    """
    job = TrainJob.model_validate_json(config["job"])
    job.settings.apply()
    if not Path(job.run).is_dir():
        raise TrainingError(
            f"{job.run}: node {ray.util.get_node_ip_address()} does not see this folder; put data "
            "and runs on storage that all nodes share, under the same absolute path"
        )
    talk = job.conversation
    if talk.is_refused:
        return
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), context.get_local_rank())
    if world.is_main:
        set_up_logging(file=talk.log)
        logger.info("%d of %d workers train", world.size, job.params.train.workers)
    try:
        _refuse_other_code(job)
        with naming_extras():
            build_trainer(job, world, ray.train.torch.get_device()).run()
    except StvsrError as error:
        talk.refuse(error)
        if world.size > 1:
            raise  # the other ranks may wait for this one in a collective
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = (str(error).strip().splitlines() or ["no reason given"])[0]
        logger.warning(
            "a worker fails: %s: %s (%s, line %d)",
            type(error).__name__, what, place.filename, place.lineno,
        )  # fmt: skip
        raise


def _refuse_other_code(job: TrainJob) -> None:
    """Refuse to train with other code than the run's record names, as after an edit."""
    found = weights_code(job.params.model.name) if job.code else ""
    if found != job.code:
        raise TrainingError(
            f"{job.run}: node {ray.util.get_node_ip_address()} has code {found[:8]}, this run was "
            f"started with {job.code[:8]}",
            remedy="install the same stvsr on all nodes; after an edit run the command again, with "
            "--continue-with-changed-code if the run is to continue with it",
        )


def build_trainer(job: TrainJob, world: World, device: torch.device) -> Trainer:
    """The parts of a run, put together.

    Args:
        job: what to train.
        world: this process among its peers; `torch.distributed` is initialised if there are any.
        device: where this process trains.
    """
    params = job.params
    run = read_run(Path(job.run))
    train_set = ShardSet.open(inside(job.shards, "train"), damaged_tars=params.loader.skips_damage)
    test_set = ShardSet.open(inside(job.shards, "test"))
    torch.manual_seed(params.seed)
    model = build_model(params.model)
    if job.start:
        weights = read_tensors(Path(job.start_file), job.start)
        start_at(model, weights, job.start_file, partly=params.train.start_partly)
    freeze(model, params.train.freeze)
    model.to(device)

    def batches(step: int) -> Iterator[ClipBatch]:
        return train_batches(
            params.loader,
            train_set,
            seed=params.seed,
            start_step=step,
            stop_step=params.train.steps,
            global_batch=params.train.batch_size,
            crop=params.train.crop,
            world=world,
            device=device,
        )

    def validate(network: nn.Module) -> Iterator[dict[str, float]]:
        chosen = spread(len(test_set), params.train.validate_clips)
        with closing(
            eval_clips(test_set, chosen[world.rank :: world.size], device=device)
        ) as clips:
            for clip in clips:
                yield from score_clips(network, [clip])

    def draw(network: nn.Module) -> bytes:
        return before_after(
            network, next(eval_clips(test_set, [len(test_set) // 2], device=device))
        )

    def report(step: int, scores: Mapping[str, float]) -> None:
        if job.reports:
            ray.train.report({"step": step, **scores})

    return Trainer(
        model=model,
        optimizer=make_optimizer(model, params.train),
        batches=batches,
        run=run,
        config=params.train,
        seed=params.seed,
        world=world,
        validate=validate,
        after_validation=report,
        draw=draw,
        open_tracker=lambda: open_tracker(job.tracking_uri, run, tracked(job)),
        should_stop=job.conversation.stop.exists,
        profile=job.conversation.trace if job.profile else None,
    )


def spread(n: int, wanted: int) -> list[int]:
    """At most `wanted` of the positions 0..n-1, evenly spread, so that all kinds of clip are in."""
    count = min(n, wanted)
    return [position * n // count for position in range(count)]
