"""What a team deploys is what the tools that read it take: by schema, and by Ray's own readers."""

import copy
import json
import shlex
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import ray.autoscaler
import typer
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from ruamel.yaml import YAML

from stvsr.cli import TELEMETRY_OFF, app

PROJECT = Path(__file__).parents[2]
RAY = PROJECT / "infra" / "ray"
KUBERAY = json.loads((PROJECT / "tests" / "data" / "kuberay_v1.json").read_text())
LAUNCHER = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())


def load(name):
    return YAML(typ="safe", pure=True).load(RAY / name)


def cluster_spec(manifest):
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def pods(manifest):
    spec = cluster_spec(manifest)
    return [
        group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]


manifests = pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])


def test_the_launcher_file_fits_rays_schema_and_ray_reads_it():
    config = load("cluster.yaml")
    jsonschema.validate(config, LAUNCHER)
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    (nodes,) = prepared["available_node_types"].values()
    assert nodes["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_launcher_starts_every_node_with_the_token_and_without_telemetry():
    config = load("cluster.yaml")
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0" in commands[-1]
        assert "ray start" in commands[-1]


@manifests
def test_a_manifest_fits_kuberays_schema(name):
    jsonschema.validate(load(name), KUBERAY)


@manifests
def test_a_misspelt_field_does_not_fit(name):
    manifest = load(name)
    pod = pods(manifest)[1]
    pod["containers"][0]["volumeMount"] = pod["containers"][0].pop("volumeMounts")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, KUBERAY)


@manifests
def test_rays_own_reader_of_a_manifest_finds_a_gpu_on_each_worker_and_no_core_on_the_head(name):
    manifest = {"metadata": {"name": "stvsr", "namespace": "default"}} | {
        "spec": cluster_spec(load(name))
    }
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(manifest)
    validate_config(config)
    nodes = config["available_node_types"]
    assert nodes["headgroup"]["resources"]["CPU"] == 0
    assert nodes["gpu"]["resources"]["GPU"] == 1
    assert nodes["gpu"]["min_workers"] == nodes["gpu"]["max_workers"]


@manifests
def test_every_pod_is_confined_and_shares_the_storage_the_token_and_one_image(name):
    manifest = load(name)
    assert cluster_spec(manifest)["authOptions"] == {"mode": "token"}
    containers = [container for pod in pods(manifest) for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert "@sha256:" in containers[0]["image"]
    for pod in pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"]
        assert any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    for container in containers:
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        told = {variable["name"]: variable["value"] for variable in container["env"]}
        off = {key: told[key] for key in told.keys() & TELEMETRY_OFF.keys()}
        assert off == {key: TELEMETRY_OFF[key] for key in off}
        assert off.keys() == {"RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"}


def test_the_jobs_entry_point_is_a_command_with_absolute_paths():
    spec = load("rayjob.yaml")["spec"]
    program, *arguments = shlex.split(spec["entrypoint"])
    verb, *options = arguments
    assert (program, verb) == ("stvsr", "train")
    given = typer.main.get_command(app).commands["train"].make_context("train", options).params  # type: ignore[attr-defined]
    assert all(str(given[name]).startswith("/mnt/") for name in ("out", "runs", "shards"))
    environment = RuntimeEnv(**YAML(typ="safe", pure=True).load(spec["runtimeEnvYAML"]))
    assert environment["env_vars"]["STVSR_GIT_COMMIT"]
