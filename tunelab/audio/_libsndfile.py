"""Formats that libsndfile reads, sample exact: FLAC, AIFF, Ogg Vorbis, AU, W64, and WAV with unusual codecs."""

from __future__ import annotations

import soundfile

from tunelab.audio._reader import CHUNK_VALUES, join, mix_down
from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import CorruptAudio
from tunelab.types import FloatArray

_UNKNOWN_LENGTH = 1 << 56
_SMALL_CHUNK = 4096


class SoundFileReader:
    """A :class:`~tunelab.audio._reader.Reader` on libsndfile.

    Args:
        source: the file.
        limits: what is refused.
        name: of the format, for messages.
        offset: where in the file the audio begins, in bytes.
    """

    def __init__(self, source: Source, limits: DecodeLimits, name: str, offset: int = 0) -> None:
        self._source = source
        self._name = name
        self._offset = offset
        self._file = self._open()
        self._at = 0
        try:
            limits.check_stream(self._file.samplerate, self._file.channels)
        except BaseException:
            self._file.close()
            raise
        self.sample_rate: int = self._file.samplerate
        # libsndfile says 2^63 - 1 where the header does not tell, as in a FLAC stream that was written to a pipe.
        self.frames: int | None = self._file.frames if self._file.frames < _UNKNOWN_LENGTH else None

    def read(self, start: int, count: int) -> FloatArray:
        if not self._go_to(start):
            return join([])
        parts = []
        while count > 0:
            part = self._chunk(min(count, max(1, CHUNK_VALUES // self._file.channels)))
            if part.size == 0:
                break
            parts.append(part)
            count -= part.size
        return join(parts)

    def count(self, limit: int) -> int:
        if not self._go_to(0):
            return 0
        total = 0
        while total <= limit and (size := self._chunk(max(1, CHUNK_VALUES // self._file.channels)).size):
            total += size
        return total

    def close(self) -> None:
        self._file.close()

    def _open(self) -> soundfile.SoundFile:
        try:
            return soundfile.SoundFile(self._source.file(self._offset))
        except soundfile.SoundFileError:
            self._source.deadline.check()
            raise CorruptAudio(f"the {self._name} header cannot be read") from None

    def _reopen(self) -> None:
        self._file.close()
        self._file = self._open()
        self._at = 0

    def _go_to(self, frame: int) -> bool:
        """Go to a frame; ``False`` if the file does not reach so far."""
        if not self._file.seekable():  # a few telephone codecs can only be read from the start on
            self._reopen()
            while self._at < frame and self._chunk(min(frame - self._at, CHUNK_VALUES)).size:
                pass
            return self._at == frame
        for _ in range(2):
            try:
                self._at = self._file.seek(frame)
            except soundfile.SoundFileError:
                self._reopen()  # a FLAC decoder that has failed once does nothing more
            else:
                return True
        return False

    def _chunk(self, count: int) -> FloatArray:
        self._source.deadline.check()
        try:
            part = mix_down(self._file.read(count, dtype="float32", always_2d=True))
        except soundfile.SoundFileError:
            # A whole chunk is lost with the frame that broke. Again in small steps, up to that frame.
            part = self._up_to_the_break(self._at, count)
        self._at += part.size
        return part

    def _up_to_the_break(self, begin: int, count: int) -> FloatArray:
        parts: list[FloatArray] = []
        if self._file.seekable() and self._go_to(begin):
            while count > 0:
                self._source.deadline.check()
                try:
                    part = self._file.read(min(count, _SMALL_CHUNK), dtype="float32", always_2d=True)
                except soundfile.SoundFileError:
                    break
                if len(part) == 0:
                    break
                parts.append(mix_down(part))
                count -= len(part)
        return join(parts)
