"""What runs the encoder: OpenVINO on a CPU, PyTorch bf16 on a GPU, PyTorch float32 as the reference."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from tunelab.encoder.bundle import Bundle
from tunelab.errors import EngineError
from tunelab.types import FloatArray

EngineName = Literal["auto", "openvino", "torch"]

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


class Engine(Protocol):
    """Log-mel windows in, embeddings out. Safe to call from several threads."""

    name: str

    def __call__(self, mels: FloatArray) -> FloatArray:
        """float32 ``(n, frames, mel_bins)`` -> float32 ``(n, width)``.

        A window's embedding does not depend on what else is in the batch.

        Raises:
            EngineError: the engine failed.
        """
        ...

    def columns(self, mels: FloatArray, *, local: bool) -> FloatArray:
        """The mean of each time column of patches: float32 ``(n, frames, mel_bins)`` -> ``(n, columns, width)``.

        Args:
            mels: windows.
            local: attention stays near each patch, as ``tunelab.encoder.columns`` says; else it is as for embeddings,
                and the mean over the columns is the embedding.

        Raises:
            TimelineUnsupported: the bundle's embedding is not the mean of the patches.
            EngineError: the engine failed.
        """
        ...


def load_engine(
    bundle: Bundle, engine: EngineName = "auto", *, threads: int | None = None, precision: str = "auto"
) -> Engine:
    """Load the encoder of a bundle.

    Args:
        bundle: which model.
        engine: ``auto`` is ``torch`` where a CUDA GPU is visible, else ``openvino``.
        threads: CPU threads to use, at least 1; ``None`` takes every core this process may use.
        precision: ``f32``, ``bf16``, ``int8`` (OpenVINO, for bundles with ``int8.json``), or ``auto``: int8 on a CPU
            with instructions for it, else bf16 where the hardware has it.

    Raises:
        EngineError: unknown engine or precision, or the engine cannot start here.
        BundleInvalid: the weights do not fit.
    """
    if precision not in ("auto", "f32", "bf16", "int8"):
        raise EngineError(f"unknown precision {precision!r}; choose auto, f32, bf16 or int8")
    threads = threads if threads is not None else available_cores()
    if threads < 1:
        raise EngineError("threads must be at least 1")
    if engine == "auto":
        engine = "torch" if _cuda_visible() else "openvino"
    # Imported here: PyTorch takes seconds and 300 MB to import, and the OpenVINO engine seldom needs it.
    if engine == "openvino":
        from tunelab.encoder.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(bundle, threads=threads, precision=precision)
    if engine == "torch":
        if precision == "int8":
            raise EngineError("int8 is for the engine openvino")
        from tunelab.encoder.torch_engine import TorchEngine

        return TorchEngine(bundle, threads=threads, precision=precision)
    raise EngineError(f"unknown engine {engine!r}; choose auto, openvino or torch")


def finite(output: FloatArray) -> FloatArray:
    """What an engine gave, if all of it is numbers: nobody should be charged for, or store, what is not.

    Raises:
        EngineError: it is not; the weights are broken, or the engine is on this machine.
    """
    if not np.isfinite(output).all():
        raise EngineError("the encoder gave values that are no numbers")
    return output


def available_cores(cpu_max: Path = _CPU_MAX) -> int:
    """CPU cores that this process may use, at least 1: those it may run on, or a container's quota if that is less.

    Args:
        cpu_max: the quota in the format of cgroup v2; half cores count as whole ones.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(number) for number in cpu_max.read_text().split())
    except (OSError, ValueError):  # no such file, or no limit: the word "max"
        return cores
    return max(1, min(cores, math.ceil(quota / period))) if period > 0 else cores


def _cuda_visible() -> bool:
    """Whether a CUDA GPU can be used; PyTorch is only imported where a driver is present."""
    if not Path("/dev/nvidia0").exists() and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
