"""A trained classifier: its file, and what it says about embeddings. NumPy only; any file may be handed to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.numpy import save

from tunelab.errors import ClassifierError
from tunelab.types import FloatArray

Kind = Literal["multiclass", "multilabel"]
"""One class a track, or any number of labels a track."""

FORMAT = 1
MAX_CLASSES = 200
_EDGE, _WITHIN = r"[^\s\u0000-\u001f\u007f-\u009f]", r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
LABEL_PATTERN = f"^{_EDGE}({_WITHIN}{{0,98}}{_EDGE})?$"
"""1 to 100 characters in one line, without space around them."""

_TENSORS = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")
_METADATA = "tunelab.classifier"
_MAX_WIDTH, _MAX_HIDDEN = 8192, 4096
_MAX_FILE_BYTES = 64 << 20
_MAX_HEADER_BYTES = 1 << 20
_ROWS = 4096
"""Embeddings that are worked on at once: bounds the memory of a prediction."""

Label = Annotated[str, Field(pattern=LABEL_PATTERN)]


class _Metadata(BaseModel):
    """What a file says about itself, as JSON under the key ``tunelab.classifier`` of its safetensors metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1]
    kind: Kind
    classes: Annotated[tuple[Label, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    # A bundle is looked up by it: a name, never a path.
    model: Annotated[str, Field(pattern=r"^[^/\\\u0000-\u001f]{1,200}$")]
    revision: Annotated[str, Field(max_length=200)]
    summary: dict[str, Any] = {}

    @model_validator(mode="after")
    def _classes_make_sense(self) -> _Metadata:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have one name")
        if self.kind == "multiclass" and len(self.classes) < 2:
            raise ValueError("there is just one class")
        if self.model in (".", ".."):
            raise ValueError("the model has no name")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A perceptron of two layers: width -> 256 -> classes, ReLU; softmax or sigmoids.

    Attributes:
        kind: ``multiclass`` (softmax over the classes) or ``multilabel`` (a sigmoid for each).
        classes: names, in the order of every answer.
        model: bundle whose embeddings it reads.
        revision: of that bundle.
        tensors: ``hidden.weight`` (hidden, width), ``hidden.bias`` (hidden,), ``output.weight`` (classes, hidden) and
            ``output.bias`` (classes,), float32; the first layer takes embeddings as they are.
        summary: its main figures on tracks that it was not trained on.
    """

    kind: Kind
    classes: tuple[str, ...]
    model: str
    revision: str
    tensors: Mapping[str, FloatArray]
    summary: Mapping[str, Any]

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return int(self.tensors["hidden.weight"].shape[1])

    def probabilities(self, embeddings: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """What it thinks of tracks.

        Args:
            embeddings: shape ``(n, width)``.

        Returns:
            float32, shape ``(n, classes)``, 0..1; rows of a ``multiclass`` one sum to 1.

        Raises:
            ClassifierError: the embeddings have another width or are not finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.width:
            raise ClassifierError(f"the classifier takes embeddings of {self.width} numbers")
        answer = np.empty((len(embeddings), len(self.classes)), np.float32)
        for begin in range(0, len(embeddings), _ROWS):
            answer[begin : begin + _ROWS] = self._probabilities(embeddings[begin : begin + _ROWS])
        return answer

    def _probabilities(self, embeddings: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        # In double precision no product of finite single-precision numbers overflows, whatever a file holds.
        x = embeddings.astype(np.float64)
        if not np.isfinite(x).all():
            raise ClassifierError("an embedding holds numbers that are not finite")
        weights = {name: value.astype(np.float64) for name, value in self.tensors.items()}
        hidden = np.maximum(x @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        logits = hidden @ weights["output.weight"].T + weights["output.bias"]
        if self.kind == "multilabel":
            sigmoid: npt.NDArray[np.float64] = 0.5 + 0.5 * np.tanh(0.5 * logits)
            return sigmoid
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return softmax

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.bool_]:
        """Which classes the probabilities speak for, shape ``(n, classes)``.

        The most likely one of each row or, if ``multilabel``, all from 0.5 on, which may be none.
        """
        if self.kind == "multilabel":
            return probabilities >= 0.5
        chosen = np.zeros(probabilities.shape, np.bool_)
        chosen[np.arange(len(chosen)), probabilities.argmax(axis=1)] = True
        return chosen

    def to_bytes(self) -> bytes:
        """Its file: safetensors, the same bytes for the same classifier."""
        metadata = {
            "format": FORMAT,
            "kind": self.kind,
            "classes": self.classes,
            "model": self.model,
            "revision": self.revision,
            "summary": self.summary,
        }
        tensors = {name: np.ascontiguousarray(self.tensors[name], np.float32) for name in _TENSORS}
        data: bytes = save(tensors, {_METADATA: json.dumps(metadata, ensure_ascii=False)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Classifier:
        """Read a file's bytes. They may come from anybody.

        Raises:
            ClassifierError: they are no classifier of this format; the message says why.
        """
        metadata, tensors = _metadata(data), _tensors(data)
        width, hidden = tensors["hidden.weight"].shape[::-1] if tensors["hidden.weight"].ndim == 2 else (0, 0)
        if not (1 <= width <= _MAX_WIDTH and 1 <= hidden <= _MAX_HIDDEN):
            raise ClassifierError("the classifier's first layer has an impossible shape")
        classes = len(metadata.classes)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        wanted = dict(zip(_TENSORS, [(hidden, width), (hidden,), (classes, hidden), (classes,)], strict=True))
        if shapes != wanted:
            raise ClassifierError("the shapes of the classifier's tensors do not fit each other or its classes")
        for name, value in tensors.items():
            if not np.isfinite(value).all():
                raise ClassifierError(f"the classifier's {name} holds numbers that are not finite")
        return cls(metadata.kind, metadata.classes, metadata.model, metadata.revision, tensors, metadata.summary)

    def save(self, path: Path) -> None:
        """Write its file; whoever reads it meets the old one or the new one, and nothing between.

        Raises:
            ClassifierError: it cannot be written.
        """
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            unfinished.write_bytes(self.to_bytes())
            unfinished.replace(path)
        except OSError as error:
            raise ClassifierError(f"{path.name} cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a file.

        Raises:
            ClassifierError: it cannot be read, or is no classifier of this format.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ClassifierError(f"{path.name} cannot be read: {error.strerror}") from None
        return cls.from_bytes(data)


def _metadata(data: bytes) -> _Metadata:
    if len(data) > _MAX_FILE_BYTES:
        raise ClassifierError(f"the file is larger than {_MAX_FILE_BYTES >> 20} MiB, which no classifier is")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise ClassifierError("the file is no classifier: not safetensors, or with too large a header")
    try:
        header = json.loads(data[8 : 8 + size])
        text = header["__metadata__"][_METADATA]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ClassifierError("the file is no classifier: its safetensors header does not say so") from None
    try:
        return _Metadata.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"][:1])
        raise ClassifierError(f"the classifier's metadata make no sense: {place}: {fault['msg']}") from None


def _tensors(data: bytes) -> dict[str, FloatArray]:
    try:
        found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except Exception:  # its own error, which is a plain Exception, and what else a hostile header brings about
        raise ClassifierError("the file cannot be read as safetensors") from None
    if set(found) != set(_TENSORS) or any(value["dtype"] != "F32" for value in found.values()):
        raise ClassifierError(f"a classifier holds {', '.join(_TENSORS)} in single precision and nothing else")
    return {name: np.frombuffer(value["data"], "<f4").reshape(value["shape"]) for name, value in found.items()}
