"""Checkpoints as people have them: each is imported, or refused in a line that says what to do."""

import argparse
import io
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from stvsr.artifact import load_artifact
from stvsr.core.errors import CheckpointError
from stvsr.models import StdanConfig, build_model
from stvsr.models.base import ModelEntry
from stvsr.published import PUBLISHED, import_checkpoint, published_weights
from tests.support.files import flip_byte
from tests.support.models import TINY_STDAN

Weights = dict[str, Tensor]


class TinyEntry(ModelEntry):
    @property
    def published_sizes(self) -> tuple[StdanConfig]:
        return (TINY_STDAN,)


@pytest.fixture(autouse=True)
def _a_small_network_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PUBLISHED["stdan"]
    tiny = TinyEntry(entry.config, entry.build, entry.recipe, entry.rules, entry.ignored)
    monkeypatch.setitem(PUBLISHED, "stdan", tiny)


def network_weights(seed: int = 0) -> Weights:
    """Multiples of 1/128, which every floating type holds exactly."""
    torch.manual_seed(seed)
    weights = published_weights(build_model(TINY_STDAN), TINY_STDAN)
    return {name: tensor.mul(128).round().div(128) for name, tensor in weights.items()}


def saved(value: object, **options: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, **options)
    return content.getvalue()


def under(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def typed(dtype: torch.dtype) -> Callable[[Weights], bytes]:
    return lambda weights: saved({name: tensor.to(dtype) for name, tensor in weights.items()})


def lightning(weights: Weights) -> dict[str, Any]:
    """The state of a Lightning training, with a loss's network beside the weights."""
    return {
        "epoch": 3,
        "global_step": 1000,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(under("net.", weights)) | {"loss.vgg.0.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 1e-4, "betas": (0.9, 0.99), "widths": [64, 128], "name": None},
        "optimizer_states": [
            {
                "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.ones(4)}},
                "param_groups": [{"lr": 1e-4, "params": [0]}],
            }
        ],
        "lr_schedulers": [{"milestones": Counter({10: 1}), "last_epoch": 3}],
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(30.0)}},
        "loops": {"fit_loop": {"state_dict": {}}},
    }


