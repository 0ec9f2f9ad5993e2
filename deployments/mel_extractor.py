"""First stage: the bytes of a file -> the log-mel window that the encoder takes, or all windows of the track."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tunelab.audio.decode import DecodeLimits
from tunelab.audio.extract import MelExtractor
from tunelab.audio.track import TrackExtractor
from tunelab.encoder.bundle import find_bundle
from tunelab.encoder.columns import column_grid
from tunelab.settings import Settings, load_settings
from tunelab.types import Features, TrackFeatures


class MelExtractorStage:
    """Decodes on threads of its own.

    Args:
        bundle: name or path; its preprocessor decides what is computed.
        threads: files that are decoded at the same time; best the deployment's ``max_ongoing_requests``.
    """

    def __init__(self, bundle: str, threads: int = 2) -> None:
        self._bundle = find_bundle(bundle)
        limits = decode_limits(load_settings())
        self._extract = MelExtractor(self._bundle.mel, limits)
        self._extract_track = TrackExtractor(self._bundle.mel, limits)
        self._revision = self._bundle.revision
        # A thread cannot be stopped: it decodes on after its request was cancelled, for up to the decoder's time
        # limit. With threads of Ray's its place would be given to the next one, and their number had no bound.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        # Loads and compiles what the first file would wait for.
        self._extract.from_samples(np.full(self._extract.config.sampling_rate, 0.1, dtype=np.float32))

    async def __call__(self, data: bytes) -> Features:
        """Decode one file.

        Raises:
            AudioError: the file is at fault.
        """
        features = await asyncio.get_running_loop().run_in_executor(self._pool, self._extract, data)
        return replace(features, revision=self._revision)

    async def track(self, data: bytes, max_s: float) -> TrackFeatures:
        """Decode a whole track.

        Args:
            data: the file.
            max_s: longest track in seconds, beside what the operator allows.

        Raises:
            TimelineUnsupported: the bundle's embeddings have no course over time.
            AudioError: the file is at fault.
        """
        column_grid(self._bundle)
        features = await asyncio.get_running_loop().run_in_executor(self._pool, self._extract_track, data, max_s)
        return replace(features, outline=replace(features.outline, revision=self._revision))

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True

    async def check_health(self) -> None:
        """A replica whose event loop turns is healthy; it must not wait for a file that takes long to decode."""


def decode_limits(settings: Settings) -> DecodeLimits:
    """What the decoder refuses, as the operator set it."""
    return DecodeLimits(
        max_bytes=settings.max_upload_bytes,
        min_duration_s=settings.min_duration_s,
        max_duration_s=settings.max_duration_s,
        timeout_s=settings.decode_timeout_s,
    )
