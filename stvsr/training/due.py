"""The decision of what is due after a step: pure functions of the run's position.

The order of the work makes checkpoints complete: validate, log, record, save, and only then leave.
"""

from dataclasses import dataclass
from enum import Enum


class Validation(Enum):
    """Decision about the validation of a step."""

    NONE = "none"
    """It is not due."""
    INTERRUPTIBLE = "interruptible"
    """It is due; a stop request between two clips postpones it."""
    COMPLETE = "complete"
    """It is due and made to its end, since the run ends with this step."""
    POSTPONED = "postponed"
    """It is due, and made before anything else when the run resumes."""


class End(Enum):
    """Way in which the run ends after a step."""

    NONE = "none"
    """It trains on, or has done its last step."""
    STOPPED = "stopped"
    """A stop request."""
    BROKEN = "broken"
    """Too many steps in a row were not finite."""


@dataclass(frozen=True)
class Intervals:
    """Intervals in steps.

    Attributes:
        log: between two records.
        checkpoint: between two checkpoints.
        validate: between two validations; 0: never.
    """

    log: int
    checkpoint: int
    validate: int


@dataclass(frozen=True)
class AfterStep:
    """Position of a run after a step.

    Attributes:
        step: steps done, >= 1.
        steps: of the whole run.
        is_broken: too many steps in a row had a loss or gradient that is not finite.
        stop_requested: any rank has a stop request.
    """

    step: int
    steps: int
    is_broken: bool
    stop_requested: bool

    @property
    def is_last(self) -> bool:
        """True if the run ends with this step."""
        return self.step == self.steps

    def comes_every(self, interval: int) -> bool:
        """True if this step is a multiple of `interval`."""
        return self.step % interval == 0


@dataclass(frozen=True)
class Due:
    """Work that is due after a step whose validation is made, postponed, or not due.

    Attributes:
        log: close the window of steps since the last record, and log it.
        save: write a checkpoint.
        save_must_succeed: the run ends with an error without that checkpoint.
        end: how the run leaves.
    """

    log: bool
    save: bool
    save_must_succeed: bool
    end: End


def validation_due(now: AfterStep, intervals: Intervals) -> Validation:
    """Decide whether a step is validated."""
    every = intervals.validate
    if every == 0 or not (now.is_last or now.comes_every(every)):
        return Validation.NONE
    if now.is_last or now.is_broken:
        return Validation.COMPLETE
    return Validation.POSTPONED if now.stop_requested else Validation.INTERRUPTIBLE


def due(now: AfterStep, intervals: Intervals, *, has_score: bool, is_postponed: bool) -> Due:
    """Decide what else is due.

    Args:
        now: position of the run.
        intervals: of logs, checkpoints and validations.
        has_score: the step was validated and has a score, so that it may be the best.
        is_postponed: its validation is postponed, which ends this process.
    """
    stops = now.stop_requested or is_postponed
    is_time = now.comes_every(intervals.checkpoint) or has_score
    if now.is_broken:
        end = End.BROKEN
    else:
        end = End.STOPPED if stops and not now.is_last else End.NONE
    return Due(
        log=not is_postponed and (now.is_last or now.comes_every(intervals.log)),
        save=now.is_last or now.is_broken or stops or is_time,
        save_must_succeed=now.is_last or (stops and not now.is_broken),
        end=end,
    )
