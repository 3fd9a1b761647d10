"""Published checkpoints come in and go out without loss, and nothing else comes in."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stvsr.artifact import load_artifact
from stvsr.cli import main
from stvsr.core.errors import CheckpointError
from stvsr.models import RsttConfig, build_model
from stvsr.published import (
    PUBLISHED,
    export_checkpoint,
    import_checkpoint,
    load_published,
    published_weights,
)


def write_checkpoint(
    path: Path, model: str = "stdan", prefix: str = "", size: str = "published"
) -> dict[str, Tensor]:
    """A checkpoint as the published code writes one, buffers included."""
    torch.manual_seed(0)
    config = PUBLISHED[model].config.model_validate({"preset": size})
    weights = published_weights(build_model(config), config)
    buffers = {f"{prefix}a.{name}": torch.zeros(3) for name in PUBLISHED[model].ignored}
    torch.save({prefix + name: tensor for name, tensor in weights.items()} | buffers, path)
    return weights


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_checkpoint_goes_in_and_out_without_loss(
    model: str, prefix: str, tmp_path: Path
) -> None:
    weights = write_checkpoint(tmp_path / "in.pth", model, prefix)
    import_checkpoint(model, tmp_path / "in.pth", tmp_path / "artifact")
    export_checkpoint(tmp_path / "artifact", tmp_path / "out.pth")
    exported = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(exported) == list(weights)
    assert all(torch.equal(exported[name], tensor) for name, tensor in weights.items())


def test_blocks_that_two_parts_share_may_be_in_a_checkpoint_twice(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "in.pth", "stinet")
    copies = {
        f"interp_h.{i}.{name}": weights[f"interp_l.{i + 1}.{name}"]
        for i in range(1, 6)
        for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
    }
    torch.save(weights | copies, tmp_path / "both.pth")
    import_checkpoint("stinet", tmp_path / "both.pth", tmp_path / "artifact")
    copies["interp_h.3.conv1.weight"] = copies["interp_h.3.conv1.weight"] + 1
    torch.save(weights | copies, tmp_path / "different.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(interp_h.3.conv1.weight\)"):
        import_checkpoint("stinet", tmp_path / "different.pth", tmp_path / "other")


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_checkpoint_is_opened_without_naming_its_model(model: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "in.pth", model)
    assert load_published(tmp_path / "in.pth")[1].model.name == model


@pytest.mark.parametrize("size", ["S", "M"])
def test_the_size_of_a_checkpoint_is_found_by_its_tensors(size: str, tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "in.pth", "rstt", size=size)
    card = import_checkpoint("rstt", tmp_path / "in.pth", tmp_path / "artifact")
    assert card.model == RsttConfig.model_validate({"preset": size})
    export_checkpoint(tmp_path / "artifact", tmp_path / "out.pth")
    exported = torch.load(tmp_path / "out.pth", weights_only=True)
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in weights.items())

    del weights["conv_last.bias"]
    torch.save(weights, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=r"rstt: 1 missing \(conv_last.bias\); allowed"):
        import_checkpoint("rstt", tmp_path / "in.pth", tmp_path / "artifact")


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "in.pth").write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="no checkpoint of plain tensors") as refusal:
        load_published(tmp_path / "in.pth")
    assert "\n" not in str(refusal.value)


def test_an_imported_checkpoint_is_a_model_artifact(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "in.pth")
    import_checkpoint("stdan", tmp_path / "in.pth", tmp_path / "artifact")
    network, card = load_artifact(tmp_path / "artifact")
    assert card.model == PUBLISHED["stdan"].published
    assert network(torch.rand(1, 2, 3, 8, 8)).shape == (1, 3, 3, 32, 32)


def test_what_is_missing_unexpected_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "in.pth")
    del weights["conv_first.weight"]
    weights["conv_fist.weight"] = torch.zeros(3)
    weights["conv_last.bias"] = torch.zeros(4)
    weights["fusion_f_b.bias"] = torch.zeros(64, dtype=torch.int64)
    torch.save(weights, tmp_path / "in.pth")
    with pytest.raises(CheckpointError) as refusal:
        import_checkpoint("stdan", tmp_path / "in.pth", tmp_path / "out")
    text = str(refusal.value)
    assert "1 missing (conv_first.weight)" in text
    assert "1 unexpected (conv_fist.weight)" in text
    assert "conv_last.bias: found float32 (4,), expected float32 (3,)" in text
    assert "fusion_f_b.bias: found int64 (64,), expected float32 (64,)" in text
    assert not (tmp_path / "out").exists()


def test_another_model_s_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "zsm.pth", "zooming_slowmo")
    with pytest.raises(CheckpointError, match=r"missing .* and \d+ more.*unexpected") as refusal:
        import_checkpoint("stdan", tmp_path / "zsm.pth", tmp_path / "out")
    assert "\n" not in str(refusal.value)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of the file ran')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><body>Google Drive</body></html>", "found a web page"),
        (b"\xef\xbb\xbf<!-- quota --><html>Google Drive</html>", "found a web page"),
        (b"PK\x03\x04 and no more", "no checkpoint of plain tensors"),
        (b"", "its 0 bytes are no checkpoint of plain tensors"),
        (pickle.dumps({"weights": Harmful()}, protocol=2), "it calls exec, which is not run"),
    ],
    ids=["a web page", "a later web page", "a cut archive", "empty", "code"],
)
def test_a_file_that_is_no_checkpoint_is_one_clear_error(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as refusal:
        import_checkpoint("stdan", tmp_path / "file.pth", tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert "weights_only" not in str(refusal.value)


def test_an_import_takes_the_place_of_a_model_and_of_nothing_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "in.pth")

    def imported(out: Path) -> int:
        return main(["import-checkpoint", "stdan", str(tmp_path / "in.pth"), str(out)])

    assert [imported(tmp_path / "artifact") for _ in range(2)] == [0, 0]
    before = (tmp_path / "in.pth").read_bytes()
    assert [imported(tmp_path / "in.pth"), imported(tmp_path)] == [1, 1]
    assert (tmp_path / "in.pth").read_bytes() == before


def test_a_checkpoint_is_not_exported_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found a folder"):
        export_checkpoint(tmp_path / "artifact", tmp_path)


def test_a_file_that_is_not_there_and_an_unknown_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_checkpoint("stdan", tmp_path / "none.pth", tmp_path / "out")
    with pytest.raises(CheckpointError, match="allowed: stdan, zooming_slowmo, stinet"):
        import_checkpoint("stdna", tmp_path / "none.pth", tmp_path / "out")
