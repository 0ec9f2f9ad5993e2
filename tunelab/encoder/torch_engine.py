"""The encoder on PyTorch: bf16 with fused attention on a GPU, float32 on a CPU as the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from tunelab.encoder.bundle import Bundle
from tunelab.encoder.columns import column_grid, local_bias
from tunelab.encoder.engine import finite
from tunelab.encoder.maest import load_maest
from tunelab.errors import EngineError
from tunelab.types import FloatArray

_GPU_BATCH = 16
"""Windows in one GPU call. Shorter batches are padded to it, because matrix kernels are chosen by shape: with one
shape, a window's embedding cannot depend on how many others came along."""


class TorchEngine:
    """Runs :class:`~tunelab.encoder.maest.MaestEncoder`.

    On a CPU windows run one after the other: batching gains nothing there, and alone or in a batch the same numbers
    come out.
    """

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "auto", device: str | None = None) -> None:
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        on_gpu = self._device.type == "cuda"
        if not on_gpu:
            torch.set_num_threads(threads)
        bf16 = precision == "bf16" or (precision == "auto" and on_gpu)
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._batch = _GPU_BATCH if on_gpu else 1
        self._bundle = bundle
        self._encoder = load_maest(bundle).to(self._device, self._dtype)
        self.name = f"torch-{self._device.type}-{'bf16' if bf16 else 'f32'}"

    def __call__(self, mels: FloatArray) -> FloatArray:
        """float32 ``(n, frames, mel_bins)`` -> float32 ``(n, width)``."""
        if len(mels) == 0:
            return np.zeros((0, self._bundle.shape.hidden_size), dtype=np.float32)
        return self._in_batches(mels, self._encoder)

    def columns(self, mels: FloatArray, *, local: bool) -> FloatArray:
        """float32 ``(n, frames, mel_bins)`` -> float32 ``(n, columns, width)``."""
        grid = column_grid(self._bundle)
        if len(mels) == 0:
            return np.zeros((0, grid.count, self._bundle.shape.hidden_size), dtype=np.float32)
        bias = self._nearby if local else None
        return self._in_batches(mels, lambda batch: self._encoder.with_columns(batch, bias)[1])

    @cached_property
    def _nearby(self) -> torch.Tensor:
        return torch.from_numpy(local_bias(column_grid(self._bundle))).to(self._device, self._dtype)

    def _in_batches(self, mels: FloatArray, encode: Callable[[torch.Tensor], torch.Tensor]) -> FloatArray:
        outputs = [self._run(mels[start : start + self._batch], encode) for start in range(0, len(mels), self._batch)]
        return finite(np.concatenate(outputs))

    def _run(self, mels: FloatArray, encode: Callable[[torch.Tensor], torch.Tensor]) -> FloatArray:
        try:
            with torch.inference_mode():
                # A copy, because arrays from Ray's object store are read-only and PyTorch has no read-only tensors.
                batch = torch.from_numpy(np.array(mels, dtype=np.float32))
                if len(mels) < self._batch:
                    batch = torch.cat([batch, batch.new_zeros((self._batch - len(mels), *batch.shape[1:]))])
                output = encode(batch.to(self._device, self._dtype))
                result: FloatArray = output[: len(mels)].float().cpu().numpy()
                return result
        except RuntimeError as error:
            raise EngineError(f"the encoder failed on {self._device.type}") from error
