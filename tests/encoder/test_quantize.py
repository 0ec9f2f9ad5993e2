"""8-bit linear layers: what they keep of the embedding, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.encoder.conftest import cosines
from tunelab.encoder import Bundle, load_engine
from tunelab.encoder._openvino import ov
from tunelab.encoder.bundle import RANGES
from tunelab.encoder.openvino_engine import converted_graph
from tunelab.encoder.quantize import (
    has_int8_products,
    measure_ranges,
    quantise,
    read_ranges,
    write_ranges,
)
from tunelab.errors import BundleInvalid, EngineError
from tunelab.types import FloatArray


@pytest.fixture(scope="module")
def ranges(small: Bundle, mels: FloatArray) -> dict[str, tuple[float, float]]:
    return measure_ranges(ov.Core().read_model(converted_graph(small)), mels)


@pytest.fixture(scope="module")
def quantised(
    small: Bundle, ranges: dict[str, tuple[float, float]], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    folder = tmp_path_factory.mktemp("int8") / "small-int8"
    shutil.copytree(small.path, folder)
    write_ranges(folder, ranges, "three windows of noise")
    return Bundle.open(folder)


def test_every_linear_layer_has_a_range_and_shared_inputs_share_it(ranges: dict[str, tuple[float, float]]) -> None:
    layers = {name.partition(".")[2].partition(".")[0] for name in ranges}
    assert len(ranges) == 6 * len(layers)
    for number in layers:
        query, key, value = (ranges[f"layers.{number}.attention.{part}_proj"] for part in "qkv")
        assert query == key == value
    assert all(low < 0 < high for low, high in ranges.values())


def test_the_graph_computes_in_integers_and_keeps_the_embedding(
    quantised: Bundle, mels: FloatArray, wanted: FloatArray
) -> None:
    engine = load_engine(quantised, "openvino", threads=2, precision="int8")
    assert engine.name == "openvino-int8"
    got = engine(mels)
    assert cosines(got, wanted).min() > 0.99
    # It is no other precision in disguise.
    assert not np.allclose(got, load_engine(quantised, "openvino", threads=2, precision="f32")(mels), atol=1e-4)
    np.testing.assert_array_equal(engine(mels[:1]), got[:1])


def test_products_run_on_bytes(quantised: Bundle) -> None:
    model = ov.Core().read_model(converted_graph(quantised))
    stored = read_ranges(quantised.path)
    assert stored is not None
    quantise(model, stored)
    compiled = ov.Core().compile_model(model, "CPU", {})
    products = [
        op.get_rt_info()["runtimePrecision"].astype(str)
        for op in compiled.get_runtime_model().get_ops()
        if op.get_rt_info()["layerType"].astype(str) in ("FullyConnected", "MatMul")
    ]
    assert products
    assert set(products) <= {"u8", "i8"}


def test_int8_is_the_default_where_the_cpu_has_it(quantised: Bundle, small: Bundle) -> None:
    named = load_engine(quantised, "openvino", threads=1).name
    assert (named == "openvino-int8") == has_int8_products()
    assert load_engine(small, "openvino", threads=1).name != "openvino-int8"


def test_ranges_belong_to_the_revision(quantised: Bundle, small: Bundle) -> None:
    assert quantised.revision != small.revision


def test_what_cannot_run_in_integers_is_refused(small: Bundle) -> None:
    with pytest.raises(EngineError, match="int8"):
        load_engine(small, "openvino", threads=1, precision="int8")
    with pytest.raises(EngineError, match="int8"):
        load_engine(small, "torch", threads=1, precision="int8")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"ranges": {"a": [1, 0]}}',
        '{"ranges": {"a": [0, "x"]}}',
        '{"ranges": {"a": [0]}}',
    ],
)
def test_broken_ranges_are_refused(tmp_path: Path, content: str) -> None:
    assert read_ranges(tmp_path) is None
    (tmp_path / RANGES).write_text(content)
    with pytest.raises(BundleInvalid):
        read_ranges(tmp_path)


def test_a_layer_without_a_range_is_refused(small: Bundle, ranges: dict[str, tuple[float, float]]) -> None:
    some = {name: limits for name, limits in ranges.items() if not name.endswith("fc2")}
    with pytest.raises(BundleInvalid, match="fc2"):
        quantise(ov.Core().read_model(converted_graph(small)), some)


def test_instructions_are_read_from_the_cpu(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    assert not has_int8_products(file)
    file.write_text("model name\t: vnni\nflags\t\t: fpu avx2\n")
    assert not has_int8_products(file)
    file.write_text("flags\t\t: fpu avx2 avx512_vnni\n")
    assert has_int8_products(file)


def test_ranges_are_written_as_they_are_read(tmp_path: Path) -> None:
    write_ranges(tmp_path, {"layers.0.mlp.fc1": (-1.5, 2.25)}, "a test")
    assert read_ranges(tmp_path) == {"layers.0.mlp.fc1": (-1.5, 2.25)}
    assert json.loads((tmp_path / RANGES).read_text())["measured_on"] == "a test"
