"""The manifests for Kubernetes: what they embed and call is what is here."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from typing import Any

import typer
import yaml

from tests.deployments.conftest import ROOT
from tunelab.cli import app

CONFIGS = ROOT / "deployments" / "configs"


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONFIGS / name).read_text()))


def cluster(name: str, key: str) -> dict[str, Any]:
    return dict(read(name)["spec"][key])


def test_service_embeds_the_cluster_configuration() -> None:
    embedded = yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"])
    assert embedded == read("serve_gpu_cluster.yaml")


def test_clusters_run_the_version_of_ray_that_is_pinned() -> None:
    for name, key in (("rayservice.yaml", "rayClusterConfig"), ("rayjob.yaml", "rayClusterSpec")):
        assert cluster(name, key)["rayVersion"] == version("ray")


def test_every_stage_finds_a_node_at_its_smallest() -> None:
    (application,) = read("serve_gpu_cluster.yaml")["applications"]
    groups = cluster("rayservice.yaml", "rayClusterConfig")["workerGroupSpecs"]
    have = {"cpu": 0, "nvidia.com/gpu": 0}
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        for resource in have:
            have[resource] += group["minReplicas"] * int(container["resources"]["limits"].get(resource, 0))
        assert {entry["name"] for entry in container["env"]} == {
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
            "TUNELAB_DATABASE_URL",
        }
    options = [
        (stage["autoscaling_config"]["min_replicas"], stage["ray_actor_options"])
        for stage in application["deployments"]
    ]
    assert sum(count * need["num_cpus"] for count, need in options) <= have["cpu"]
    assert sum(count * need.get("num_gpus", 0) for count, need in options) <= have["nvidia.com/gpu"]


def test_job_calls_a_command_that_exists_with_options_that_it_has() -> None:
    program, command, *arguments = shlex.split(read("rayjob.yaml")["spec"]["entrypoint"])
    assert program == "tunelab"
    group = typer.main.get_command(app)
    context = group.make_context("tunelab", [], resilient_parsing=True)
    found = group.get_command(context, command)  # type: ignore[attr-defined]
    parsed = found.make_context(command, arguments).params
    assert parsed["address"] == "auto"
    assert str(parsed["out"]).startswith("s3:/")


def test_image_has_all_that_the_package_is_made_of() -> None:
    text = (CONFIGS / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]}
    assert {"pyproject.toml", "README.md", "LICENSE", "tunelab", "deployments", "models"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    pinned = re.search(r'"(torch==[\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert pinned[1] in text
