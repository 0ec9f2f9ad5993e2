"""First stage: the bytes of a file -> the log-mel window that the encoder takes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tunelab.audio.decode import DecodeLimits
from tunelab.audio.extract import MelExtractor
from tunelab.encoder.bundle import find_bundle
from tunelab.settings import Settings, load_settings
from tunelab.types import Features


class MelExtractorStage:
    """Decodes on threads of its own.

    Args:
        bundle: name or path; its preprocessor decides what is computed.
        threads: files that are decoded at the same time; best the deployment's ``max_ongoing_requests``.
    """

    def __init__(self, bundle: str, threads: int = 2) -> None:
        opened = find_bundle(bundle)
        self._extract = MelExtractor(opened.mel, decode_limits(load_settings()))
        self._revision = opened.revision
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
