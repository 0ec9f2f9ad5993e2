"""The encoder's linear layers in 8-bit integers, for CPUs.

A bundle holds only the ranges of the layers' inputs (``int8.json``), which :func:`measure_ranges` took from music; the
weights' own scales follow from the weights. :func:`quantise` writes both into the converted graph as FakeQuantize
operations, which OpenVINO's CPU plugin turns into integer arithmetic (Jacob et al., CVPR 2018, is the scheme: inputs
with one scale and zero point a tensor, weights with one scale an output channel). Attention stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunelab.encoder._openvino import ops, ov
from tunelab.encoder.bundle import RANGES
from tunelab.errors import BundleInvalid
from tunelab.types import FloatArray

_LAYER = re.compile(r"layers\.\d+\.[\w.]+(?=/)")
_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 256, 255

_CPU_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Without one of these, sums of 8-bit products are taken in 16 bits on x86, and can overflow."""

Ranges = Mapping[str, tuple[float, float]]
"""Layer, such as ``layers.0.mlp.fc1`` -> smallest and largest value of its input."""


def read_ranges(bundle: Path) -> Ranges | None:
    """The ranges of a bundle; ``None`` if it has none.

    Raises:
        BundleInvalid: they cannot be read, or make no sense.
    """
    path = bundle / RANGES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ranges = {str(layer): (float(low), float(high)) for layer, (low, high) in content["ranges"].items()}
        if not all(np.isfinite((low, high)).all() and low < high for low, high in ranges.values()):
            raise ValueError("no range")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleInvalid(f"{RANGES} cannot be read, or its ranges make no sense") from error
    return ranges


def write_ranges(bundle: Path, ranges: Ranges, measured_on: str) -> None:
    """Write ``int8.json``.

    Args:
        bundle: its folder.
        ranges: of :func:`measure_ranges`.
        measured_on: what the windows were, for people.
    """
    content = {
        "measured_on": measured_on,
        "ranges": {layer: [round(low, 5), round(high, 5)] for layer, (low, high) in ranges.items()},
    }
    (bundle / RANGES).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Names of this CPU's instruction sets as Linux tells them; empty where it does not."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    told = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(flag for flags in told for flag in flags)


def has_int8_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU adds up 8-bit products in 32 bits."""
    return not _CPU_FLAGS.isdisjoint(cpu_flags(cpuinfo))


def _linear_layers(model: ov.Model) -> Iterator[tuple[str, Any]]:
    """Name and node of each product of an input with constant weights."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and (found := _LAYER.search(node.get_friendly_name())):
            yield found.group(), node


def measure_ranges(model: ov.Model, mels: Iterable[FloatArray]) -> dict[str, tuple[float, float]]:
    """Run windows through a converted graph and look at the inputs of its linear layers.

    Args:
        model: is changed: it gets further outputs.
        mels: windows, float32 ``(frames, mel_bins)``.

    Returns:
        layer -> mean over the windows of the smallest and of the largest value: a single extreme one does not take the
        resolution from all others.
    """
    # Queries, keys and values read the same tensor, which becomes one output.
    readers: dict[tuple[str, int], list[str]] = {}
    sources = []
    for name, node in _linear_layers(model):
        source = node.input_value(0)
        names = readers.setdefault(_identity(source), [])
        if not names:
            sources.append(source)
        names.append(name)
    outputs = len(model.outputs)
    model.add_outputs(sources)
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    if len(model.inputs) > 1:
        # Ranges are those of an embedding: attention sees the whole window.
        request.set_input_tensor(1, ov.Tensor(np.zeros(model.input(1).shape, dtype=np.float32)))
    seen: list[list[tuple[float, float]]] = [[] for _ in sources]
    for mel in mels:
        request.infer({0: mel[np.newaxis]})
        for number, extremes in enumerate(seen, start=outputs):
            values = request.get_output_tensor(number).data
            extremes.append((float(values.min()), float(values.max())))
    ranges: dict[str, tuple[float, float]] = {}
    for names, extremes in zip(readers.values(), seen, strict=True):
        low, high = np.mean(extremes, axis=0).tolist()
        ranges |= dict.fromkeys(names, (low, high))
    return ranges


def _identity(output: Any) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def quantise(model: ov.Model, ranges: Ranges) -> None:
    """Make the linear layers of a converted graph integer ones, in place.

    Raises:
        BundleInvalid: ``ranges`` does not know a layer.
    """
    inputs: dict[tuple[str, int], Any] = {}
    for name, node in list(_linear_layers(model)):
        if name not in ranges:
            raise BundleInvalid(f"{RANGES} has no range for {name}")
        source = node.input_value(0)
        key = _identity(source)
        if key not in inputs:  # queries, keys and values read the same tensor: it is quantised once
            low, high = _with_zero(*ranges[name])
            inputs[key] = ops.fake_quantize(source, *_limits(low, high), _ACTIVATION_LEVELS)
        weight = node.input_value(1)
        values = _constant(weight.get_node())
        largest = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-9).astype(np.float32)
        quantised = ops.fake_quantize(
            ops.constant(values), *map(ops.constant, (-largest, largest, -largest, largest)), _WEIGHT_LEVELS
        )
        node.input(0).replace_source_output(inputs[key].output(0))
        node.input(1).replace_source_output(quantised.output(0))
    model.validate_nodes_and_infer_types()


def _with_zero(low: float, high: float) -> tuple[float, float]:
    """Widen a range so that zero is exactly one of its levels."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == 0.0 or high == 0.0:
        return low, high
    step = (high - low) / (_ACTIVATION_LEVELS - 1)
    zero = round(-low / step)
    zero = min(max(zero, 1), _ACTIVATION_LEVELS - 2)
    step = max(-low / zero, high / (_ACTIVATION_LEVELS - 1 - zero))
    return -zero * step, (_ACTIVATION_LEVELS - 1 - zero) * step


def _limits(low: float, high: float) -> list[Any]:
    return [ops.constant(np.float32(value)) for value in (low, high, low, high)]


def _constant(node: Any) -> FloatArray:
    """Weights ``(out, in)`` in float32, whether or not they are kept in half precision."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    values: FloatArray = np.asarray(node.data, dtype=np.float32)
    return values
