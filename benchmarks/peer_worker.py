"""Worker process: the peers. Runs in benchmarks/.venv as ``python -m benchmarks.peer_worker THREADS``.

It imports neither TuneLab nor anything else of the benchmark but the protocol.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.protocol import answer_requests

_RATE = 16_000
_WINDOW_S = 30
_FRAMES = 1876
_MEL_BINS = 96


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that is compared with TuneLab.

    Attributes:
        predict: path of a file -> whatever it computes.
        about: precision and threads.
    """

    predict: Callable[[str], object]
    about: str


@cache
def _vibenet(threads: int) -> Any:
    """vibenet's model with a number of threads: it makes session options, but does not hand them to its session."""
    onnxruntime = importlib.import_module("onnxruntime")
    model = importlib.import_module("vibenet").load_model()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    network = importlib.resources.files("vibenet.artifacts") / "efficientnet_model.onnx"
    model.ort_sess = onnxruntime.InferenceSession(network.read_bytes(), options)
    return model


def _about_vibenet(threads: int) -> str:
    session = _vibenet(threads).ort_sess
    taken = {"tensor(float)": "fp32", "tensor(float16)": "fp16"}.get(session.get_inputs()[0].type, "unknown precision")
    used = session.get_session_options().intra_op_num_threads
    # Its FFT asks for one thread for each core of the machine, and has no option for it.
    return f"{taken}, {used} threads (FFT: {os.cpu_count()})"


def load_vibenet(threads: int) -> Peer:
    """vibenet's own entry point: it decodes the file and reads the whole track."""
    return Peer(_vibenet(threads).predict, _about_vibenet(threads))


def load_vibenet_middle(threads: int) -> Peer:
    """vibenet's own resampling, mel and network on the middle 30 s, which are found by seeking."""
    numpy = importlib.import_module("numpy")
    soundfile = importlib.import_module("soundfile")
    model = _vibenet(threads)

    def predict(path: str) -> object:
        with soundfile.SoundFile(path) as file:
            window = _WINDOW_S * file.samplerate
            file.seek(max(0, file.frames - window) // 2)
            # As vibenet's load_audio: read as float64, mean of the channels in float32.
            samples = numpy.asarray(file.read(window), dtype=numpy.float32)
            rate = file.samplerate
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        return model.predict(samples, sr=rate)

    return Peer(predict, _about_vibenet(threads))


def load_ast(threads: int, attention: str) -> Peer:
    """``librosa.load``, the middle 30 s as 96 mel bins, and transformers' AST of the shape of the published MAEST.

    Args:
        threads: of PyTorch.
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
    torch.set_num_threads(threads)
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

    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(next(model.parameters()).dtype, "unknown precision")
    return Peer(predict, f"{precision}, {torch.get_num_threads()} threads")


def main() -> None:
    """Load what was asked for on first use, and answer."""
    threads = int(sys.argv[1])
    loaders: dict[str, Callable[[], Peer]] = {
        "vibenet": lambda: load_vibenet(threads),
        "vibenet-middle": lambda: load_vibenet_middle(threads),
        "ast-eager": lambda: load_ast(threads, "eager"),
        "ast-sdpa": lambda: load_ast(threads, "sdpa"),
    }

    @cache
    def load(peer: str) -> Peer:
        return loaders[peer]()

    def hello() -> dict[str, Any]:
        names = ("vibenet", "onnxruntime", "torch", "transformers", "librosa", "scipy", "soundfile", "soxr")
        return {"versions": {name: importlib.metadata.version(name) for name in names}}

    def about(peer: str) -> dict[str, Any]:
        return {"about": load(peer).about}

    def analyze(peer: str, path: str) -> dict[str, Any]:
        predict = load(peer).predict
        begin = time.perf_counter()
        predict(path)
        return {"ms": 1000 * (time.perf_counter() - begin)}

    answer_requests({"hello": hello, "about": about, "analyze": analyze})


if __name__ == "__main__":
    main()
