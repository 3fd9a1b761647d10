"""Kinds of malformed networks: model folders, published checkpoints and runs."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from stvsr.core.errors import StvsrError
from stvsr.core.files import sha256_of
from stvsr.core.log import set_up_logging
from stvsr.models import build_model
from stvsr.published import PUBLISHED, published_weights
from stvsr.training.history import TIMING
from tests.malformed.damage import (
    BYTES,
    COARSE,
    DEPTH,
    doubled_line,
    flip_digit,
    in_bytes,
    in_json,
    in_json_lines,
    in_text,
    lost_line,
    swapped_lines,
)
from tests.malformed.kind import Bytes, Damage, Door, Kind, in_file, verb
from tests.malformed.projects import files, run, sharded, with_model, write_params
from tests.support.projects import MODEL, TRAIN
from tests.support.training import TINY, batch_at, end_of, make_trainer

# --- safetensors


OnHeader = Callable[[Random, dict[str, Any], bytes], tuple[Any, bytes]]


def _on_header(change: OnHeader) -> Bytes:
    """Another header, and other data behind it, in a safetensors file."""

    def on_file(random: Random, whole: bytes) -> bytes:
        (length,) = struct.unpack_from("<Q", whole)
        header, data = change(random, json.loads(whole[8 : 8 + length]), whole[8 + length :])
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    return on_file


def _field(name: str, *values: Any) -> Bytes:
    """Another value in the header of one tensor."""

    def change(random: Random, header: dict[str, Any], data: bytes) -> tuple[Any, bytes]:
        tensor = random.choice([name for name in header if name != "__metadata__"])
        header[tensor][name] = random.choice(values)
        return header, data

    return _on_header(change)


def _length(value: int) -> Bytes:
    return lambda random, whole: struct.pack("<Q", value) + whole[8:]


def _on_tensors(change: Callable[[Random, dict[str, Tensor]], None]) -> Bytes:
    def on_file(random: Random, whole: bytes) -> bytes:
        tensors = safetensors.torch.load(whole)
        change(random, tensors)
        return safetensors.torch.save(tensors)

    return on_file


def _one(change: Callable[[Tensor], Tensor]) -> Callable[[Random, dict[str, Tensor]], None]:
    """The change, to one tensor."""

    def on_one(random: Random, tensors: dict[str, Tensor]) -> None:
        name = random.choice([name for name, tensor in tensors.items() if tensor.numel() > 1])
        tensors[name] = change(tensors[name]).contiguous()

    return on_one


def _with_value(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[0] = value
        return changed

    return change


def _without_one(random: Random, tensors: dict[str, Tensor]) -> None:
    del tensors[random.choice(list(tensors))]


def _and_another(random: Random, tensors: dict[str, Tensor]) -> None:
    tensors["another"] = torch.zeros(3)


def _deep(random: Random, header: dict[str, Any], data: bytes) -> tuple[Any, bytes]:
    return b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, data


def _overlapping(random: Random, header: dict[str, Any], data: bytes) -> tuple[Any, bytes]:
    one, other = random.sample([name for name in header if name != "__metadata__"], 2)
    header[one]["data_offsets"] = header[other]["data_offsets"]
    return header, data


def _metadata(random: Random, header: dict[str, Any], data: bytes) -> tuple[Any, bytes]:
    return {"__metadata__": {"x": 7}, **header}, data


WEIGHTS: Mapping[str, Bytes] = {
    "header too long": _length(2**40),
    "header of 2^64": _length(2**64 - 1),
    "header of 0": _length(0),
    "dtype": _field("dtype", "F64", "F16", "BF16", "I32", "BOOL", "F8_E4M3", "X", None, 7),
    "shape": _field("shape", [], [0], [-1], [2**40], [2**63, 2], [1.5], None, "7"),
    "offsets": _field("data_offsets", [0, 0], [-4, 0], [0, 2**40], [4, 0], [0], None, ["0", "4"]),
    "offsets that overlap": _on_header(_overlapping),
    "metadata": _on_header(_metadata),
    "deep header": _on_header(_deep),
    "short data": _on_header(lambda random, header, data: (header, data[:-4])),
    "more data": _on_header(lambda random, header, data: (header, data + bytes(4))),
    "NaN": _on_tensors(_one(_with_value(float("nan")))),
    "infinite": _on_tensors(_one(_with_value(float("-inf")))),
    "float64": _on_tensors(_one(Tensor.double)),
    "float16": _on_tensors(_one(Tensor.half)),
    "other shape": _on_tensors(_one(lambda tensor: tensor.flatten()[1:])),
    "flat": _on_tensors(_one(Tensor.flatten)),
    "tensor missing": _on_tensors(_without_one),
    "tensor unknown": _on_tensors(_and_another),
}

# --- the model folder

CARD, TENSORS = "model/model.json", "model/weights.safetensors"


def _with_checksum(name: str, change: Bytes) -> Damage:
    """Other weights whose checksum on the card is made right again."""

    def apply(random: Random, path: Path) -> None:
        path.write_bytes(change(random, path.read_bytes()))
        card = path.with_name("model.json")
        value = json.loads(card.read_bytes())
        card.write_text(json.dumps({**value, "weights_sha256": sha256_of(path)}))

    return Damage(f"{name}, checksum made right", TENSORS, apply)


SIZES = (10**12, 2**31, 10**6, 10**5, 0, -1, 7, 1.5, "8", None)


def _architecture(random: Random, whole: bytes) -> bytes:
    card = json.loads(whole)
    fields = [k for k, v in card["model"].items() if isinstance(v, int)]
    card["model"][random.choice(fields)] = random.choice(SIZES)
    return json.dumps(card).encode()


def _other_model(random: Random, whole: bytes) -> bytes:
    card = json.loads(whole)
    card["model"] = random.choice(
        [{"name": "zooming_slowmo"}, {"name": "../x"}, {"name": "stdan", "preset": "published"}, {}]
    )
    return json.dumps(card).encode()


def _exported() -> dict[str, bytes]:
    tensors = torch.load("out.pth", weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


MODEL_FOLDER = Kind(
    "model",
    with_model,
    [
        *in_json(CARD, "model/"),
        *in_text(CARD, "model/"),
        *in_bytes(CARD, COARSE),
        *[in_file("architecture", CARD, _architecture, ("model/",))] * 8,
        *[in_file("other model", CARD, _other_model, ("model/",))] * 2,
        *in_bytes(TENSORS),
        *(_with_checksum(name, change) for name, change in WEIGHTS.items()),
        *[_with_checksum(name, WEIGHTS[name]) for name in ("dtype", "shape", "offsets")] * 2,
    ],
    [
        verb("evaluate", left=lambda: files("evaluation", "frames.csv"), out="evaluation"),
        verb("export-checkpoint", "model", "out.pth", left=_exported, out="out.pth"),
    ],
    share=3,
)

# --- published checkpoints

PTH = "in.pth"
PUBLISHED_MODEL = "zooming_slowmo"


def _published() -> None:
    torch.manual_seed(0)
    config = PUBLISHED[PUBLISHED_MODEL].published
    torch.save(published_weights(build_model(config), config), PTH)


class Harmful:
    """Unpickled, it would make the file `ran` in the working folder."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


