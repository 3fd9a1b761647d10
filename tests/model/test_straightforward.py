"""Ours equals the straightforward, pair-by-pair version, in all its ablations."""

import pytest
import torch
from torch import Tensor

from stvsr.models import RsttConfig, StdanConfig, StvsrModel, TmnetConfig, build_model
from stvsr.models.layers.naming import Rule, published_name
from stvsr.models.rstt.state_dict import RULES as RSTT_RULES
from stvsr.models.stdan.state_dict import RULES
from stvsr.models.tmnet.state_dict import RULES as TMNET_RULES
from tests.support.references import weight_by_rule
from tests.support.straightforward import StraightforwardStdan
from tests.support.straightforward_rstt import StraightforwardRstt
from tests.support.straightforward_tmnet import StraightforwardTmnet

ABLATIONS = {
    "Omega 1": StdanConfig(interpolation="short", aggregation="none"),
    "Omega 2": StdanConfig(interpolation="short", aggregation="fixed", k=1),
    "Omega 3": StdanConfig(interpolation="short", aggregation="fixed", k=3),
    "Omega 4": StdanConfig(interpolation="short"),
    "k = 1": StdanConfig(k=1, T_top=1),
    "k = 5": StdanConfig(k=5, T_top=7),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ours_equals_the_straightforward_version(name: str) -> None:
    config = ABLATIONS[name].model_copy(update={"extraction_groups": 1, "reconstruction_groups": 1})
    model = build_model(config).double().eval()
    weights = weights_by_rule(model, RULES)
    clip = torch.rand(1, 3, 3, 16, 8, dtype=torch.float64)
    straightforward = StraightforwardStdan(weights, config.k, config.T_top)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), straightforward(clip))


@pytest.mark.parametrize("size", [(3, 5), (16, 50), (34, 36), (40, 33)], ids=str)
def test_rstt_equals_the_straightforward_version(size: tuple[int, int]) -> None:
    """Stages of one window and of several, padded and shifted along each axis."""
    model = build_model(RsttConfig(channels=8, heads=1, blocks=2, hr_channels=4)).double().eval()
    straightforward = StraightforwardRstt(weights_by_rule(model, RSTT_RULES), heads=1)
    clip = torch.rand(2, 4, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = straightforward(clip)
        torch.testing.assert_close(model(clip), expected)
    torch.testing.assert_close(model(clip), expected)  # all windows at once


@pytest.mark.parametrize("times", [None, (0.5,), (0.2,), (0.1, 0.5, 0.75)], ids=str)
def test_tmnet_equals_the_straightforward_version(times: tuple[float, ...] | None) -> None:
    """Gradients too: what is made once for all times and both directions is added up."""
    config = TmnetConfig(channels=16, front_blocks=1, back_blocks=1)
    model = build_model(config).double().eval()
    weights = weights_by_rule(model, TMNET_RULES)
    straightforward = StraightforwardTmnet(weights)
    clip = torch.rand(2, 3, 3, 8, 12, dtype=torch.float64)
    of = [weights[name] for name in weights if times not in (None, (0.5,)) or "TMB" not in name]

    expected = straightforward(clip, times)
    got = model(clip) if times is None else model(clip, times)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got.square().mean(), of),
        torch.autograd.grad(expected.square().mean(), of),
    )
    with torch.no_grad():  # part by part
        parts = model(clip, times or (0.5,))
    torch.testing.assert_close(parts, expected)


def weights_by_rule(model: StvsrModel, rules: tuple[Rule, ...]) -> dict[str, Tensor]:
    """A model's weights by their published names, filled in by the references' rule."""
    weights = {published_name(ours, rules): p for ours, p in model.named_parameters()}
    with torch.no_grad():
        for published, parameter in weights.items():
            parameter.copy_(weight_by_rule(published, tuple(parameter.shape)))
    return dict(weights)
