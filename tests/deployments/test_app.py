"""The builder and the shipped configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.app import AppArgs, build
from tests.deployments.conftest import ROOT
from tests.support import make_bundle
from tunelab.errors import BundleNotFound, SettingsError
from tunelab.settings import load_settings

CONFIGS = [ROOT / "serve_config.yaml", *sorted((ROOT / "deployments" / "configs").glob("serve_*.yaml"))]
STAGES = {"Ingress", "MelExtractor", "Encoder", "Heads"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configuration_fits_ray_and_the_builder(path: Path) -> None:
    written = yaml.safe_load(path.read_text())
    ServeDeploySchema.model_validate(written)
    (application,) = written["applications"]
    assert application["import_path"] == "deployments.app:build"
    args = AppArgs.model_validate(application["args"])
    settings = load_settings()
    stages = {deployment["name"]: deployment for deployment in application["deployments"]}
    assert set(stages) == STAGES
    for name, stage in stages.items():
        # Everything that decides how the stage behaves under load is written out, not left to defaults.
        assert stage["max_queued_requests"] > 0, name
        assert stage["max_ongoing_requests"] >= stage["autoscaling_config"]["target_ongoing_requests"], name
        assert stage["autoscaling_config"]["min_replicas"] >= 1, name
        assert stage["graceful_shutdown_timeout_s"] > settings.request_timeout_s, name
    # A request that is still being sent is not cut off when its replica is taken away.
    longest = settings.upload_timeout_s + settings.request_timeout_s
    assert stages["Ingress"]["graceful_shutdown_timeout_s"] > longest
    assert written["http_options"]["request_timeout_s"] > longest
    assert stages["Ingress"]["max_ongoing_requests"] > settings.max_concurrent
    assert stages["MelExtractor"]["max_ongoing_requests"] == args.decoder_threads
    assert stages["Encoder"]["max_ongoing_requests"] >= 2 * args.max_batch_size


def test_shipped_graph_fits_two_cores_at_its_largest() -> None:
    (application,) = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"]
    needed = sum(
        stage["autoscaling_config"]["max_replicas"] * stage["ray_actor_options"]["num_cpus"]
        for stage in application["deployments"]
    )
    assert needed <= 2.0


def test_nonsense_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        AppArgs.model_validate({"bundel": "tunelab-v1"})
    with pytest.raises(BundleNotFound):
        build(AppArgs(bundle="no-such-bundle"))
    monkeypatch.setenv("TUNELAB_MAX_UPLOAD_MB", "-1")
    with pytest.raises(SettingsError):
        build(AppArgs(bundle=str(make_bundle(tmp_path / "small-v1", layers=1))))
