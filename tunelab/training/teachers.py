"""vibenet as a separate labelling tool: scores, trunk and a dense feature every 0.64 s. No product dependency."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module, resources

import numpy as np

from tunelab.types import HEADS, FloatArray

ATTRIBUTES = ("acousticness", "danceability", "energy", "instrumentalness", "liveness", "speechiness", "valence")
DENSE_SIZE = 1280
_DENSE, _TRUNK = "silu_48", "gelu"
_LOGISTIC = np.array([name in {"acousticness", "liveness", "instrumentalness"} for name in ATTRIBUTES])


@dataclass(frozen=True, slots=True)
class Labels:
    """What the teacher says about one clip.

    Attributes:
        dense: float32, shape ``(steps, 1280)``, one row per 0.64 s: the last convolution, averaged over frequency.
        trunk: float32, shape ``(256,)``.
        scores: float32, shape ``(7,)``, 0..1, in the order of :data:`ATTRIBUTES`.
    """

    dense: FloatArray
    trunk: FloatArray
    scores: FloatArray


class Vibenet:
    """Needs ``vibenet`` 0.1.0, ``onnx`` and ``onnxruntime``; one thread, so that processes run side by side."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        weights = resources.files("vibenet.artifacts").joinpath("efficientnet_model.onnx").read_bytes()
        model = onnx.load_model_from_string(weights)
        for name in (_DENSE, _TRUNK):
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        core = import_module("vibenet.core")
        self._mel, self._load = core.extract_mel, core.load_audio

    def __call__(self, samples: FloatArray) -> Labels:
        """Label one clip of 16 kHz mono float32 samples, shape ``(n,)``."""
        mel = np.asarray(self._mel(samples, 16_000), dtype=np.float32)[None]
        logits, dense, trunk = self._session.run(["out", _DENSE, _TRUNK], {"x": mel})
        scores = np.where(_LOGISTIC, 1 / (1 + np.exp(-logits[0])), np.clip(logits[0], 0, 1)).astype(np.float32)
        return Labels(dense=dense[0].mean(axis=1).T, trunk=trunk[0], scores=scores)

    def of_file(self, data: bytes) -> dict[str, float]:
        """Scores 0..1 of an audio file's bytes, read as vibenet reads it; its valence is our happiness."""
        scores = dict(zip(ATTRIBUTES, self(self._load(io.BytesIO(data))).scores.tolist(), strict=True))
        return {head: scores["valence" if head == "happiness" else head] for head in HEADS}
