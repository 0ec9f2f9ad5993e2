"""silero-vad as a separate labelling tool: how likely each 32 ms of a clip holds speech. No product dependency."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tunelab.types import FloatArray

SAMPLE_RATE = 16_000
FRAME = 512
"""Samples a probability: 32 ms."""
CONTEXT = 64
"""Samples of the frame before that the network hears again."""
BLOCK = 512
"""Frames a call."""
SPEECH = 0.5
"""Probability from which on a frame counts as speech, the package's own default."""
MODEL = "silero_vad_16k_sequence.onnx"


class SileroVad:
    """Needs the wheel ``silero-vad`` 6.2.3 (MIT) and ``onnxruntime``; one thread, so that processes run side by side.

    Only the network's file is used: the package is never imported, which would want PyTorch and its hub.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
    """

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model_file()), options, ["CPUExecutionProvider"])

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Probability of speech in each frame.

        Args:
            samples: mono at 16 kHz, shape ``(n,)``; silence follows the end.

        Returns:
            float32, shape ``(ceil(n / 512),)``, 0..1.
        """
        count = -(-len(samples) // FRAME)
        padded = np.zeros(CONTEXT + count * FRAME, np.float32)
        padded[CONTEXT : CONTEXT + len(samples)] = samples
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME] if count else padded[:0]
        state = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
        parts = [np.zeros(0, np.float32)]
        for start in range(0, count, BLOCK):
            block = np.ascontiguousarray(windows[start : start + BLOCK])
            part, state["h"], state["c"] = self._session.run(None, {"input": block, **state})
            parts.append(part)
        return np.concatenate(parts)


def speech_share(probabilities: FloatArray, threshold: float = SPEECH) -> float:
    """Share of a clip's frames that hold speech, 0..1; 0 for none at all."""
    return float((probabilities >= threshold).mean()) if len(probabilities) else 0.0


def speech_activity(probabilities: FloatArray, rows: int, step: int) -> FloatArray:
    """Mean probability of each step of ``step`` samples, shape ``(rows,)``; 0 beyond the end.

    With the rows and the step of a clip's dense feature this lines up with its other targets.
    """
    frames = np.minimum((np.arange(len(probabilities)) * FRAME + FRAME // 2) // step, rows)
    sums, counts = (np.bincount(frames, weights, rows + 1)[:rows] for weights in (probabilities, None))
    activity: FloatArray = (sums / np.maximum(counts, 1)).astype(np.float32)
    return activity


def model_file() -> Path:
    """The network in the installed wheel, found without importing it.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
    """
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'silero_vad'", name="silero-vad")
    return Path(spec.origin).with_name("data") / MODEL