RAN = "../outside/ran"
PAYLOADS: tuple[Harmful, ...] = (
    Harmful(exec, f"open({RAN!r}, 'w')"),
    Harmful(eval, f"open({RAN!r}, 'w')"),
    Harmful(Path(RAN).touch.__func__, Path(RAN)),  # type: ignore[attr-defined]
    Harmful(os.system, f"touch {RAN}"),
    Harmful(shutil.copy, PTH, RAN),
)

OnLoaded = Callable[[Random, dict[str, Any]], Any]


def _on_loaded(change: OnLoaded) -> Bytes:
    """The checkpoint saved again with something else in it."""

    def on_file(random: Random, whole: bytes) -> bytes:
        loaded = torch.load(io.BytesIO(whole), weights_only=True)
        out = io.BytesIO()
        torch.save(change(random, dict(loaded)), out)
        return out.getvalue()

    return on_file


def _tensor(change: Callable[[Tensor], Any]) -> Bytes:
    """Something else in the place of one tensor."""

    def on_one(random: Random, loaded: dict[str, Any]) -> Any:
        name = random.choice([name for name, tensor in loaded.items() if tensor.numel() > 1])
        return {**loaded, name: change(loaded[name])}

    return _on_loaded(on_one)


def _pickled(value: Any) -> Bytes:
    """A small file of `torch.save` with just this value."""

    def on_file(random: Random, whole: bytes) -> bytes:
        out = io.BytesIO()
        torch.save(value, out)
        return out.getvalue()

    return on_file


