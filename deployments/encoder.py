"""Second stage: log-mel windows -> embeddings, or columns of a timeline, in batches, by a pool of replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from ray import serve

from deployments.revision import check_revision
from tunelab.encoder import EngineName, find_bundle, load_engine
from tunelab.encoder.columns import ColumnEncoder, column_grid
from tunelab.errors import EngineError, TimelineUnsupported
from tunelab.types import Columns, Embedded, Features, FloatArray, TrackFeatures

_BROKEN = 3
"""Batches that fail in a row before the engine is taken to be broken for good."""


@dataclass(frozen=True, slots=True)
class Window:
    """What waits for the encoder.

    Attributes:
        features: of the window.
        columns: whether its columns are wanted, for a timeline, and not its embedding.
    """

    features: Features
    columns: bool = False


class EncoderBatch:
    """The batch logic without Ray: many windows in, as many embeddings out, in the same order.

    Attributes:
        windows: encoded so far.
        batches: that they came in.
        failures: batches in a row, up to the last one, at which the engine failed.

    Args:
        bundle: name or path.
        engine: ``auto``, ``openvino`` or ``torch``.
        threads: CPU threads of this replica; ``None`` takes every core it may use.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
    """

    def __init__(self, bundle: str, engine: EngineName, threads: int | None, precision: str) -> None:
        self._bundle = find_bundle(bundle)
        self.shape = (self._bundle.mel.max_length, self._bundle.mel.num_mel_bins)
        self.revision = self._bundle.revision
        self._encode = load_engine(self._bundle, engine, threads=threads, precision=precision)
        self.windows = self.batches = self.failures = 0
        # The first pass compiles what is compiled on first use, so that no customer waits for it.
        self._columns: ColumnEncoder | None = None
        try:
            self._columns = ColumnEncoder(self._bundle, self._encode)
        except TimelineUnsupported:
            self._encode(np.zeros((1, *self.shape), dtype=np.float32))

    def check(self, window: Window) -> None:
        """Refuse what would fail a whole batch.

        Raises:
            TimelineUnsupported: columns are wanted that the bundle does not have.
            PipelineUnavailable: another bundle's front end computed it: replicas are being replaced.
            EngineError: the window has another shape or type than the bundle's, or holds NaN.
        """
        if window.columns:
            column_grid(self._bundle)
        check_revision(window.features.revision, self.revision)
        mel = window.features.mel
        if mel.shape != self.shape or mel.dtype != np.float32 or not np.isfinite(mel).all():
            raise EngineError(f"the encoder takes finite float32 windows of shape {self.shape}")

    def __call__(self, batch: Sequence[Window]) -> list[Embedded | Columns]:
        """Encode a batch.

        Raises:
            EngineError: the engine failed.
        """
        try:
            results = self._results(batch)
        except EngineError:
            self.failures += 1
            raise
        self.failures = 0
        self.batches, self.windows = self.batches + 1, self.windows + len(batch)
        return results

    def _results(self, batch: Sequence[Window]) -> list[Embedded | Columns]:
        results: dict[int, Embedded | Columns] = {}
        whole = [number for number, window in enumerate(batch) if not window.columns]
        along = [number for number, window in enumerate(batch) if window.columns]
        if whole:
            for number, embedding in zip(whole, self._encode(_stack(batch, whole)), strict=True):
                results[number] = Embedded(embedding, batch[number].features.duration_s, self.revision)
        if along and self._columns is not None:
            for number, columns in zip(along, self._columns(_stack(batch, along)), strict=True):
                results[number] = Columns(columns, self.revision)
        return [results[number] for number in range(len(batch))]


def _stack(batch: Sequence[Window], numbers: Sequence[int]) -> FloatArray:
    return np.stack([batch[number].features.mel for number in numbers])


class EncoderStage:
    """One replica of the encoder.

    Args:
        bundle: name or path.
        engine: see :class:`EncoderBatch`.
        threads: see :class:`EncoderBatch`.
        precision: see :class:`EncoderBatch`.
        max_batch_size: windows in one call of the engine; on a CPU the number of threads is enough.
        batch_wait_timeout_s: how long the first window of a batch waits for others, in seconds.
    """

    def __init__(
        self,
        bundle: str,
        engine: EngineName = "auto",
        threads: int | None = None,
        precision: str = "auto",
        max_batch_size: int = 2,
        batch_wait_timeout_s: float = 0.002,
    ) -> None:
        self._run = EncoderBatch(bundle, engine, threads, precision)
        self._encode.set_max_batch_size(max_batch_size)
        self._encode.set_batch_wait_timeout_s(batch_wait_timeout_s)

    @serve.batch  # type: ignore[untyped-decorator]
    async def _encode(self, batch: list[Window]) -> list[Embedded | Columns]:
        # On a thread: the event loop must go on gathering the next batch.
        return await asyncio.to_thread(self._run, batch)

    async def __call__(self, features: Features) -> Embedded:
        """Encode one window, together with others that wait at this moment.

        Raises:
            PipelineUnavailable, EngineError: see :meth:`EncoderBatch.check`; or the engine failed.
        """
        return cast(Embedded, await self._checked(Window(features)))

    async def embed_window(self, track: TrackFeatures, number: int) -> Embedded:
        """Encode one window of a track as for an analysis.

        Raises:
            PipelineUnavailable, EngineError: see :meth:`EncoderBatch.check`; or the engine failed.
        """
        return cast(Embedded, await self._checked(Window(_window(track, number))))

    async def columns_of_window(self, track: TrackFeatures, number: int) -> Columns:
        """Encode one window of a track for a timeline.

        Raises:
            TimelineUnsupported, PipelineUnavailable, EngineError: see :meth:`EncoderBatch.check`; or the engine failed.
        """
        return cast(Columns, await self._checked(Window(_window(track, number), columns=True)))

    async def _checked(self, window: Window) -> Embedded | Columns:
        self._run.check(window)
        result: Embedded | Columns = await self._encode(window)
        return result

    async def stats(self) -> dict[str, int]:
        """Windows encoded by this replica, and batches that they came in."""
        return {"windows": self._run.windows, "batches": self._run.batches}

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True

    async def check_health(self) -> None:
        """A replica is healthy whose event loop turns and whose engine works: one that is broken for good, as all of a
        process is after a CUDA error, fails so fast that it would draw the requests of the others.

        Raises:
            EngineError: the last :data:`_BROKEN` batches failed, so that Ray Serve replaces the replica.
        """
        if self._run.failures >= _BROKEN:
            raise EngineError(f"the engine failed at {self._run.failures} batches in a row")


def _window(track: TrackFeatures, number: int) -> Features:
    return Features(track.mels[number], track.outline.duration_s, track.outline.revision)
