"""Worker process: the peers. Runs in benchmarks/.venv as ``python -m benchmarks.peer_worker THREADS``.

It imports neither TuneLab nor anything else of the benchmark but the protocol.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.protocol import answer_requests

_RATE = 16_000
_WINDOW_S = 30
_FRAMES = 1876
_MEL_BINS = 96


def load_vibenet() -> Callable[[str], object]:
    """vibenet's own entry point: it decodes the file and reads the whole track."""
    predict: Callable[[str], object] = importlib.import_module("vibenet").load_model().predict
    return predict


def load_ast(attention: str) -> Callable[[str], object]:
    """``librosa.load``, the middle 30 s as 96 mel bins, and transformers' AST of the shape of the published MAEST.

    Args:
        attention: ``sdpa`` (the default of transformers) or ``eager`` (matrix product and softmax, as maest-infer).
    """
    librosa = importlib.import_module("librosa")
    numpy = importlib.import_module("numpy")
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    config = transformers.ASTConfig(
        num_hidden_layers=12,
        num_mel_bins=_MEL_BINS,
        max_length=_FRAMES,
        frequency_stride=10,
        time_stride=10,
        num_labels=400,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    model = transformers.ASTForAudioClassification(config).eval()
    window = _RATE * _WINDOW_S

    def predict(path: str) -> object:
        samples = librosa.load(path, sr=_RATE, mono=True)[0]
        begin = max(0, len(samples) - window) // 2
        samples = librosa.util.fix_length(samples[begin : begin + window], size=window)
        power = librosa.feature.melspectrogram(y=samples, sr=_RATE, n_fft=512, hop_length=256, n_mels=_MEL_BINS)
        mel = numpy.log10(1 + 10_000 * power[:, :_FRAMES])
        with torch.inference_mode():
            return model(torch.from_numpy(mel.T[None])).logits.sigmoid().numpy()

    return predict


def main() -> None:
    """Load what was asked for on first use, and answer."""
    if len(sys.argv) > 1:
        importlib.import_module("torch").set_num_threads(int(sys.argv[1]))
    loaders: dict[str, Callable[[], Callable[[str], object]]] = {
        "vibenet": load_vibenet,
        "ast-eager": lambda: load_ast("eager"),
        "ast-sdpa": lambda: load_ast("sdpa"),
    }
    loaded: dict[str, Callable[[str], object]] = {}

    def hello() -> dict[str, Any]:
        names = ("vibenet", "onnxruntime", "torch", "transformers", "librosa")
        return {"versions": {name: importlib.metadata.version(name) for name in names}}

    def analyze(peer: str, path: str) -> dict[str, Any]:
        if peer not in loaded:
            loaded[peer] = loaders[peer]()
        begin = time.perf_counter()
        loaded[peer](path)
        return {"ms": 1000 * (time.perf_counter() - begin)}

    answer_requests({"hello": hello, "analyze": analyze})


if __name__ == "__main__":
    main()