def _unfolding() -> list[Any]:
    """A list of a thousand million items, in a few bytes of pickle."""
    value: list[Any] = [0] * 10
    for _ in range(8):
        value = [value] * 10
    return value


def _in_pickle(change: Bytes) -> Bytes:
    """Damage to the pickle within the file's zip, its checksum right."""

    def on_file(random: Random, whole: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
            for info in old.infolist():
                content = old.read(info)
                is_pickle = info.filename.endswith("data.pkl")
                new.writestr(info.filename, change(random, content) if is_pickle else content)
        return out.getvalue()

    return on_file


def _renamed(prefix: str) -> Bytes:
    return _on_loaded(lambda random, loaded: {prefix + name: t for name, t in loaded.items()})


def _below(key: str) -> Bytes:
    return _on_loaded(lambda random, loaded: {key: loaded, "epoch": 7})


def _deep_pickle(random: Random, whole: bytes) -> bytes:
    """Lists within lists, by the pickle's own opcodes."""
    return _in_pickle(lambda r, w: b"\x80\x02" + b"]" * DEPTH + b"a" * (DEPTH - 1) + b".")(
        random, whole
    )


def _two_gib(random: Random, whole: bytes) -> bytes:
    """A tensor that says it has 2 GiB, of a storage of a few bytes."""
    tensor = torch.zeros(1).expand(2**29)
    return _tensor(lambda _: tensor)(random, whole)


CHECKPOINTS: Mapping[str, Bytes] = {
    **{f"pickle: {name}": _in_pickle(change) for name, change in BYTES.items()},
    **{
        f"payload {number}": _on_loaded(lambda r, loaded, p=payload: {**loaded, "x": p})  # type: ignore[misc]
        for number, payload in enumerate(PAYLOADS)
    },
    **{f"bare payload {number}": _pickled(payload) for number, payload in enumerate(PAYLOADS)},
    "payload of an old pickle": lambda random, whole: pickle.dumps(PAYLOADS[0], protocol=0),
    "NaN": _tensor(_with_value(float("nan"))),
    "infinite": _tensor(_with_value(float("inf"))),
    "meta": _tensor(lambda tensor: tensor.to("meta")),
    "sparse": _tensor(lambda tensor: tensor.flatten()[:9].to_sparse()),
    "quantised": _tensor(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
    "complex": _tensor(lambda tensor: tensor.to(torch.complex64)),
    "bool": _tensor(lambda tensor: tensor > 0),
    "nested": _tensor(lambda t: torch.nested.nested_tensor([t.flatten()[:2], t.flatten()[:1]])),
    "other shape": _tensor(lambda tensor: tensor.flatten()[1:].clone()),
    "none": _tensor(lambda tensor: None),
    "number": _tensor(lambda tensor: 7),
    "2 GiB": _two_gib,
    "list of a thousand million": _pickled(_unfolding()),
    "deep pickle": _deep_pickle,
    "list": _pickled([torch.zeros(3)]),
    "tensor": _pickled(torch.zeros(3)),
    "empty mapping": _pickled({}),
    "names that are none": _pickled({7: torch.zeros(3), None: torch.zeros(1)}),
    "name twice, with and without module.": _on_loaded(
        lambda random, loaded: {
            **loaded,
            **{f"module.{name}": tensor + 1 for name, tensor in list(loaded.items())[:1]},
        }
    ),
    "module.": _renamed("module."),
    "net.": _renamed("net."),
    "markup": _renamed("[/bold]\x1b[2J"),
    "below state_dict": _below("state_dict"),
    "below params_ema": _below("params_ema"),
    "below nothing known": _below("x"),
}


def _imported() -> bytes:
    return Path("imported/weights.safetensors").read_bytes()


CHECKPOINT = Kind(
    "checkpoint",
    _published,
    in_bytes(PTH, {**BYTES, **CHECKPOINTS}),
    [verb("import-checkpoint", PUBLISHED_MODEL, PTH, "imported", left=_imported, out="imported")],
    share=1,
)

# --- the run of a training that was stopped


def _stopped_run() -> None:
    """A run with checkpoints at steps 5 and 10 and a history that runs to step 8."""
    steps = iter(range(TINY.steps))
    try:
        make_trainer(Path("run"), should_stop=lambda: next(steps) == 9).run()
    except StvsrError:
        return
    raise AssertionError("a stopped training says so")


def _resume() -> int:
    """Train on to the last step; the exit status is that of a verb."""
    set_up_logging()
    try:
        make_trainer(Path("run")).run()
    except StvsrError as error:
        sys.stderr.write(f"stvsr train: {error.message()}\n")
        return 1
    return 0


STEP = "run/checkpoints/step-00000010"


def _resealed(name: str, change: Callable[[Random, dict[str, Any]], None]) -> Damage:
    """Another state whose checksum is made right again: it is refused, or the one before used."""

    def apply(random: Random, path: Path) -> None:
        state = json.loads(path.read_text().splitlines()[0])
        change(random, state)
        line = json.dumps(state, sort_keys=True)
        path.write_text(f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n")

    return Damage(f"{name}, checksum made right", f"{STEP}/state.json", apply, ("step-00000010",))


def _set(*path: str, value: Any) -> Callable[[Random, dict[str, Any]], None]:
    def change(random: Random, state: dict[str, Any]) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


def _lose(*path: str) -> Callable[[Random, dict[str, Any]], None]:
    def change(random: Random, state: dict[str, Any]) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


STATES: Mapping[str, Callable[[Random, dict[str, Any]], None]] = {
    "format 99": _set("format", value=99),
    "no format": _lose("format"),
    "no counters": _lose("counters"),
    "no score": _lose("score"),
    "no files": _lose("files"),
    "no weights": _lose("files", "weights.safetensors"),
    "file that leads up": _set("files", "../../../../outside/x", value="0" * 64),
    "no step": _lose("counters", "step"),
    "unknown counter": _set("counters", "unknown", value=1),
    "step of text": _set("counters", "step", value="10"),
    "another step": _set("counters", "step", value=5),
    "negative step": _set("counters", "step", value=-1),
    "step beyond the last": _set("counters", "step", value=10**9),
    "huge step": _set("counters", "step", value=10**30),
    "NaN": _set("counters", "window_loss", value=float("nan")),
    "none": _set("counters", "window_steps", value=None),
    "negative steps": _set("counters", "window_steps", value=-2),
    "validation of text": _set("counters", "validation", value={"psnr_y": "x"}),
    "validation list": _set("counters", "validation", value=[1]),
    "score of text": _set("score", value="x"),
    "counters list": _set("counters", value=[]),
    "files list": _set("files", value=["weights.safetensors"]),
}

HISTORY = "run/history.jsonl"
LINES: Mapping[str, Bytes] = {
    **BYTES,
    **{c.__name__: c for c in (flip_digit, lost_line, doubled_line, swapped_lines)},
}

RUN = Kind(
    "run",
    _stopped_run,
    [
        *in_json("run/run.json", "run:"),
        *in_text("run/run.json"),
        *in_bytes("run/run.json", COARSE),
        *in_bytes(HISTORY, LINES),
        *in_text(HISTORY),
        *in_json_lines(HISTORY),
        *in_bytes(f"{STEP}/state.json", BYTES, "step-00000010"),
        *in_text(f"{STEP}/state.json", "step-00000010"),
        in_file("another digit", f"{STEP}/state.json", flip_digit, ("step-00000010",)),
        *(_resealed(name, change) for name, change in STATES.items()),
        *in_bytes(f"{STEP}/weights.safetensors", BYTES, "step-00000010"),
        *in_bytes(f"{STEP}/optimizer.safetensors", BYTES, "step-00000010"),
        *in_bytes(f"{STEP}/ema.safetensors", COARSE, "step-00000010"),
    ],
    [Door("training", _resume, lambda: end_of(Path("run")))],
    share=4,
)

# --- a finished run: what `stvsr train` publishes of it, and `stvsr track sync` uploads

NOWHERE = ("--address", "127.0.0.1:9")
"""A cluster that is not there: a run that is not at its end cannot train here."""


def finished() -> None:
    """Shards, and a run at its last step that was published, evaluated and registered."""
    from stvsr.launch.job import deciding_parameters, new_job, present_code, run_stem
    from stvsr.launch.track import remember
    from stvsr.launch.train import checked_lineage
    from stvsr.params import load_params
    from stvsr.tracking.store import resolve_uri
    from stvsr.training.loop import Trainer, make_optimizer
    from stvsr.training.run import find_run, open_run

    sharded()
    write_params(
        model=MODEL,
        train={**TRAIN, "steps": 2},
        loader={"kind": "torch", "threads": 1},
    )
    params = load_params(Path("params.yaml"))
    lineage = checked_lineage("data/shards", params.loader)
    code = present_code(params.model.name)
    path = find_run(Path("runs").resolve(), run_stem(params, lineage), code)
    opened = open_run(path, deciding_parameters(params, lineage), code)
    torch.manual_seed(0)
    model = build_model(params.model)
    Trainer(
        model=model,
        optimizer=make_optimizer(model, params.train),
        batches=lambda start: (batch_at(n, params.train) for n in range(start, 2)),
        run=opened,
        config=params.train,
        seed=0,
    ).run()
    uri = resolve_uri(None, Path().resolve())
    remember(new_job(params, "data/shards", opened, tracking_uri=uri))
    Path("runs", "of").symlink_to(path.name)
    run("train", *NOWHERE)
    run("track", "sync")
    run("evaluate")
    run("report")
    run("register")


def _published_model() -> dict[str, Any]:
    card = json.loads(Path("again/model.json").read_bytes())
    return {"card": card, **files("again", "weights.safetensors", "history.csv")}


def _uploaded() -> list[Any]:
    """All that MLflow has of the training run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    found = []
    for experiment in client.search_experiments():
        for each in client.search_runs([experiment.experiment_id]):
            curves = {
                name: [(p.step, p.value) for p in client.get_metric_history(each.info.run_id, name)]
                for name in each.data.metrics
                if name not in TIMING
            }
            found.append((each.info.run_name, each.data.params, curves))
    return sorted(found, key=str)


RUN_FOLDER = "runs/of"
RECORD = f"{RUN_FOLDER}/run.json"


def _of_run(*names: str) -> list[Damage]:
    found: list[Damage] = []
    for name in names:
        file = f"{RUN_FOLDER}/{name}"
        also = ("stdan-small-",)
        found += [*in_text(file, *also), *in_bytes(file, COARSE, *also)]
        found += [*in_json(file, *also)]
    return found


FINISHED = Kind(
    "finished-run",
    finished,
    [
        *_of_run("run.json"),
        *in_bytes(f"{RUN_FOLDER}/history.jsonl", LINES),
        *in_json_lines(f"{RUN_FOLDER}/history.jsonl"),
        *in_bytes(f"{RUN_FOLDER}/checkpoints/step-00000002/state.json", BYTES, "checkpoints"),
        *in_bytes(
            f"{RUN_FOLDER}/checkpoints/step-00000002/weights.safetensors", COARSE, "checkpoints"
        ),
    ],
    [verb("train", *NOWHERE, "--out", "again", left=_published_model, out="again")],
    share=2,
)

TRACKED = Kind(
    "tracked-run",
    finished,
    [
        *_of_run("tracked.json", "mlflow.json", "run.json"),
        *in_bytes(f"{RUN_FOLDER}/history.jsonl", LINES),
        *in_json_lines(f"{RUN_FOLDER}/history.jsonl"),
        *in_text(f"{RUN_FOLDER}/weights.sha256"),
        *in_bytes(f"{RUN_FOLDER}/weights.sha256", COARSE),
    ],
    [verb("track", "sync", left=_uploaded)],
    share=1,
)
NETWORKS = (MODEL_FOLDER, CHECKPOINT, RUN, FINISHED, TRACKED)
