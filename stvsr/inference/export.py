"""A network in one file that runs without this package: what `stvsr export` does.

The file is made in memory, run beside the network at other sizes than it was traced at, and written
only if it gives the same. Padding to the sizes that a network takes is part of the file.
"""

import importlib.util
import io
import json
import logging
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

import stvsr
from stvsr.artifact import Card
from stvsr.core.errors import InputError, StvsrError
from stvsr.core.files import only_writer, open_regular, write_bytes_whole
from stvsr.inference.lineage import lineage
from stvsr.inference.plain_operators import FOR_ONNX, FOR_TORCH, ONNX_OPSET
from stvsr.inference.tracing import axes_of, trace
from stvsr.models import StvsrModel

logger = logging.getLogger(__name__)

FORMATS = {"torch-export": ".pt2", "onnx": ".onnx"}
"""Suffix of each format's files."""

TOLERANCE = 1e-4
"""Difference at most between a file's and the network's output, of values in 0..1."""

CHECKED = ((1, 24, 32), (3, 37, 18), (1, 51, 70), (1, 1, 1))
"""Batch, height and width of the clips that a file is checked on."""

TRIES = 4
"""Random clips at most of each size, for networks that choose points."""

NOT_EXPORTED = {
    "stinet": "its optical flow has as many levels as the height and width allow",
    "rstt": "which of its windows wrap around depends on the height and width",
}
"""Models whose graph is another one for other sizes, by name, and why."""

LARGEST_ONNX = 2_000_000_000
"""Bytes at most of weights in an ONNX file, whose format ends at 2 GiB."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

FACTS = "stvsr.json"
"""Name of the metadata in a torch.export file."""

ONNX_MARK = b"\x12\x05stvsr"
"""Bytes near the beginning of an ONNX file that say who made it."""

Loader = Callable[[str], tuple[StvsrModel, Card | None]]
"""Loads the model that a request names, on the CPU; without a card, it has no weights."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export.

    Attributes:
        model: as the loader takes it.
        output: the file.
        format: one of `FORMATS`.
        frames: of a clip, where their number is fixed.
    """

    model: str
    output: Path
    format: str
    frames: int = 4


def export(request: ExportRequest, load: Loader) -> str:
    """Export a network and check the file; return the line that the command prints.

    Args:
        request: what is asked for.
        load: opens the model.

    Raises:
        StvsrError: an argument is not possible, a package is missing, or the file would not give
            what the network gives.
        OSError: the disk is full, or the folder cannot be written.
    """
    began = time.monotonic()
    _check_request(request)
    network, card = load(request.model)
    _refuse_model(request, card)
    with only_writer(request.output):
        logger.info("%s: traced and checked, which takes minutes", request.output)
        program = _trace(request, network)
        axes = axes_of(program)
        facts = _facts(request, card, axes)
        content, run = _converted(request, program, axes, facts)
        compared = _compare(run, network, request, axes, TRIES if _chooses(program) else 1)
        _refuse_output(request.output)  # minutes have passed
        write_bytes_whole(request.output, content)
    return (
        f"{request.output}: {request.format}, {_shown(axes)}; {compared}; "
        f"{lineage(card, request.model)}, "
        f"{len(content) / 1e6:.1f} MB in {time.monotonic() - began:.1f} s\n"
    )


# --- what is asked for


def _check_request(request: ExportRequest) -> None:
    suffix = FORMATS.get(request.format)
    if suffix is None:
        raise InputError(
            f"--format: found {request.format}; allowed: {', '.join(FORMATS)}; give one of them"
        )
    if request.output.suffix.lower() != suffix:
        raise InputError(
            f"OUT: found {request.output}; expected a name that ends in {suffix}; "
            "change the name, or --format"
        )
    if request.frames < 2:
        raise InputError(f"--frames: found {request.frames}; expected at least 2; raise it")
    if not request.output.parent.is_dir():
        raise InputError(
            f"OUT: found {request.output}, and no folder {request.output.parent}; make it first"
        )
    _refuse_output(request.output)
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if request.format == "onnx" and missing:
        raise StvsrError(
            f"--format onnx: needs {', '.join(missing)}, which is not installed",
            remedy="pip install 'stvsr[export]'",
        )


def _refuse_model(request: ExportRequest, card: Card | None) -> None:
    reason = NOT_EXPORTED.get(card.model.name) if card else None
    if card and reason:
        raise InputError(
            f"{request.model}: found a network of {card.model.name}, which has no graph for all "
            f"sizes: {reason}; export another model, or run this one by stvsr upscale"
        )


def _refuse_output(output: Path) -> None:
    if output.exists() and not _is_ours(output):
        raise InputError(
            f"OUT: found {output}, which stvsr did not write and which would be lost; "
            "name another, or move that away"
        )


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with open_regular(path) as file:
        if path.suffix.lower() == FORMATS["onnx"]:
            return ONNX_MARK in file.read(64)
        try:
            names = zipfile.ZipFile(file).namelist()
        except zipfile.BadZipFile:
            return False
        return any(name.endswith(f"/{FACTS}") for name in names)


def _facts(request: ExportRequest, card: Card | None, axes: dict[str, int | str]) -> dict[str, str]:
    """The file's metadata."""
    facts = {
        "stvsr": f"stvsr {stvsr.__version__}: {lineage(card, request.model)}",
        "input": "lr_clip (batch, frames, 3, height, width), float32, RGB in [0, 1]",
        "output": "sr_clip (batch, 2 * frames - 1, 3, 4 * height, 4 * width), not clamped",
        "axes": _shown(axes),
    }
    return facts if card is None else {**facts, "card": card.model_dump_json()}


