"""Second stage: log-mel windows -> embeddings, in batches, by a pool of replicas."""

from __future__ import annotations

import asyncio

import numpy as np
from ray import serve

from deployments.revision import check_revision
from tunelab.encoder import EngineName, find_bundle, load_engine
from tunelab.errors import EngineError
from tunelab.types import Embedded, Features


class EncoderBatch:
    """The batch logic without Ray: many windows in, as many embeddings out, in the same order.

    Args:
        bundle: name or path.
        engine: ``auto``, ``openvino`` or ``torch``.
        threads: CPU threads of this replica; ``None`` takes every core it may use.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
    """

    def __init__(self, bundle: str, engine: EngineName, threads: int | None, precision: str) -> None:
        opened = find_bundle(bundle)
        self.shape = (opened.mel.max_length, opened.mel.num_mel_bins)
        self.revision = opened.revision
        self._encode = load_engine(opened, engine, threads=threads, precision=precision)
        self.windows = self.batches = 0
        # Compiles what is compiled on first use, so that no customer waits for it.
        self._encode(np.zeros((1, *self.shape), dtype=np.float32))

    def check(self, features: Features) -> None:
        """Refuse what would fail a whole batch.

        Raises:
            PipelineUnavailable: another bundle's front end computed it: replicas are being replaced.
            EngineError: the window has another shape or type than the bundle's, or holds NaN.
        """
        check_revision(features.revision, self.revision)
        mel = features.mel
        if mel.shape != self.shape or mel.dtype != np.float32 or not np.isfinite(mel).all():
            raise EngineError(f"the encoder takes finite float32 windows of shape {self.shape}")

    def __call__(self, batch: list[Features]) -> list[Embedded]:
        """Encode a batch.

        Raises:
            EngineError: the engine failed.
        """
        embeddings = self._encode(np.stack([features.mel for features in batch]))
        self.batches, self.windows = self.batches + 1, self.windows + len(batch)
        return [
            Embedded(embedding, features.duration_s, self.revision)
            for embedding, features in zip(embeddings, batch, strict=True)
        ]


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
    async def _encode(self, batch: list[Features]) -> list[Embedded]:
        # On a thread: the event loop must go on gathering the next batch.
        return await asyncio.to_thread(self._run, batch)

    async def __call__(self, features: Features) -> Embedded:
        """Encode one window, together with others that wait at this moment.

        Raises:
            PipelineUnavailable, EngineError: see :meth:`EncoderBatch.check`; or the engine failed.
        """
        self._run.check(features)
        embedded: Embedded = await self._encode(features)
        return embedded

    async def stats(self) -> dict[str, int]:
        """Windows encoded by this replica, and batches that they came in."""
        return {"windows": self._run.windows, "batches": self._run.batches}

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True

    async def check_health(self) -> None:
        """A replica whose event loop turns is healthy; an engine that fails says so in each answer."""
