"""The models compute the published networks' numbers, on the device under test."""

import os
import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from stvsr.models import StvsrModel
from stvsr.models.layers.naming import published_name
from stvsr.models.stinet import Stinet
from stvsr.models.tmnet import Tmnet
from tests.support.references import Reference, model_by_rule, stored_part

DEVICE = torch.device(os.environ.get("STVSR_TEST_DEVICE", "cpu"))

pytestmark = pytest.mark.gpu

MAPS = {
    "interpolated": "interpolation",
    "compared": "comparison",
    "aggregated": "aggregation",
    "reconstructed": "reconstruction",
    "encoded_0": "encoder.0",
    "encoded_3": "encoder.3",
    "decoded_0": "decoder.0",
    "decoded_3": "decoder.3",
}
"""The reference's intermediate maps, and the modules of ours that put them out."""

FIRST_PICTURES = ("low_resolution", "intermediate")
"""STINet's pictures of phase 1."""

LOOSER = {r"rstt\w+ conv_last\.bias": 5e-3, r"tmnet_times\w+ .*": 2e-3}
"""Relative errors of gradients in float32, by file and published name: of long sums, and where the
order of a sum decides the side of an activation."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_outputs_maps_loss_and_gradients_are_the_references(
    reference: Reference, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # cuDNN's fast algorithms round more in float32 than a CPU's sums do
    slack = 10 if DEVICE.type == "cuda" and dtype == torch.float32 else 1
    expected = {name: array.to(DEVICE) for name, array in reference.arrays(dtype).items()}
    model = model_by_rule(reference, dtype).to(DEVICE)
    got = outputs_and_maps(model, expected)
    loss = ((got["output"] - expected["target"]).square() + 1e-6).sqrt().mean()
    loss.backward()

    for stored, array in expected.items():
        name = re.sub(r"_[cp]\d+$", "", stored)
        if name in ("extracted", *MAPS, *FIRST_PICTURES, "output"):
            torch.testing.assert_close(
                stored_part(stored, got[name]).reshape(array.shape),
                array,
                atol=5e-5 * slack,
                rtol=0,
                msg=lambda differences, name=name: f"{name}: {differences}",  # type: ignore[misc]
            )
    assert loss.item() == pytest.approx(reference.loss, rel=5e-5 * slack)
    gradients = {
        published_name(name, reference.rules): parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    reached = {name for name, norm in reference.grad_l2.items() if norm}
    assert {name for name, norm in gradients.items() if norm} == reached
    differing = {
        name: (gradients[name], norm)
        for name, norm in reference.grad_l2.items()
        if norm
        and gradients[name]
        != pytest.approx(norm, rel=tolerance(reference, name, dtype) * slack, abs=1e-9)
    }
    assert not differing


def tolerance(reference: Reference, name: str, dtype: torch.dtype) -> float:
    """Relative error of a parameter's gradient that is allowed."""
    of = f"{reference.path.stem} {name}"
    looser = (error for pattern, error in LOOSER.items() if re.fullmatch(pattern, of))
    return next(looser, 5e-4) if dtype == torch.float32 else 5e-4


def outputs_and_maps(model: StvsrModel, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model computes of a reference's inputs."""
    if isinstance(model, Stinet):
        flows = expected["flow_forward"], expected["flow_backward"]
        maps = model.interpolate(expected["input"], *flows)
        pictures = dict(zip(FIRST_PICTURES, model.first_pictures(maps), strict=True))
        return {**pictures, "output": model.reconstruct(maps)}
    got = watch_maps(model)
    if isinstance(model, Tmnet) and "times" in expected:
        (times,) = expected["times"].tolist()
        got["output"] = model.super_resolve(expected["input"], times)
    else:
        got["output"] = model(expected["input"])
    return got


def watch_maps(model: StvsrModel) -> dict[str, Tensor]:
    """A dictionary that the next forward pass fills with the intermediate maps."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = output.detach()

        model.get_submodule(MAPS[name]).register_forward_hook(hook)

    modules = dict(model.named_modules())
    for name, path in MAPS.items():
        if path in modules:
            keep(name)
    if "interpolation" in modules:
        modules["interpolation"].register_forward_pre_hook(
            lambda module, inputs: seen.update(extracted=inputs[0].detach())
        )
    return seen
