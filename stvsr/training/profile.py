"""A trace of a few steps: where the time goes, operator by operator."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import profiler

logger = logging.getLogger(__name__)

PASSED_OVER = 3
"""Steps at first that are not traced: they compile, allocate and fill queues."""

TRACED = 3
"""Steps in a trace; more make a file that no viewer opens."""


@contextmanager
def traced(file: Path | None, device: torch.device) -> Iterator[Callable[[], None]]:
    """Yield what is to be called after each step; writes `file` once enough of them were seen.

    Args:
        file: Chrome's trace format, gzipped, for https://ui.perfetto.dev or `chrome://tracing`;
            None: nothing is traced.
        device: where the steps run.
    """
    if file is None:
        yield lambda: None
        return

    def write(trace: profiler.profile) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name.removesuffix('.gz')}.partial.gz")
        trace.export_chrome_trace(str(temporary))
        temporary.replace(file)
        logger.info("%s: the trace of %d steps; open it in ui.perfetto.dev", file, TRACED)

    activities = [profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(profiler.ProfilerActivity.CUDA)
    schedule = profiler.schedule(wait=PASSED_OVER - 1, warmup=1, active=TRACED, repeat=1)
    with profiler.profile(
        activities=activities, schedule=schedule, on_trace_ready=write, profile_memory=True
    ) as trace:
        yield trace.step
