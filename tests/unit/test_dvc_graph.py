"""Every module that can change a stage's result makes that stage stale; nothing else does."""

from pathlib import Path
from typing import Any

import grimp
import pytest
from ruamel.yaml import YAML

from pipelines.fingerprints import STAGES
from stvsr.core.fingerprint import import_closure
from stvsr.launch.job import NOT_DECIDING as NOT_DECIDING_WEIGHTS
from stvsr.models import MODEL_NAMES
from stvsr.training.config import NOT_DECIDING, TrainConfig

PROJECT = Path(__file__).parents[2]

ENTRIES = {
    "source": ("stvsr.data.sources.source",),
    "code": ("stvsr.data.index.build", "stvsr.data.shards.write"),
    "index": ("stvsr.data.index.build",),
    "shard": ("stvsr.data.shards.write",),  # a cluster runs the same function
    "train": ("stvsr.launch.train", "stvsr.launch.worker"),
    "evaluate": ("stvsr.evaluation.evaluate",),
    "report": ("stvsr.project_report",),
    "register": ("stvsr.promotion",),
}
"""The modules of the functions that each stage's command calls."""

ELSEWHERE = {
    "stvsr.params": "reads params.yaml, whose values are the stages' `params`",
    "stvsr.launch": "runs the same function on other machines; a dependency of `train` alone",
    "stvsr.tracking": "receives what a run logs; a dependency of `register` alone",
    "stvsr.data.sources": "configured by `source`; imported for its configuration alone",
    "stvsr.video": "read by `source`; imported with its configuration",
    "stvsr.data.index": "configured by `index`; imported for its configuration and its manifest",
    "stvsr.data.shards.degrade": "describes a degradation that the model's card names",
    "stvsr.evaluation": "draws a picture while training; a dependency of `evaluate` and `report`",
    "stvsr.metrics": "validates while training; a dependency of `evaluate`",
    "stvsr.training.tracker": "the protocol of trackers",
    "stvsr.models": "named in the report's scores, which `evaluation` holds",
    "stvsr.data": "packages without code",
    "stvsr.ops": "the networks of `stvsr.models`",
    "stvsr.artifact": "the model folder, whose files `model` holds",
}
"""Modules that a stage may import without depending on them, and why."""

MAY_SKIP = {
    "source": (),
    "code": (),
    "index": (),
    "shard": (),
    "train": (
        *("stvsr.tracking", "stvsr.evaluation", "stvsr.metrics"),
        *("stvsr.data.sources", "stvsr.data.index", "stvsr.video"),
    ),
    "evaluate": ("stvsr.data.index",),
    "report": ("stvsr.artifact", "stvsr.metrics", "stvsr.models", "stvsr.ops"),
    "register": ("stvsr.data.index",),
}


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("stvsr", cache_dir=None)


def below(module: str, path: str) -> bool:
    """Whether a module's file is `path` or in it."""
    name = path.removesuffix(".py").replace("/", ".")
    return module == name or module.startswith(f"{name}.")


def is_empty(module: str) -> bool:
    """A package whose file holds nothing but its docstring."""
    file = PROJECT.joinpath(*module.split("."), "__init__.py")
    return file.is_file() and file.read_text().count("\n") <= 1


def test_every_stage_is_looked_at(stages: dict[str, Any]) -> None:
    assert set(stages) == set(ENTRIES) == set(MAY_SKIP)
    assert {skipped for names in MAY_SKIP.values() for skipped in names} <= set(ELSEWHERE)


@pytest.mark.parametrize("stage", ENTRIES)
def test_what_a_stage_imports_is_among_its_dependencies(
    stage: str, stages: dict[str, Any], graph: grimp.ImportGraph
) -> None:
    covered = [path for path in stages[stage]["deps"] if path.startswith("stvsr")]
    imported = set(ENTRIES[stage]).union(*map(graph.find_upstream_modules, ENTRIES[stage]))
    fingerprinted: set[str] = set()
    if f"data/code/{stage}.txt" in stages[stage]["deps"]:
        roots, without = STAGES[stage]
        fingerprinted = {*import_closure(roots), *without}
    missing = {
        module
        for module in imported - fingerprinted
        if not any(below(module, path) for path in covered)
        and not any(below(module, name) for name in MAY_SKIP[stage])
        and module != "stvsr"
        and not is_empty(module)
    }
    assert missing == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_fingerprint_covers_what_decides_the_bytes(stage: str) -> None:
    roots, without = STAGES[stage]
    closure = import_closure(roots, without=without)
    assert {"stvsr.data.clips.png", "stvsr.data.clips.frames"} <= set(closure)
    if stage == "shard":
        assert {"stvsr.core.resize", "stvsr.data.shards.degrade"} <= set(closure)


def test_train_depends_on_the_parameters_that_decide_the_weights(stages: dict[str, Any]) -> None:
    listed = {name for name in stages["train"]["params"] if name.startswith("train.")}
    deciding = set(TrainConfig.model_fields) - NOT_DECIDING
    assert listed == {
        f"train.{name}" for name in {"recipe", "start_from", "start_partly", *deciding}
    }


def test_params_yaml_has_every_parameter_that_a_stage_depends_on(stages: dict[str, Any]) -> None:
    params = YAML(typ="safe", pure=True).load(PROJECT / "params.yaml")
    assert set(params["train"]) == set(TrainConfig.model_fields)
    for stage in stages.values():
        for name in stage.get("params", ()):
            section, _, key = name.partition(".")
            assert section in params
            assert not key or key in params[section]


def test_the_code_of_a_run_has_the_kernels_and_its_own_model_alone() -> None:
    others = [f"stvsr.models.{name}" for name in MODEL_NAMES if name != "stdan"]
    closure = import_closure(["stvsr.launch.worker"], without=(*NOT_DECIDING_WEIGHTS, *others))
    kernels = {"stvsr.ops.triton_kernels", "stvsr.ops.triton_points"}
    assert {*kernels, "stvsr.losses", "stvsr.models.stdan.model", "stvsr.training.loop"} <= set(
        closure
    )
    assert not [name for name in closure if "zooming_slowmo" in name or "tracking" in name]
