"""What the decoder refuses, and the clock that it works against."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tunelab.errors import AudioTooLong, DecodeTimeout, ImplausibleAudio


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on one file. A header that claims something outside them is refused before any audio is decoded.

    Attributes:
        max_bytes: largest file given as bytes; ``None``: any.
        max_file_bytes: largest file given as a path; ``None``: any. A path is read piece by piece, so its size does
            not decide how much memory decoding takes.
        min_duration_s: shortest track, in seconds.
        max_duration_s: longest track, in seconds.
        timeout_s: longest time that decoding may take, in seconds; it is looked at between pieces of work.
        max_channels: most channels.
        min_sample_rate: lowest sampling rate, in Hz.
        max_sample_rate: highest sampling rate, in Hz.
    """

    max_bytes: int | None = 50_000_000
    max_file_bytes: int | None = None
    min_duration_s: float = 1.0
    max_duration_s: float = 3600.0
    timeout_s: float = 10.0
    max_channels: int = 64
    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000

    def check_stream(self, sample_rate: int, channels: int) -> None:
        """Check what a header says about its stream.

        Raises:
            ImplausibleAudio: no such sampling rate or number of channels is accepted.
        """
        if not 1 <= channels <= self.max_channels:
            raise ImplausibleAudio(f"the file claims {channels} channels; 1 to {self.max_channels} are accepted")
        if not self.min_sample_rate <= sample_rate <= self.max_sample_rate:
            raise ImplausibleAudio(
                f"the file claims a sampling rate of {sample_rate} Hz; "
                f"{self.min_sample_rate} to {self.max_sample_rate} Hz are accepted"
            )

    def check_duration(self, duration_s: float) -> None:
        """Check the length of a track against ``max_duration_s``.

        Raises:
            AudioTooLong: it is longer.
        """
        if duration_s > self.max_duration_s:
            raise AudioTooLong(f"the track is {duration_s:.0f} s long; at most {self.max_duration_s:g} s are accepted")


class Deadline:
    """The time that is left for one file."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    def check(self) -> None:
        """Stop if the time is over.

        Raises:
            DecodeTimeout: it is.
        """
        if self.passed():
            raise DecodeTimeout(f"decoding took longer than {self._timeout_s:g} s")
