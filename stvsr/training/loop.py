"""The training loop: parts are passed in, and all state is in the run's folder.

The loop runs in one process, under torchrun, or in a Ray worker; with more than one rank
`torch.distributed` is initialised before. All that a step does is a function of (seed, step,
rank), so a run that was killed at any moment and started again ends, on the same CPU and with
the same number of ranks, with the very bits of the run that was not.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from stvsr.core.clip import ClipBatch
from stvsr.core.errors import TrainingError
from stvsr.core.files import only_writer, write_bytes_whole
from stvsr.core.world import World
from stvsr.losses import charbonnier
from stvsr.training.config import TrainConfig, uneven_split
from stvsr.training.counters import Counters, log_record
from stvsr.training.due import AfterStep, End, Intervals, Validation, due, validation_due
from stvsr.training.ema import Ema
from stvsr.training.gradients import FlatGradients
from stvsr.training.history import read_history
from stvsr.training.meter import Meter
from stvsr.training.offsets import OffsetMeter
from stvsr.training.profile import traced
from stvsr.training.ranks import Ranks
from stvsr.training.run import RunFolder
from stvsr.training.schedule import learning_rate_at
from stvsr.training.state import TrainingState
from stvsr.training.step_graph import StepGraph
from stvsr.training.tracker import ForgivingTracker, NullTracker, Status, Tracker
from stvsr.training.validation import SCORE, mean_scores

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

PICTURE = "before-after.png"
"""Name of the last validation's picture, in the run's folder and in the tracker."""


class TrainingInterruptedError(TrainingError):
    """Training ended at a stop request; its state is saved and the same command resumes."""


@dataclass(frozen=True)
class TrainSummary:
    """End of a run.

    Attributes:
        step: optimizer steps done, all that were asked for.
        resumed_from: the step this process started from, 0 for a new run.
        skipped_steps: steps, over the whole run, whose loss or gradient was not finite.
        loss: mean loss over the steps of the history's last record; None if all were skipped.
        validation: what the last validation found, such as "psnr_y_input" in dB.
    """

    step: int
    resumed_from: int
    skipped_steps: int
    loss: float | None
    validation: Mapping[str, float]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """Adam over the network's trained parameters, which are on the device that trains already."""
    return torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=next(model.parameters()).is_cuda or None,  # one kernel in place of hundreds
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's random numbers (dropped paths) on one rank in one step; 63 bits."""
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Trainer:
    """The training of a network, from its run's newest checkpoint to the last step."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Callable[[int], Iterator[ClipBatch]],
        run: RunFolder,
        config: TrainConfig,
        seed: int,
        world: World | None = None,
        validate: Callable[[nn.Module], Iterable[Mapping[str, float]]] | None = None,
        after_validation: Callable[[int, Mapping[str, float]], None] | None = None,
        draw: Callable[[nn.Module], bytes] | None = None,
        open_tracker: Callable[[], Tracker] = NullTracker,
        should_stop: Callable[[], bool] = lambda: False,
        profile: Path | None = None,
    ) -> None:
        """Take the parts; nothing is read or written before `run`.

        Args:
            model: the network, on the device that trains, with the same weights on every rank.
            optimizer: over all of the model's trained parameters, such as `make_optimizer` makes.
            batches: from a step s to this rank's batches of steps s, s + 1, … (the step counts
                the updates before it), each of batch_size / world.size clips.
            run: the run's folder, on storage that all ranks share.
            config: the recipe.
            seed: of the randomness inside the network.
            world: this process among its peers; default: alone.
            validate: called on every rank at the same steps; scores of each clip of this rank's
                share, such as `score_clips` gives. Means over all ranks' clips are logged. One
                that scores a clip when it is asked for it can be left between two clips.
            after_validation: called on every rank with the step and those means.
            draw: called on rank 0 after a validation; a PNG file's bytes for the tracker.
            open_tracker: called on rank 0 only; a tracker that fails does not stop training.
            should_stop: asked once per step and between the clips of a validation; one rank's yes
                stops all after a checkpoint.
            profile: where rank 0 writes a trace of a few steps; None: nowhere.
        """
        self._model = model
        self._optimizer = optimizer
        self._batches = batches
        self._run = run
        self._config = config
        self._seed = seed
        self._world = world or World()
        self._validate = validate
        self._after_validation = after_validation
        self._draw = draw
        self._should_stop = should_stop
        self._profile = profile if self._world.is_main else None
        self._tracker = ForgivingTracker(open_tracker if self._world.is_main else NullTracker)
        self._device = next(model.parameters()).device
        self._ranks = Ranks(self._world, self._device)
        self._damage: set[str] = set()
        self._graph: StepGraph | None = None
        self._meter = Meter(self._device)
        self._intervals = Intervals(
            log=config.log_every,
            checkpoint=config.checkpoint_every,
            validate=config.validate_every if validate else 0,
        )
        self._prepare()
        self._state = TrainingState(
            model, optimizer, self._ema, run, config, self._world, self._ranks
        )

    @property
    def _counters(self) -> Counters:
        return self._state.counters

    def model_to_publish(self) -> nn.Module:
        """The network to validate and to publish: the averaged one if there is one."""
        return (self._ema.model if self._ema else self._model).eval()

    def run(self) -> TrainSummary:
        """Train to the last step; a run that is already there returns at once.

        Raises:
            TrainingInterruptedError: `should_stop` returned true; the state is saved.
            TrainingError: the batch does not split over the ranks, too many steps in a row were
                not finite, the loader ended early, or a checkpoint could not be written that was
                the last, or with `on_save_failure` "stop" any.
            CheckpointError: the run's state is damaged or another network's.
            StvsrError: another process is training in the run's folder.
        """
        self._check_world()
        with self._only_trainer(), self._tracked():
            resumed_from = self._state.resume()
            if self._counters.validation_pending:
                self._finish_step((), stop_requested=False)
            batches = self._batches(resumed_from)
            self._model.train()
            with traced(self._profile, self._device) as step_done:
                while self._counters.step < self._config.steps:
                    with self._meter.waiting():
                        batch = self._next(batches)
                    with self._meter.working():
                        stop_requested = self._step(batch)
                    self._finish_step(batch.keys, stop_requested=stop_requested)
                    step_done()
            self._sync_tracker()
        counters = self._counters
        if counters.replaced_clips and self._world.is_main:
            logger.warning(
                "%s: %d damaged clips were replaced; `stvsr shards verify` names all damage",
                self._run.path,
                counters.replaced_clips,
            )
        return TrainSummary(
            counters.step,
            resumed_from,
            counters.skipped_steps,
            counters.loss,
            dict(counters.validation),
        )

    def _step(self, batch: ClipBatch) -> bool:
        """Forward, backward, update; returns whether a stop is requested on any rank."""
        step = self._counters.step
        if self._config.cuda_graph and self._device.type == "cuda" and self._graph is None:
            self._graph = self._record(batch)
        torch.manual_seed(step_seed(self._seed, step, self._world.rank))
        backward = self._graph.replay if self._graph else self._backward
        share = backward(batch.lr_clip, batch.hr_clip)
        sums = self._gradients.sum_over_ranks(
            share, self._offsets.read(), self._should_stop(), replaced=len(batch.damage)
        )
        if sums.replaced:
            self._log_damage(batch, sums.replaced)

        if self._counters.count(sums):
            self._gradients.cut(sums.norm, self._config.clip_norm)
            self._update(step)
        else:
            logger.warning(
                "step %d is skipped: its loss is %s, the norm of its gradient %s, its mean "
                "|offset| %s px (clips %s)",
                step + 1,
                sums.loss,
                sums.norm,
                sums.offset,
                ", ".join(batch.keys),
            )
        return sums.stop

    def _record(self, batch: ClipBatch) -> StepGraph:
        """The forward and backward pass as a CUDA graph."""
        try:
            graph = StepGraph(self._backward, batch.lr_clip, batch.hr_clip)
        except RuntimeError as error:  # torch's, also where memory does not suffice
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"train.cuda_graph: this network's step cannot be recorded ({reason})",
                remedy="set train.cuda_graph to false",
            ) from None
        self._offsets.read()  # those of the recording
        return graph

    def _backward(self, lr_clips: Tensor, hr_clips: Tensor) -> Tensor:
        """Set the flat vector to this rank's share of the gradient; returns its share of the loss.

        A part's mean is weighted by its share of the global batch, so that neither accumulation
        nor the number of ranks changes what is minimised.
        """
        config = self._config
        self._gradients.zero()
        loss = torch.zeros((), device=self._device)
        parts = zip(
            lr_clips.chunk(config.accumulation), hr_clips.chunk(config.accumulation), strict=True
        )
        for lr_clip, hr_clip in parts:
            with torch.autocast(
                self._device.type, torch.bfloat16, enabled=config.precision == "bf16"
            ):
                sr_clip = self._model(lr_clip)
            part = charbonnier(sr_clip.float(), hr_clip, config.loss_reduction)
            if config.loss_reduction == "mean":
                part = part * (len(lr_clip) / config.batch_size)
            part.backward()
            loss += part.detach()
        return loss

    def _update(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self._config)
        self._optimizer.step()
        if self._ema:
            self._ema.update(self._model, step)

    def _next(self, batches: Iterator[ClipBatch]) -> ClipBatch:
        batch = next(batches, None)
        expected = self._config.batch_size // self._world.size
        if batch is None or len(batch.keys) != expected:
            found = "no batch" if batch is None else f"a batch of {len(batch.keys)} clips"
            raise TrainingError(
                f"step {self._counters.step + 1}: the loader gave {found}; each of the "
                f"{self._config.steps} steps needs {expected} clips on each of the "
                f"{self._world.size} workers"
            )
        return batch

    def _finish_step(self, keys: Sequence[str], *, stop_requested: bool) -> None:
        """Validate, log, save, and leave if need be, as `due` decides.

        A stop does not wait for a validation: it is then pending, and made before anything else
        when the run resumes.
        """
        config, counters = self._config, self._counters
        now = AfterStep(
            step=counters.step,
            steps=config.steps,
            is_broken=counters.skipped_in_a_row >= config.nonfinite_limit,
            stop_requested=stop_requested,
        )
        scores = self._validated(validation_due(now, self._intervals))
        if stop_requested or counters.validation_pending:
            self._tracker.hurry()
        score = (scores or {}).get(SCORE)
        todo = due(
            now,
            self._intervals,
            has_score=score is not None,
            is_postponed=counters.validation_pending,
        )
        metrics = self._measure() if todo.log else {}
        if scores is not None:
            metrics |= self._show(scores)
        self._state.record(metrics)
        if todo.save and self._state.save(score, must_succeed=todo.save_must_succeed):
            self._sync_tracker()
        if todo.end is End.BROKEN:
            self._raise_not_finite(keys)
        if todo.end is End.STOPPED:
            raise TrainingInterruptedError(
                f"{self._run.path}: stopped as asked after step {counters.step} of {config.steps}",
                resumable=True,
            )

    def _validated(self, validation: Validation) -> dict[str, float] | None:
        """Validate if it is due; None where it is not, or where it is left for the next start."""
        self._counters.validation_pending = validation is Validation.POSTPONED
        if self._validate is None or validation in (Validation.NONE, Validation.POSTPONED):
            return None
        scores = self._score(self._validate, may_leave=validation is Validation.INTERRUPTIBLE)
        self._counters.validation_pending = scores is None
        return scores

    def _measure(self) -> dict[str, float]:
        """Close the window of steps since the last record."""
        counters = self._counters
        metrics = {
            "learning_rate": learning_rate_at(counters.step - 1, self._config),
            **counters.close_window(),
            **self._meter.read(self._config.batch_size),
        }
        if not self._offsets.has_layers:
            metrics.pop("mean_offset", None)
        if self._world.is_main:
            log_record(counters.step, self._config.steps, metrics)
        return metrics

    def _score(
        self, validate: Callable[[nn.Module], Iterable[Mapping[str, float]]], may_leave: bool
    ) -> dict[str, float] | None:
        """Validate on all ranks; the same means on each. None: a rank has a stop request."""
        mine: list[Mapping[str, float]] = []
        is_left = False
        for scores in validate(self.model_to_publish()):
            is_left = bool(mine) and may_leave and self._should_stop()
            if is_left:
                break
            mine.append(scores)
        self._model.train()
        shares = self._ranks.of_all((mine, is_left))
        if any(left for _, left in shares):
            return None
        return mean_scores(scores for share, _ in shares for scores in share)

    def _show(self, scores: dict[str, float]) -> dict[str, float]:
        """Keep, log, draw and report what a validation found; returns it as metrics."""
        self._counters.validation = scores
        if self._world.is_main:
            text = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
            logger.info("step %d/%d  validation  %s", self._counters.step, self._config.steps, text)
            if self._draw:
                self._keep_picture(self._draw(self.model_to_publish()))
        if self._after_validation:
            self._after_validation(self._counters.step, dict(scores))
        self._model.train()
        return {f"val/{name}": value for name, value in scores.items()}

    def _keep_picture(self, png: bytes) -> None:
        try:
            write_bytes_whole(self._run.path / PICTURE, png)
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", self._run.path / PICTURE, error.strerror)
        self._tracker.log_picture(PICTURE, png)

    def _log_damage(self, batch: ClipBatch, replaced: int) -> None:
        """Count the damaged clips that were replaced on any rank; log each damage once."""
        self._counters.replaced_clips += replaced
        lines = {line for share in self._ranks.of_all(batch.damage) for line in share}
        if self._world.is_main:
            for line in sorted(lines - self._damage):
                logger.warning("damaged: %s", line)
        self._damage |= lines

    def _raise_not_finite(self, keys: Sequence[str]) -> None:
        names = ", ".join(name for share in self._ranks.of_all(keys) for name in share)
        raise TrainingError(
            f"{self._run.path}: {self._counters.skipped_in_a_row} steps in a row had a loss or "
            f"gradient that is not finite, the last at step {self._counters.step} with the clips "
            f"{names}; the weights before them are saved: look at those clips, or train with a "
            "lower train.learning_rate or train.precision float32"
        )

    def _prepare(self) -> None:
        """Lay out memory: formats, the average's copy, the flat gradients, the compiled forward."""
        if self._config.channels_last:
            self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = self._config.ema_decay
        self._ema = Ema(self._model, decay) if decay else None
        self._offsets = OffsetMeter(self._model, self._device)
        self._gradients = FlatGradients(self._model.parameters(), self._world.size)
        if self._config.compile:
            self._model.compile()

    def _check_world(self) -> None:
        refusal = uneven_split(self._config.batch_size, self._world.size, self._config.accumulation)
        if refusal:
            raise TrainingError(f"train.batch_size: {refusal}")
        self._ranks.check()

    @contextmanager
    def _only_trainer(self) -> Iterator[None]:
        """Keep a second process, such as a killed command's orphan, out of the run's folder."""
        if not self._world.is_main:
            yield
            return
        with only_writer(self._run.path):
            yield

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        status: Status = "failed"
        self._tracker.log_params(self._run.parameters)
        try:
            yield
            status = "finished"
        except TrainingInterruptedError:
            status = "interrupted"
            raise
        finally:
            self._tracker.finish(status)

    def _sync_tracker(self) -> None:
        if self._world.is_main:
            history = read_history(self._run.history)
            self._tracker.sync([(record.step, record.metrics) for record in history])
