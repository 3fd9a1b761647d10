"""Counters: the running numbers of a run, and the record that a window of its steps comes to."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from stvsr.core.config import Count
from stvsr.training.gradients import StepSums
from stvsr.training.offsets import ALARM_PX

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """The running numbers of a run.

    Attributes:
        step: optimizer steps done, the skipped ones among them.
        skipped_steps: steps whose loss or gradient was not finite, which changed nothing.
        skipped_in_a_row: how many of these are the last ones.
        replaced_clips: damaged clips that were replaced by others.
        window_steps: finite steps since the last record of the history.
        window_loss: sum of their losses.
        window_norm: sum of their gradients' norms.
        window_offset: sum of their mean |offset|, in pixels.
        loss: the last record's mean loss; None before the first.
        validation: what the last validation found, by name.
        validation_pending: whether this step has still to be validated and recorded.
    """

    step: Count = 0
    skipped_steps: Count = 0
    skipped_in_a_row: Count = 0
    replaced_clips: Count = 0
    window_steps: Count = 0
    window_loss: float = 0.0
    window_norm: float = 0.0
    window_offset: float = 0.0
    loss: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    validation_pending: bool = False

    def count(self, sums: StepSums) -> bool:
        """Count a step; returns whether it is finite, so that the weights may be updated."""
        is_finite = all(math.isfinite(number) for number in (sums.loss, sums.norm, sums.offset))
        if is_finite:
            self.window_steps += 1
            self.window_loss += sums.loss
            self.window_norm += sums.norm
            self.window_offset += sums.offset
            self.skipped_in_a_row = 0
        else:
            self.skipped_steps += 1
            self.skipped_in_a_row += 1
        self.step += 1
        return is_finite

    def close_window(self) -> dict[str, float]:
        """Means over the finite steps since the last record, and what was counted in all."""
        n = self.window_steps
        self.loss = self.window_loss / n if n else None
        metrics: dict[str, float] = {
            "skipped_steps": self.skipped_steps,
            "replaced_clips": self.replaced_clips,
        }
        if self.loss is not None:
            metrics["loss"] = self.loss
            metrics["gradient_norm"] = self.window_norm / n
            metrics["mean_offset"] = self.window_offset / n
        self.window_steps, self.window_loss = 0, 0.0
        self.window_norm, self.window_offset = 0.0, 0.0
        return metrics


def log_record(step: int, steps: int, metrics: Mapping[str, float]) -> None:
    """Log a record in one line, and the alarm where the deformable layers' offsets run away."""
    if "step_seconds" not in metrics:  # of a step that an earlier process did
        return
    left = round((steps - step) * metrics["step_seconds"])
    logger.info(
        "step %d/%d  loss %s  learning rate %.2e  gradient %s  offset %s  %.2f clips/s  "
        "data wait %.0f %%  memory %.0f MiB  %d:%02d left",
        step,
        steps,
        f"{metrics['loss']:.5f}" if "loss" in metrics else "not finite",
        metrics["learning_rate"],
        f"{metrics['gradient_norm']:.3g}" if "gradient_norm" in metrics else "not finite",
        f"{metrics['mean_offset']:.2f} px" if "mean_offset" in metrics else "-",
        metrics["clips_per_second"],
        100 * metrics["data_wait"],
        metrics["peak_memory_mib"],
        left // 60,
        left % 60,
    )
    if metrics.get("mean_offset", 0.0) > ALARM_PX:
        logger.warning(
            "step %d: the deformable layers' mean |offset| is %.0f pixels, above %.0f: they "
            "sample beyond what they align; lower train.learning_rate or train.clip_norm and "
            "start anew with --fresh",
            step,
            metrics["mean_offset"],
            ALARM_PX,
        )
