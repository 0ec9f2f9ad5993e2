"""The encoder on OpenVINO, the quickest engine on a CPU.

The first start traces the PyTorch module once and keeps the converted graph, and OpenVINO keeps what it compiles from
it, both in a cache folder. Later starts read those and never import PyTorch.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from tunelab.encoder._openvino import ov
from tunelab.encoder.bundle import CONFIG, RANGES, WEIGHTS, Bundle
from tunelab.encoder.columns import column_grid, local_bias
from tunelab.encoder.convert import convert
from tunelab.encoder.engine import finite
from tunelab.encoder.quantize import cpu_flags, has_int8_products, quantise, read_ranges
from tunelab.errors import BundleInvalid, EngineError
from tunelab.types import FloatArray

log = logging.getLogger(__name__)

_GRAPH_VERSION = "2"
"""Raise it when the graph that is traced changes, so that older cache entries are not used."""
_EMBEDDING, _COLUMNS = 0, 1
"""Outputs of the graph."""


class OpenVinoEngine:
    """Runs the converted encoder.

    Two compiled models share the threads: a single window uses all of them at once (shortest time), several windows
    run side by side with one thread each (10 % more throughput). Both take one window a call, so the same window gives
    the same numbers alone or among others.

    Args:
        bundle: which model.
        threads: CPU threads, at least 1.
        precision: ``auto`` takes int8 where the bundle has ranges for it and the CPU instructions, else lets OpenVINO
            choose bf16 where the CPU computes it natively; ``f32``, ``bf16`` and ``int8`` force it.
        cache_dir: where converted graphs are kept; default ``$XDG_CACHE_HOME/tunelab/openvino``. It need not be
            writable once the bundle is in it.
    """

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "auto", cache_dir: Path | None = None) -> None:
        self._bundle = bundle
        ranges = read_ranges(bundle.path)
        if precision == "int8" and ranges is None:
            raise EngineError(f"{bundle.name} has no {RANGES}: it cannot be run in int8")
        integers = ranges if precision == "int8" or (precision == "auto" and has_int8_products()) else None
        self._core = ov.Core()
        graph, model = _read_graph(self._core, bundle, cache_dir)
        if integers is not None:
            quantise(model, integers)
        if compiled := _compiled_folder(self._core, graph, "int8" if integers is not None else precision):
            self._core.set_property({"CACHE_DIR": str(compiled)})
        config: dict[str, object] = {
            # Pinned threads of several processes would all choose the same core.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
        }
        if precision in ("f32", "bf16"):
            config["INFERENCE_PRECISION_HINT"] = precision
        try:
            # One process at a time: OpenVINO maps its cache entries into memory, and a second process that writes one
            # at the same moment would pull it away (bus error). Where we can write no lock, we
            # write no entry.
            with _locked(graph.parent.parent / ".lock", optional=True):
                self._alone = _Requests(self._core.compile_model(model, "CPU", {**config, "NUM_STREAMS": 1}), 1)
                self._beside = self._alone
                if threads > 1:
                    compiled = self._core.compile_model(model, "CPU", {**config, "NUM_STREAMS": threads})
                    self._beside = _Requests(compiled, threads)
        except OSError as error:
            raise EngineError(f"the model cache cannot be written: {error.strerror}") from error
        except RuntimeError as error:
            raise EngineError("OpenVINO cannot run the encoder on this machine") from error
        self.name = "openvino-int8" if integers is not None else f"openvino-{self._alone.precision}"
        self._everywhere: ov.Tensor | None = None
        if len(model.inputs) > 1:
            self._everywhere = ov.Tensor(np.zeros(model.input(1).shape, dtype=np.float32))

    def __call__(self, mels: FloatArray) -> FloatArray:
        """float32 ``(n, frames, mel_bins)`` -> float32 ``(n, width)``."""
        if len(mels) == 0:
            return np.zeros((0, self._bundle.shape.hidden_size), dtype=np.float32)
        return self._run(mels, self._everywhere, _EMBEDDING)

    def columns(self, mels: FloatArray, *, local: bool) -> FloatArray:
        """float32 ``(n, frames, mel_bins)`` -> float32 ``(n, columns, width)``."""
        grid = column_grid(self._bundle)
        if len(mels) == 0:
            return np.zeros((0, grid.count, self._bundle.shape.hidden_size), dtype=np.float32)
        return self._run(mels, self._nearby if local else self._everywhere, _COLUMNS)

    @cached_property
    def _nearby(self) -> ov.Tensor:
        return ov.Tensor(local_bias(column_grid(self._bundle)))

    def _run(self, mels: FloatArray, bias: ov.Tensor | None, output: int) -> FloatArray:
        requests = self._alone if len(mels) == 1 else self._beside
        try:
            return finite(requests.run(np.ascontiguousarray(mels, dtype=np.float32), bias, output))
        except RuntimeError as error:
            raise EngineError("the encoder failed in OpenVINO") from error


class _Requests:
    """A pool of inference requests of one compiled model; a request serves one caller at a time."""

    def __init__(self, compiled: ov.CompiledModel, size: int) -> None:
        self.precision: str = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self._idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        self._size = size
        self._gathering = threading.Lock()
        for _ in range(size):
            self._idle.put(compiled.create_infer_request())

    def run(self, mels: FloatArray, bias: ov.Tensor | None, output: int) -> FloatArray:
        outputs: list[FloatArray] = []
        for start in range(0, len(mels), self._size):
            outputs.extend(self._run_side_by_side(mels[start : start + self._size], bias, output))
        return np.stack(outputs)

    def _run_side_by_side(self, mels: FloatArray, bias: ov.Tensor | None, output: int) -> list[FloatArray]:
        # One caller gathers its requests at a time: two that each held half of what they need would wait for ever.
        with self._gathering:
            requests = [self._idle.get() for _ in mels]
        try:
            for request, mel in zip(requests, mels, strict=True):
                if bias is not None:
                    request.set_input_tensor(1, bias)  # a reference: nothing is copied
                request.start_async({0: mel[np.newaxis]}, share_inputs=False)
            for request in requests:
                request.wait()
            # Copied before the requests go back: their output buffers are used again.
            return [request.get_output_tensor(output).data[0].astype(np.float32, copy=True) for request in requests]
        finally:
            for request in requests:
                self._idle.put(request)


def _compiled_folder(core: ov.Core, graph: Path, precision: str) -> Path | None:
    """Where what OpenVINO compiles is kept: by precision and CPU, which it does not tell apart itself.

    With AMX it would take what was compiled in single precision for bf16, and answer NaN or crash (seen in 2026.4).
    """
    cpu = " ".join(sorted(cpu_flags())) or str(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    folder = graph.parent / f"{precision}-{hashlib.sha256(cpu.encode()).hexdigest()[:8]}"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    # OpenVINO lets only its own user and group read what it compiled, and fails where it cannot read it.
    readable = folder.is_dir() and all(os.access(compiled, os.R_OK) for compiled in folder.glob("*.blob"))
    return folder if readable else None


def _read_graph(core: ov.Core, bundle: Bundle, cache_dir: Path | None) -> tuple[Path, ov.Model]:
    """The converted graph; one that cannot be read, because a disk was full or broke, is made again."""
    graph = converted_graph(bundle, cache_dir)
    try:
        return graph, core.read_model(graph)
    except RuntimeError:
        log.warning("the cached conversion of %s cannot be read; making it again", bundle.name)
    try:
        with _locked(graph.parent.parent / ".lock"):
            try:  # another process may have been quicker
                return graph, core.read_model(graph)
            except RuntimeError:
                shutil.rmtree(graph.parent)
    except OSError as error:
        raise EngineError(f"the model cache cannot be written: {error.strerror}") from error
    graph = converted_graph(bundle, cache_dir)
    try:
        return graph, core.read_model(graph)
    except RuntimeError as error:
        raise EngineError("OpenVINO cannot read the encoder that it converted") from error


def converted_graph(bundle: Bundle, cache_dir: Path | None = None) -> Path:
    """Path of the OpenVINO graph (``encoder.xml``) of a bundle; converts it when the cache has none.

    Only one process converts at a time; the others wait for it. The entry appears whole or not at all.

    Raises:
        EngineError: the cache folder cannot be written.
        BundleInvalid: the weights do not fit, or cannot be read.
    """
    root = cache_dir or _default_cache()
    entry = root / f"{bundle.name}-{_key(bundle)}"
    graph = entry / "encoder.xml"
    try:
        if graph.is_file():
            return graph
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".lock"):
            if graph.is_file():
                return graph
            log.info("converting %s for OpenVINO, once", bundle.name)
            unfinished = Path(tempfile.mkdtemp(dir=root, prefix=".unfinished-"))
            try:
                convert(bundle, unfinished / graph.name)
                unfinished.chmod(0o755)  # mkdtemp lets nobody else in; a server may run as another user
                if entry.exists():  # a rest without its graph; a folder cannot be renamed onto one with files in it
                    shutil.rmtree(entry)
                unfinished.rename(entry)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise EngineError(f"the model cache cannot be written: {error.strerror}") from error
    return graph


def _key(bundle: Bundle) -> str:
    """Changes with anything that changes the graph: the weights, the configuration, OpenVINO, how it is traced."""
    digest = hashlib.sha256(f"{_GRAPH_VERSION} {ov.__version__} ".encode())
    try:
        digest.update((bundle.path / CONFIG).read_bytes())
        with (bundle.path / WEIGHTS).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise BundleInvalid(f"{bundle.name} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]


def _default_cache() -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "tunelab" / "openvino"


@contextmanager
def _locked(path: Path, *, optional: bool = False) -> Iterator[None]:
    """Hold the lock file; where it can be neither made nor opened and is ``optional``, go on without."""
    with ExitStack() as stack:
        try:
            descriptor = _open_lock(path)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            if not optional:
                raise
        yield


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return os.open(path, os.O_RDONLY)  # enough for a lock, except on NFS
