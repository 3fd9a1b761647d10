"""The protocol of experiment trackers, and a wrapper that forgives one that fails."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from stvsr.core.errors import ServiceError

logger = logging.getLogger(__name__)

OUTAGE_PAUSE = 60.0
"""Seconds after a failure during which a tracker is left alone, so that training need not wait."""

LEAVE_SECONDS = 3.0
"""Seconds, in all, that a process waits for a tracker after a stop request."""

Scalar = str | int | float | bool | None
"""A parameter's value."""

Status = Literal["finished", "interrupted", "failed"]
"""How a run ended: all steps done, stopped as asked, or by an error."""


class Tracker(Protocol):
    """Receiver of a run's metrics; only rank 0 calls it.

    Each call may be repeated after a restart and must then change nothing.
    """

    def log_params(self, params: Mapping[str, Scalar]) -> None:
        """Say what decides the run: dotted names and their values."""

    def sync(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Take the history so far: (step, metrics), steps ascending.

        Called after each checkpoint with lines that no restart will replay, so that what is
        logged has no gap and no doubled step; steps which the store has already are passed over.
        """

    def log_picture(self, name: str, png: bytes) -> None:
        """Keep a picture, a PNG file's bytes, under `name`, such as "before-after.png"."""

    def finish(self, status: Status) -> None:
        """Say how the run ended."""


class NullTracker:
    """A tracker that keeps nothing."""

    def log_params(self, params: Mapping[str, Scalar]) -> None:
        """Pass over the parameters."""

    def sync(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Pass over the history."""

    def log_picture(self, name: str, png: bytes) -> None:
        """Pass over the picture."""

    def finish(self, status: Status) -> None:
        """Pass over the end."""


class ForgivingTracker:
    """A tracker whose ServiceErrors are logged, once per outage, and stop nothing.

    It is opened by the first call, so a server that is down when training starts stops nothing
    either. After an outage it is opened again and gets the parameters and the whole history, so
    no metric is lost; if the server does not come back, the history is still in the run's folder.
    """

    def __init__(self, open_tracker: Callable[[], Tracker]) -> None:
        self._open = open_tracker
        self._tracker: Tracker | None = None
        self._params: Mapping[str, Scalar] = {}
        self._history: Sequence[tuple[int, Mapping[str, float]]] = ()
        self._is_down = False
        self._wait_until = 0.0
        self._leave_at: float | None = None
        self._is_left = False

    def hurry(self) -> None:
        """Wait no longer than LEAVE_SECONDS from now on: the process was asked to stop."""
        self._leave_at = time.monotonic() + LEAVE_SECONDS

    def log_params(self, params: Mapping[str, Scalar]) -> None:
        """As `Tracker.log_params`."""
        self._params = params
        self._try(lambda tracker: None)

    def sync(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """As `Tracker.sync`."""
        self._history = history
        self._try(lambda tracker: tracker.sync(history))

    def log_picture(self, name: str, png: bytes) -> None:
        """As `Tracker.log_picture`."""
        self._try(lambda tracker: tracker.log_picture(name, png))

    def finish(self, status: Status) -> None:
        """As `Tracker.finish`; tries once more, however recent the last failure is."""
        self._wait_until = 0.0
        self._try(lambda tracker: tracker.finish(status))

    def _try(self, call: Callable[[Tracker], None]) -> None:
        if time.monotonic() < self._wait_until:
            return
        if self._leave_at is None:
            self._call(call)
        elif not self._is_left:
            # A call that gets no answer in time is left behind, in a thread that ends with the
            # process.
            thread = threading.Thread(target=self._call, args=(call,), daemon=True)
            thread.start()
            thread.join(max(0.0, self._leave_at - time.monotonic()))
            self._is_left = thread.is_alive()
            if self._is_left:
                logger.warning(
                    "tracker: no answer within %g s; it gets the rest when the run resumes",
                    LEAVE_SECONDS,
                )

    def _call(self, call: Callable[[Tracker], None]) -> None:
        try:
            if self._tracker is None:
                self._tracker = self._reopen()
            call(self._tracker)
            self._is_down = False
        except ServiceError as error:
            if not self._is_down:
                logger.warning("tracker: %s; training continues, its history stays here", error)
            self._is_down = True
            self._wait_until = time.monotonic() + OUTAGE_PAUSE
            self._tracker = None

    def _reopen(self) -> Tracker:
        tracker = self._open()
        tracker.log_params(self._params)
        if self._history:
            tracker.sync(self._history)
        return tracker
