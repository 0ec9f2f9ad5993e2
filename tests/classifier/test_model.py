"""The file: what goes in comes out, and whatever else is refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tunelab.classifier import Classifier
from tunelab.classifier.model import FORMAT
from tunelab.errors import ClassifierError

WIDTH, HIDDEN = 8, 4


def tensors(classes: int = 3, width: int = WIDTH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "hidden.weight": (HIDDEN, width),
        "hidden.bias": (HIDDEN,),
        "output.weight": (classes, HIDDEN),
        "output.bias": (classes,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def classifier(kind: Any = "multiclass") -> Classifier:
    return Classifier(kind, ("lo-fi", "drill", "日本"), "tunelab-v1", "abc", tensors(), {"accuracy": {"value": 0.5}})


METADATA: dict[str, Any] = {
    "format": FORMAT,
    "kind": "multiclass",
    "classes": ["a", "b", "c"],
    "model": "tunelab-v1",
    "revision": "abc",
}


def file(arrays: dict[str, np.ndarray] | None = None, **changes: Any) -> bytes:
    data: bytes = save(arrays or tensors(), {"tunelab.classifier": json.dumps({**METADATA, **changes})})
    return data


def test_comes_back_from_its_file(tmp_path: Path) -> None:
    original = classifier()
    original.save(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    again = Classifier.load(tmp_path / "a.safetensors")
    for name in ("kind", "classes", "model", "revision", "summary", "width"):
        assert getattr(again, name) == getattr(original, name)
    assert all(np.array_equal(again.tensors[name], value) for name, value in original.tensors.items())
    assert again.to_bytes() == original.to_bytes()


def test_probabilities() -> None:
    x = np.random.default_rng(1).normal(size=(5000, WIDTH))  # more than are worked on at once
    one, several = classifier(), classifier("multilabel")
    weights = {name: value.astype(np.float64) for name, value in one.tensors.items()}
    hidden = np.maximum(x @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
    logits = hidden @ weights["output.weight"].T + weights["output.bias"]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert one.probabilities(x) == pytest.approx(softmax, abs=1e-6)
    assert several.probabilities(x) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert np.array_equal(one.decide(one.probabilities(x)).argmax(axis=1), logits.argmax(axis=1))
    assert (one.decide(one.probabilities(x)).sum(axis=1) == 1).all()
    assert np.array_equal(several.decide(several.probabilities(x)), logits >= 0)
    assert one.probabilities(np.zeros((0, WIDTH))).shape == (0, 3)


def test_numbers_stay_numbers() -> None:
    huge = {name: np.full_like(value, 3e38) for name, value in tensors().items()}
    huge["output.weight"][1] *= -1
    data = file(huge)
    for kind in ("multiclass", "multilabel"):
        found = Classifier.from_bytes(file(huge, kind=kind)).probabilities(np.full((2, WIDTH), 3e38))
        assert np.isfinite(found).all()
    with pytest.raises(ClassifierError, match="not finite"):
        Classifier.from_bytes(data).probabilities(np.full((1, WIDTH), np.inf))
    with pytest.raises(ClassifierError, match="takes embeddings of 8 numbers"):
        Classifier.from_bytes(data).probabilities(np.zeros((1, WIDTH + 1)))


def bad_shape(name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {**tensors(), name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not safetensors"),
        (b"\xff" * 8, "not safetensors"),
        (struct.pack("<Q", 2 << 20) + b"{" + b" " * (3 << 20), "too large a header"),
        (struct.pack("<Q", 2) + b"{}", "does not say so"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "does not say so"),
        (save(tensors()), "does not say so"),
        (save(tensors(), {"tunelab.classifier": "[" * 100_000}), "metadata make no sense"),
        (file()[:-1], "cannot be read as safetensors"),
        (file() + b"\0", "cannot be read as safetensors"),
        (file(format=2), "metadata make no sense: format"),
        (file(kind="regression"), "kind"),
        (file(classes=["a"]), "just one class"),
        (file(classes=["a", "a", "b"]), "two classes have one name"),
        (file(classes=[]), "classes"),
        (file(classes=["a", "b", "c\n"]), "classes"),
        (file(classes=[f"c{n}" for n in range(201)]), "classes"),
        (file(model="../../etc"), "model"),
        (file(model=".."), "the model has no name"),
        (file(model=5), "model"),
        (file({name: value for name, value in tensors().items() if name != "output.bias"}), "and nothing else"),
        (file({**tensors(), "more": np.zeros(1, np.float32)}), "and nothing else"),
        (file({**tensors(), "output.bias": np.zeros(3, np.float16)}), "single precision"),
        (file(bad_shape("hidden.weight", (HIDDEN, 0))), "impossible shape"),
        (file(bad_shape("hidden.weight", (HIDDEN * WIDTH,))), "impossible shape"),
        (file(bad_shape("hidden.weight", (HIDDEN, 9000))), "impossible shape"),
        (file(bad_shape("output.weight", (4, HIDDEN))), "do not fit"),
        (file(bad_shape("hidden.bias", (1, HIDDEN))), "do not fit"),
        (file({**tensors(), "output.bias": np.array([0, np.nan, 0], np.float32)}), r"output\.bias .* not finite"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ClassifierError, match=message) as found:
        Classifier.from_bytes(data)
    assert len(found.value.message) < 300


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"no\.safetensors cannot be read: No such file"):
        Classifier.load(tmp_path / "no.safetensors")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(65 << 20)
    with pytest.raises(ClassifierError, match="larger than 64 MiB"):
        Classifier.load(tmp_path / "large")
    with pytest.raises(ClassifierError, match="cannot be written"):
        classifier().save(tmp_path / "nowhere" / "a.safetensors")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300) | st.tuples(st.integers(0, len(file()) - 1), st.binary(min_size=1, max_size=9)))
def test_no_file_crashes(change: bytes | tuple[int, bytes]) -> None:
    data = change
    if isinstance(change, tuple):
        place, piece = change
        data = file()[:place] + piece + file()[place + len(piece) :]
    try:
        found = Classifier.from_bytes(data)  # type: ignore[arg-type]
    except ClassifierError:
        return
    assert np.isfinite(found.probabilities(np.ones((1, found.width)))).all()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*METADATA, "summary"]), JSON_VALUES)
def test_no_metadata_crash(field: str, value: Any) -> None:
    try:
        found = Classifier.from_bytes(file(**{field: value}))
    except ClassifierError:
        return
    assert len(found.classes) == 3
