"""First stage: the bytes of a file -> the log-mel window that the encoder takes."""

from __future__ import annotations

import numpy as np

from tunelab.audio.decode import DecodeLimits
from tunelab.audio.extract import MelExtractor
from tunelab.encoder.bundle import find_bundle
from tunelab.settings import Settings, load_settings
from tunelab.types import Features


class MelExtractorStage:
    """Decodes on the replica's thread pool: ``max_ongoing_requests`` files at the same time.

    Args:
        bundle: name or path; its preprocessor decides what is computed.
    """

    def __init__(self, bundle: str) -> None:
        self._extract = MelExtractor(find_bundle(bundle).mel, decode_limits(load_settings()))
        self._warm_up()

    def __call__(self, data: bytes) -> Features:
        """Decode one file.

        Raises:
            AudioError: the file is at fault.
        """
        return self._extract(data)

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True

    def check_health(self) -> None:
        """Compute one short spectrogram, so that a broken replica is replaced."""
        self._warm_up()

    def _warm_up(self) -> None:
        self._extract.from_samples(np.full(self._extract.config.sampling_rate, 0.1, dtype=np.float32))


def decode_limits(settings: Settings) -> DecodeLimits:
    """What the decoder refuses, as the operator set it."""
    return DecodeLimits(
        max_bytes=settings.max_upload_bytes,
        min_duration_s=settings.min_duration_s,
        max_duration_s=settings.max_duration_s,
        timeout_s=settings.decode_timeout_s,
    )