FORMS: dict[str, Callable[[Weights], bytes]] = {
    "float16": typed(torch.float16),
    "bfloat16": typed(torch.bfloat16),
    "float64": typed(torch.float64),
    "before torch 1.6": lambda w: saved(w, _use_new_zipfile_serialization=False),
    "parameters": lambda w: saved({n: nn.Parameter(t) for n, t in w.items()}),
    "net.": lambda w: saved(under("net.", w)),
    "model.": lambda w: saved(under("model.", w)),
    "_orig_mod.": lambda w: saved(under("_orig_mod.", w)),
    "nested prefixes": lambda w: saved(under("model._orig_mod.module.", w)),
    "a compiled part": lambda w: saved({n.replace(".", "._orig_mod.", 1): t for n, t in w.items()}),
    "state_dict": lambda w: saved({"state_dict": w, "epoch": 3}),
    "params": lambda w: saved({"params": w}),
    "params_ema": lambda w: saved({"params": network_weights(1), "params_ema": w}),
    "containers within": lambda w: saved({"model": {"state_dict": under("module.", w)}}),
    "Lightning": lambda w: saved(lightning(w)),
    "safetensors": lambda w: save({n: t.half() for n, t in under("net.", w).items()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_imported_in_whatever_form_they_are_saved(form: str, tmp_path: Path) -> None:
    weights = network_weights()
    (tmp_path / "in.pth").write_bytes(FORMS[form](weights))
    card = import_checkpoint("stdan", tmp_path / "in.pth", tmp_path / "model")
    imported = published_weights(load_artifact(tmp_path / "model")[0], card.model)
    assert all(torch.equal(imported[name], tensor) for name, tensor in weights.items())


def replaced(weights: Weights, tensor: Tensor) -> Weights:
    return {**weights, "conv_last.bias": tensor}


def first_half_under(prefix: str, weights: Weights) -> Weights:
    half = list(weights)[: len(weights) // 2]
    return {prefix * (name in half) + name: tensor for name, tensor in weights.items()}


def in_zip(content: bytes, name: str, method: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def script() -> bytes:
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 1)), content)
    return content.getvalue()


SETS = "expected one set under one prefix; save the weights alone"
ALONE = "torch.save(model.state_dict(), FILE)"

REFUSED: dict[str, tuple[Callable[[Weights], bytes], tuple[str, ...]]] = {
    "a name twice": (lambda w: saved({**w, **under("module.", w)}), ("module.conv_first", SETS)),
    "a compiled name twice": (lambda w: saved({**w, **under("_orig_mod.", w)}), (SETS,)),
    "half the names with a prefix": (
        lambda w: saved(first_half_under("module.", w)),
        ("module.conv_first.weight", SETS),
    ),
    "two sets": (
        lambda w: saved({"state_dict": w, "ema": w | {}, "epoch": 1}),
        ("conv_first.weight in state_dict and as conv_first.weight in ema", SETS),
    ),
    "NaN": (
        lambda w: saved(replaced(w, torch.tensor([0.0, float("nan"), 0.0]))),
        ("tensor conv_last.bias: 1 of its 3 values are NaN or infinite",),
    ),
    "too large for float32": (
        lambda w: saved(replaced(w, torch.full((3,), 1e300, dtype=torch.float64))),
        ("tensor conv_last.bias: 3 of its 3 values are NaN or infinite",),
    ),
    "integers": (
        lambda w: saved(replaced(w, torch.zeros(3, dtype=torch.int8))),
        ("conv_last.bias: found int8 (3,), expected float32 (3,)",),
    ),
    "quantised": (
        lambda w: saved(replaced(w, torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8))),
        ("found a quantised tensor; save tensor.dequantize()",),
    ),
    "sparse": (
        lambda w: saved(replaced(w, torch.zeros(3).to_sparse())),
        ("found a sparse tensor; save tensor.to_dense()",),
    ),
    "nested": (
        lambda w: saved(replaced(w, torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))),
        ("found a nested tensor; save the tensors in it",),
    ),
    "meta": (
        lambda w: saved(replaced(w, torch.zeros(3, device="meta"))),
        ("found a meta tensor, which has no values",),
    ),
    "settings that are objects": (
        lambda w: saved({"state_dict": w, "hyper_parameters": argparse.Namespace(lr=1)}),
        ("it calls argparse.Namespace, which is not run", ALONE),
    ),
    "a whole module": (
        lambda w: saved(nn.Conv2d(3, 3, 1)),
        ("it calls torch.nn.modules.conv.Conv2d, which is not run", ALONE),
    ),
    "TorchScript": (lambda w: script(), ("found a TorchScript program", ALONE)),
    "a zip of a checkpoint": (
        lambda w: in_zip(saved(w), "stdan.pth"),
        ("found a zip that torch.save did not write; unpack it",),
    ),
    "a later protocol": (
        lambda w: saved(w, pickle_protocol=4),
        ("found pickle protocol 4, expected 2",),
    ),
    "a pointer": (
        lambda w: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        ("found a pointer of Git LFS", "git lfs pull"),
    ),
    "a name of several lines": (
        lambda w: saved({**w, "a\nb" + "c" * 1000: torch.ones(3)}),
        ("1 unexpected ('a\\nbccc", "ccc…)"),
    ),
    "numbers": (lambda w: saved({"epoch": 3}), ("no weights of this network, but epoch",)),
    "a list": (lambda w: saved([1, 2]), ("no weights of this network, but a list",)),
    "nothing": (lambda w: saved({}), ("no weights of this network, but nothing",)),
    "a tensor": (lambda w: saved(torch.ones(3)), ("no weights of this network, but a Tensor",)),
}