def _shown(axes: dict[str, int | str]) -> str:
    """Axes in words: what any size fits, and what is fixed."""
    any_size = [name for name, size in axes.items() if isinstance(size, str)]
    fixed = [
        f"{name} = {size}"
        for name, size in axes.items()
        if isinstance(size, int) and name != "channels"
    ]
    return f"any {', '.join(any_size)}" + (f"; {', '.join(fixed)} only" if fixed else "")


# --- the file


def _trace(request: ExportRequest, network: StvsrModel) -> ExportedProgram:
    operators = FOR_ONNX if request.format == "onnx" else FOR_TORCH
    size = sum(parameter.nbytes for parameter in network.parameters())
    if request.format == "onnx" and size > LARGEST_ONNX:
        raise StvsrError(
            f"{request.model}: {size} bytes of weights; an ONNX file holds {LARGEST_ONNX}",
            remedy="export it as torch-export",
        )
    try:
        with _quiet():
            return trace(network, request.frames, operators)
    except Exception as error:  # torch's, of many kinds
        raise _impossible(request, "torch.export cannot trace it", error) from None


def _converted(
    request: ExportRequest,
    program: ExportedProgram,
    axes: dict[str, int | str],
    facts: dict[str, str],
) -> tuple[bytes, Run]:
    """The file's bytes, and what runs them."""
    try:
        if request.format == "onnx":
            content = _to_onnx(program, axes, facts)
            return content, _run_onnx(content)
        content = _to_torch(program, facts)
        return content, _run_torch(content)
    except StvsrError:
        raise
    except Exception as error:  # of the converter, or of what loads the file; of many kinds
        raise _impossible(request, f"no {request.format} file can be made of it", error) from None


def _impossible(request: ExportRequest, what: str, error: Exception) -> StvsrError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StvsrError(
        f"{request.model}: {what} ({reason})",
        remedy="use it through Python, or export another network",
    )


def _to_torch(program: ExportedProgram, facts: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content, extra_files={FACTS: json.dumps(facts, indent=1)})
    return content.getvalue()


def _to_onnx(program: ExportedProgram, axes: dict[str, int | str], facts: dict[str, str]) -> bytes:
    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["lr_clip"],
            output_names=["sr_clip"],
            opset_version=ONNX_OPSET,
            verbose=False,
        )
    if exported is None:
        raise AssertionError("torch.onnx.export gives a program where dynamo is True")
    exported.rename_axes({size: name for name, size in axes.items() if isinstance(size, str)})
    shape = exported.model.graph.inputs[0].shape
    for axis, size in enumerate(axes.values()):
        if shape is not None and isinstance(size, int):
            shape[axis] = size  # so that another one is refused where it is handed in
    exported.model.producer_name = "stvsr"
    exported.model.producer_version = stvsr.__version__
    exported.model.metadata_props.update(facts)
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, which name this machine's folders
    content: bytes = exported.model_proto.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporters from writing about themselves, such as on packages they could use."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        exporter.setLevel(level)


# --- the check


def _run_torch(content: bytes) -> Run:
    module = torch.export.load(io.BytesIO(content)).module()

    def run(lr_clip: Tensor) -> Tensor:
        sr_clip: Tensor = module(lr_clip)
        return sr_clip

    return run


def _run_onnx(content: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda lr_clip: torch.from_numpy(session.run(None, {"lr_clip": lr_clip.numpy()})[0])


def _sizes(request: ExportRequest, axes: dict[str, int | str]) -> Iterator[tuple[int, ...]]:
    """Shapes of the clips that a file is checked on: other ones than the traced wherever it may."""
    for number, (batch, height, width) in enumerate(CHECKED):
        wanted = {
            "batch": batch,
            "frames": request.frames + number,
            "channels": 3,
            "height": height,
            "width": width,
        }
        fixed = {name: size for name, size in axes.items() if isinstance(size, int)}
        yield tuple((wanted | fixed).values())


def _compare(
    run: Run, network: StvsrModel, request: ExportRequest, axes: dict[str, int | str], tries: int
) -> str:
    """Compare a file with its network on random clips, and say by how much they differ.

    Of each size one of `tries` clips has to agree: where two of aggregation's points nearly tie,
    rounding decides which is kept, and the file may keep the other one.

    Raises:
        StvsrError: they differ by more than `TOLERANCE`, or the file does not run.
    """
    agreed, others = [], []
    for size in _sizes(request, axes):
        for seed in range(tries):
            difference = _difference(run, network, request, size, seed)
            if difference <= TOLERANCE:
                agreed.append(difference)
                break
            others.append(difference)
        else:
            found = f"differs from the network by {others[-1]:.1e} on a clip {size}"
            raise _wrong(request, f"{found}, allowed: {TOLERANCE:.0e}")
    said = f"differs from the network by {max(agreed):.1e} at most"
    if not others:
        return said
    return f"{said} on {len(agreed)} random clips and by {max(others):.1e} on {len(others)} others"


def _difference(
    run: Run, network: StvsrModel, request: ExportRequest, size: tuple[int, ...], seed: int
) -> float:
    """The largest difference of a file's and its network's output for a random clip."""
    lr_clip = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    try:
        with torch.inference_mode():
            return float((run(lr_clip) - network(lr_clip)).abs().max())
    except Exception as error:  # of whatever runs the file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _wrong(request, f"fails on a clip {size} ({reason[0]})") from None


def _chooses(program: ExportedProgram) -> bool:
    """True if a network keeps some of its points and leaves out others."""
    return any(node.target is torch.ops.aten.topk.default for node in program.graph.nodes)


def _wrong(request: ExportRequest, found: str) -> StvsrError:
    return StvsrError(
        f"{request.output}: not written: as {request.format}, {request.model} {found}",
        remedy="choose another --format, and report this",
    )
