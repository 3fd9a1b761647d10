"""Ours equals the straightforward, pair-by-pair version, in all its ablations."""

import pytest
import torch

from stvsr.models import StdanConfig, build_model
from stvsr.models.layers.naming import published_name
from stvsr.models.stdan.state_dict import RULES
from tests.support.references import weight_by_rule
from tests.support.straightforward import StraightforwardStdan

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
    weights = {published_name(ours, RULES): p for ours, p in model.named_parameters()}
    with torch.no_grad():
        for published, parameter in weights.items():
            parameter.copy_(weight_by_rule(published, tuple(parameter.shape)))
        clip = torch.rand(1, 3, 3, 16, 8, dtype=torch.float64)
        straightforward = StraightforwardStdan(weights, config.k, config.T_top)
        torch.testing.assert_close(model(clip), straightforward(clip))
