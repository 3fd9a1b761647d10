"""Speed of a network: frames per second, peak memory and counted operations."""

import copy
import platform
import re
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from stvsr.core.clip import output_length
from stvsr.core.config import Config, Count, Field
from stvsr.core.errors import ParamsError
from stvsr.models import StvsrModel
from stvsr.models.operations import count_operations

INPUT_FRAMES = 4
"""Input frames of a window that is timed: those of a Vimeo-90K clip."""

WARM_RUNS = 2
"""Windows before the first one that is timed."""

RUNS = 5
"""Windows that are timed."""

_TYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_CASE = re.compile(r"(\d{1,5})x(\d{1,5})(?::(float32|bf16))?")


class Speed(Config):
    """Time and memory of a network on windows of one size and precision."""

    width: Count
    """Of the LR frames, in pixels."""
    height: Count
    """Of the LR frames."""
    precision: Literal["float32", "bf16"]
    """Type of the weights and frames."""
    device: str
    """Name of the GPU, or of the processor with its threads."""
    input_frames: Count = INPUT_FRAMES
    """LR frames of a window."""
    output_frames: Count = output_length(INPUT_FRAMES)
    """Frames that are made of it."""
    seconds: Annotated[float, Field(ge=0, le=1e6)]
    """Median time of a window, warm and synchronised."""
    frames_per_second: Annotated[float, Field(ge=0, le=1e6)]
    """Output frames over that time."""
    peak_memory: Count | None
    """Bytes at most: of tensors on a GPU, of the whole process on a CPU; null where not known."""
    operations: Count
    """Operations of convolutions and matrix products in a window; a multiply-add is two."""


@dataclass(frozen=True)
class SpeedCase:
    """A size and precision to measure.

    Attributes:
        width: of the LR frames, in pixels.
        height: of the LR frames.
        precision: type of weights and frames.
    """

    width: int
    height: int
    precision: Literal["float32", "bf16"]


def parse_speed(text: str) -> tuple[SpeedCase, ...]:
    """The cases of a list such as "112x64,320x180:bf16"; float32 where none is named.

    Raises:
        ParamsError: a part is of another form, or a side is 0.
    """
    cases = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _CASE.fullmatch(part)
        if found is None or not int(found[1]) or not int(found[2]):
            raise ParamsError(
                f"--speed: found {part!r:.40}; expected LR sizes such as 112x64, or 112x64:bf16"
            )
        precision: Literal["float32", "bf16"] = "bf16" if found[3] == "bf16" else "float32"
        cases.append(SpeedCase(int(found[1]), int(found[2]), precision))
    return tuple(cases)


def measure_speed(model: StvsrModel, device: torch.device, case: SpeedCase) -> Speed:
    """Time windows of random frames, one at a time.

    Args:
        model: the network, in evaluation mode; it is not changed.
        device: where it is measured.
        case: size and precision.
    """
    dtype = _TYPES[case.precision]
    size = INPUT_FRAMES, case.height, case.width
    operations = count_operations(model, size)
    network = copy.deepcopy(model).to(device, dtype)
    lr_clip = torch.rand(1, INPUT_FRAMES, 3, *size[1:], device=device).to(dtype)
    with torch.inference_mode():
        for _ in range(WARM_RUNS):
            network(lr_clip)
        _forget_peak(device)
        seconds = statistics.median(_time(network, lr_clip) for _ in range(RUNS))
    return Speed(
        width=case.width,
        height=case.height,
        precision=case.precision,
        device=device_name(device),
        seconds=seconds,
        frames_per_second=output_length(INPUT_FRAMES) / seconds,
        peak_memory=_peak(device),
        operations=operations,
    )


def _time(network: StvsrModel, lr_clip: Tensor) -> float:
    """Seconds of one window, with the device synchronised before and after it."""
    _wait(lr_clip.device)
    start = time.perf_counter()
    network(lr_clip)
    _wait(lr_clip.device)
    return time.perf_counter() - start


def device_name(device: torch.device) -> str:
    """The GPU, or the processor and torch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    """Let the peak begin anew, where this system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None
