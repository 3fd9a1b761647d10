"""TrainingState: everything of a run that is saved and restored, on all ranks alike."""

import logging
from collections.abc import Mapping

import torch
from torch import nn

from stvsr.artifact import load_weights
from stvsr.core.errors import TrainingError
from stvsr.core.world import World
from stvsr.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    load_optimizer,
    optimizer_tensors,
)
from stvsr.training.config import TrainConfig
from stvsr.training.counters import Counters
from stvsr.training.ema import Ema
from stvsr.training.history import History, Record
from stvsr.training.ranks import Ranks
from stvsr.training.run import RunFolder

logger = logging.getLogger(__name__)


class TrainingState:
    """The network, its moving average, the optimizer, the counters and the history of a run.

    Attributes:
        counters: the running numbers, the step among them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        ema: Ema | None,
        run: RunFolder,
        config: TrainConfig,
        world: World,
        ranks: Ranks,
    ) -> None:
        """Take the parts; nothing is read before `resume`."""
        self._model = model
        self._optimizer = optimizer
        self._ema = ema
        self._run = run
        self._config = config
        self._world = world
        self._ranks = ranks
        self._checkpoints = Checkpoints(run.checkpoints, config.keep_checkpoints)
        self._history = History(run.history)
        self.counters = Counters()

    def resume(self) -> int:
        """Restore the newest complete checkpoint on every rank, or start alike; returns the step.

        Raises:
            CheckpointError: the run's state is damaged or another network's.
        """
        found: Checkpoint | None = None
        if self._world.is_main:
            self._checkpoints.clear_leftovers()
            found = self._checkpoints.newest_whole()
        step = self._ranks.as_on_main(found.counters.step if found else -1)
        if step < 0:
            models = [self._model, *([self._ema.model] if self._ema else [])]
            self._ranks.start_alike(t for model in models for t in model.state_dict().values())
        else:
            self._restore(found or self._checkpoints.load(step))
        if self._world.is_main:
            self._history.cut_back(self.counters.step, found.records if found else 0)
            done, steps = self.counters.step, self._config.steps
            how = "starts" if step < 0 else "is finished" if done == steps else "resumes"
            logger.info("%s: %s at step %d of %d", self._run.path, how, done, steps)
        return self.counters.step

    def record(self, metrics: Mapping[str, float]) -> None:
        """Add the present step's metrics to the history, on rank 0."""
        if metrics and self._world.is_main:
            self._history.append(Record(self.counters.step, dict(metrics)))

    def save(self, score: float | None, *, must_succeed: bool) -> bool:
        """Write a checkpoint on rank 0; all ranks return, or stop, when that is done.

        Returns:
            Whether it is written.

        Args:
            score: the present step's, higher is better; None where it has none.
            must_succeed: whether a checkpoint that cannot be written ends the run.

        Raises:
            TrainingError: it cannot be written and must be.
        """
        is_saved = self._try_to_save(score) if self._world.is_main else True
        is_saved = bool(self._ranks.as_on_main(int(is_saved)))
        must_succeed |= self._config.on_save_failure == "stop"
        if must_succeed and not is_saved:
            raise TrainingError(
                f"{self._run.checkpoints}: the checkpoint at step {self.counters.step} cannot be "
                "written",
                remedy="free some space",
                resumable=True,
            )
        return is_saved

    def _try_to_save(self, score: float | None) -> bool:
        try:
            self._history.commit()
            self._checkpoints.save(self._capture(score))
        except OSError as error:
            saved = self._checkpoints.steps()
            logger.warning(
                "%s: the checkpoint at step %d cannot be written (%s); the newest is that at "
                "step %d; free some space",
                self._run.checkpoints,
                self.counters.step,
                error.strerror,
                saved[0] if saved else 0,
            )
            return False
        return True

    def _capture(self, score: float | None) -> Checkpoint:
        return Checkpoint(
            counters=self.counters,
            weights=self._model.state_dict(),
            optimizer=optimizer_tensors(self._model, self._optimizer),
            ema=self._ema.model.state_dict() if self._ema else {},
            score=score,
            records=self._history.records,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.counters = checkpoint.counters
        source = str(self._checkpoints.path(checkpoint.counters.step))
        load_weights(self._model, checkpoint.weights, source)
        load_optimizer(self._model, self._optimizer, checkpoint.optimizer, source)
        if self._ema:
            load_weights(self._ema.model, checkpoint.ema, source)
