"""How workers share out a cluster, and what its failures mean. Real clusters are in test_job.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray

from tests.support import make_bundle
from tunelab.catalog.cluster import _measure, _translate
from tunelab.catalog.job import JobOptions
from tunelab.catalog.pools import Pools, Runner
from tunelab.encoder import Bundle, find_bundle
from tunelab.errors import BundleInvalid, CatalogError, EngineError

Measure = Callable[..., Pools]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return find_bundle(make_bundle(tmp_path_factory.mktemp("models") / "small-v1", layers=1, frames=64))


@pytest.fixture
def measure(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measures of a job on nodes of so many CPUs, or on this machine with two."""

    def on(*nodes: int, gpus: int = 0, local: bool = False, **options: Any) -> Pools:
        resources = {"CPU": float(sum(nodes)), "GPU": float(gpus)}
        alive = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in nodes]
        monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
        monkeypatch.setattr(ray, "nodes", lambda: alive)
        address = None if local else "head:1"
        return _measure(JobOptions("music", "out", "small-v1", address=address, **options), bundle, 2)

    return on


@pytest.mark.parametrize("options", [{}, {"workers": 1}, {"workers": 16}, {"decoders": 64}, {"threads": 8}])
@pytest.mark.parametrize("gpus", [0, 1])
def test_workers_fit_this_machine_however_many_are_asked_for(measure: Measure, options: Any, gpus: int) -> None:
    pools = measure(2, local=True, gpus=gpus, **options)
    assert pools.encoders * pools.encoder_gpus <= gpus
    assert pools.encoders * pools.encoder_cpus + pools.decoders * pools.decoder_cpus <= 2


def test_workers_fill_the_nodes(measure: Measure) -> None:
    pools = measure(4, 4)
    assert (pools.encoders, pools.threads) == (4, 2)
    assert pools.encoders * pools.encoder_cpus + pools.decoders * pools.decoder_cpus <= 8


def test_small_nodes_get_workers_that_fit_them(measure: Measure) -> None:
    pools = measure(1, 1, 1)
    assert (pools.encoders, pools.threads) == (3, 1)
    assert pools.encoder_cpus <= 1


def test_a_cluster_without_nodes_yet_is_measured_for_those_to_come(measure: Measure) -> None:
    pools = measure(0, workers=64)
    assert (pools.encoders, pools.threads) == (64, 2)


def test_gpus_have_an_encoder_each_and_may_be_shared(measure: Measure) -> None:
    pools = measure(16, gpus=2)
    assert (pools.encoders, pools.encoder_gpus, pools.decoders) == (2, 1.0, 14)
    assert measure(16, gpus=2, workers=4).encoder_gpus == 0.5
    assert measure(16, gpus=2, engine="openvino").encoder_gpus == 0


def test_runner_hands_out_rows_until_there_are_none() -> None:
    def rows(files: pa.Table) -> Iterator[pa.Table]:
        yield files.slice(0, 1)
        yield files.slice(1)

    runner = Runner(SimpleNamespace(run=rows), pa.table({"path": ["a", "b"]}))  # type: ignore[arg-type]
    given = [runner.next(), runner.next(), runner.next()]
    assert [table and table["path"].to_pylist() for table in given] == [["a"], ["b"], None]


def test_errors_of_ours_come_back_from_workers() -> None:
    cause = EngineError("no memory")
    assert _translate(ray.exceptions.RayTaskError("encode", "traceback", cause)) is cause
    died = RuntimeError("The actor died.\n  File x\ntunelab.errors.BundleInvalid: it has revision a: not b\n")
    found = _translate(died)
    assert isinstance(found, BundleInvalid)
    assert found.message == "it has revision a: not b"


@pytest.mark.parametrize("text", ["the cluster is gone\nmore", "x\ntunelab.errors.NoSuchError: x", ""])
def test_errors_of_others_are_the_clusters(text: str) -> None:
    found = _translate(RuntimeError(text))
    assert isinstance(found, CatalogError)
    assert "a worker failed" in found.message


def test_bundles_are_named_by_path(measure: Measure, bundle: Bundle) -> None:
    pools = measure(2)
    assert (Path(pools.bundle), pools.revision) == (bundle.path, bundle.revision)