def refusal(content: bytes, folder: Path) -> str:
    (folder / "in.pth").write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint("stdan", folder / "in.pth", folder / "model")
    assert not (folder / "model").exists()
    return str(refused.value)


@pytest.mark.parametrize("case", REFUSED)
def test_other_checkpoints_are_refused_in_one_line_with_what_to_do(
    case: str, tmp_path: Path
) -> None:
    make, parts = REFUSED[case]
    text = refusal(make(network_weights()), tmp_path)
    assert text.startswith(f"{tmp_path / 'in.pth'}: ")
    assert [part for part in parts if part not in text] == []
    assert "\n" not in text


DICT = b"\x80\x02}q\x00X\x01\x00\x00\x00a"
"""A pickle up to a dict's first value."""


def doubling(times: int) -> bytes:
    """A tuple of twice the tuple before, as the key of a dict: its hash takes 2 ** times steps."""
    steps = b"".join(b"h%c\x86q%c" % (number, number + 1) for number in range(1, times))
    twice = b"".join(
        step[:2] + step for step in (steps[i : i + 5] for i in range(0, len(steps), 5))
    )
    return b"\x80\x02})q\x01" + twice + b"K\x01s."


HOSTILE: dict[str, bytes] = {
    "more bytes than the network's": in_zip(
        b"\x80\x02" + b"N" * (17 * 1024**2), "archive/data.pkl", zipfile.ZIP_DEFLATED
    ),
    "2 GiB of a bytearray": in_zip(
        DICT + b"c__builtin__\nbytearray\n" + b"J" + struct.pack("<i", 2**31 - 1) + b"\x85Rs.",
        "archive/data.pkl",
    ),
    "a tensor of 4 TB": in_zip(
        DICT + b"ctorch\nFloatTensor\n" + b"J" + struct.pack("<i", 10**9) + b"\x85Rs.",
        "archive/data.pkl",
    ),
    "tuples that double": in_zip(doubling(60), "archive/data.pkl"),
    "lists within lists": in_zip(DICT + b"]" * 200 + b"a" * 199 + b"s.", "archive/data.pkl"),
    "millions of sets": in_zip(DICT + b"(" + b"\x8f" * 60_000 + b"ts.", "archive/data.pkl"),
    "tuples of an old file": doubling(60),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_pickle_that_unfolds_to_too_much_is_refused_before_it_does(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stvsr.checkpoint_file.OBJECTS", 50_000)
    text = refusal(HOSTILE[case], tmp_path)
    assert any(part in text for part in ("unpack to", "unfolds to", "which is not run"))


def test_a_file_of_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "in.pth").open("wb") as file:
        file.truncate(10 * 1024**4)
    with pytest.raises(CheckpointError, match=r"found 10995116277760 bytes, expected \d+ at most"):
        import_checkpoint("stdan", tmp_path / "in.pth", tmp_path / "model")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_before_it_is_opened(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="found no regular file"):
        import_checkpoint("stdan", tmp_path / "in.pth", tmp_path / "model")


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for form in (
        saved(network_weights()),
        pickle.dumps([1], 2),
        FORMS["safetensors"](network_weights()),
    ):
        for part in (1, 9, len(form) // 2, len(form) - 1):
            assert "\n" not in refusal(form[:part], tmp_path)


def test_a_flipped_byte_of_a_value_is_damage(tmp_path: Path) -> None:
    file = tmp_path / "in.pth"
    weights = network_weights()
    torch.save(weights, file)
    values = max(weights.values(), key=Tensor.numel).numpy().tobytes()
    flip_byte(file, file.read_bytes().index(values) + 5)
    with pytest.raises(
        CheckpointError, match=r"in\.pth: .*/data/\d+: its bytes have another check"
    ):
        import_checkpoint("stdan", file, tmp_path / "out")
