"""One small file of every format that TuneLab reads, encoded when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.audio import make
from tests.audio.make import Signal
from tunelab.types import FloatArray

SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded signal and what is to be expected of it.

    Attributes:
        data: the file.
        rate: its sampling rate in Hz.
        wanted: the mean of the channels that went in.
        snr_db: at least this much must survive.
        lag: the decoded sound may be this many samples off.
        exact: a window is the same samples as that part of the whole.
    """

    data: bytes
    rate: int
    wanted: FloatArray
    snr_db: float
    lag: int = 0
    exact: bool = True


Encoder = Callable[[Signal, int], bytes]

_VORBIS = {"codec_options": {"strict": "-2"}}
_FRAGMENTED = {"options": {"movflags": "frag_keyframe+empty_moov+delay_moov"}}


def _av(container: str, codec: str, **more: object) -> Encoder:
    return lambda signal, rate: make.encode(signal, rate, container, codec, **more)  # type: ignore[arg-type]


def _sf(container: str, subtype: str, endian: str = "FILE") -> Encoder:
    return lambda signal, rate: make.sound_file(signal, rate, container, subtype, endian)


def _mp3(**more: object) -> Encoder:
    return lambda signal, rate: make.mp3(signal, rate, **more)  # type: ignore[arg-type]


# name: (encoder, Hz, channels, dB that must survive, lag in samples, window exact)
FORMATS: dict[str, tuple[Encoder, int, int, float, int, bool]] = {
    "mp3-cbr": (_mp3(), 44100, 2, 20, 0, True),
    "mp3-cbr-mono": (_mp3(bit_rate=64_000), 44100, 1, 20, 0, True),
    "mp3-vbr": (_mp3(bit_rate=None), 44100, 2, 20, 0, True),
    # Without the LAME tag nothing says how late the encoder is; LAME is by 576 samples.
    "mp3-no-xing": (_mp3(xing=False), 44100, 2, 20, 576, True),
    "mp3-vbr-no-xing": (_mp3(bit_rate=None, xing=False), 44100, 2, 20, 576, True),
    "mp3-8k": (_mp3(bit_rate=24_000), 8000, 1, 20, 0, True),
    "mp3-16k": (_mp3(bit_rate=32_000), 16000, 2, 15, 0, True),
    "mp3-22k": (_mp3(bit_rate=64_000), 22050, 2, 20, 0, True),
    "mp3-48k": (_mp3(), 48000, 1, 20, 0, True),
    "mp2": (_av("mp2", "mp2", bit_rate=192_000), 44100, 2, 20, 0, True),
    "flac": (_sf("FLAC", "PCM_16"), 44100, 2, 80, 0, True),
    "flac-24": (_sf("FLAC", "PCM_24"), 48000, 1, 120, 0, True),
    "flac-5.1": (_sf("FLAC", "PCM_16"), 44100, 6, 80, 0, True),
    "wav-8": (_sf("WAV", "PCM_U8"), 44100, 1, 30, 0, True),
    "wav-16": (_sf("WAV", "PCM_16"), 44100, 2, 80, 0, True),
    "wav-24": (_sf("WAV", "PCM_24"), 44100, 2, 120, 0, True),
    "wav-32": (_sf("WAV", "PCM_32"), 48000, 1, 120, 0, True),
    "wav-float": (_sf("WAV", "FLOAT"), 44100, 2, 140, 0, True),
    "wav-double": (_sf("WAV", "DOUBLE"), 44100, 2, 140, 0, True),
    "wav-alaw": (_sf("WAV", "ALAW"), 8000, 1, 30, 0, True),
    "wav-ulaw": (_sf("WAV", "ULAW"), 8000, 2, 30, 0, True),
    "wav-extensible": (_sf("WAVEX", "PCM_24"), 44100, 6, 120, 0, True),
    "wav-rf64": (_sf("RF64", "PCM_16"), 44100, 2, 80, 0, True),
    "wav-rifx": (_sf("WAV", "PCM_16", "BIG"), 44100, 2, 80, 0, True),
    "wav-rifx-float": (_sf("WAV", "FLOAT", "BIG"), 44100, 1, 140, 0, True),
    "wav-ima-adpcm": (_sf("WAV", "IMA_ADPCM"), 22050, 1, 25, 0, True),
    "wav-ms-adpcm": (_sf("WAV", "MS_ADPCM"), 22050, 2, 25, 0, True),
    "wav-gsm": (_sf("WAV", "GSM610"), 8000, 1, 3, 0, True),
    "wav-g721": (_sf("WAV", "G721_32"), 8000, 1, 15, 0, True),
    "wav-mp3": (_av("wav", "libmp3lame", bit_rate=128_000), 44100, 2, 20, 576, True),
    "aiff-16": (_sf("AIFF", "PCM_16"), 44100, 2, 80, 0, True),
    "aiff-24": (_sf("AIFF", "PCM_24"), 48000, 1, 120, 0, True),
    "aifc-float": (_sf("AIFF", "FLOAT"), 44100, 2, 140, 0, True),
    "aifc-little": (_sf("AIFF", "PCM_16", "LITTLE"), 44100, 2, 80, 0, True),
    "au": (_sf("AU", "PCM_16"), 44100, 2, 80, 0, True),
    "caf": (_sf("CAF", "PCM_16"), 44100, 2, 80, 0, True),
    # FFmpeg cuts the padding of the last packet off twice: 15 ms are lost.
    "caf-alac": (_sf("CAF", "ALAC_16"), 44100, 2, 80, 0, False),
    "w64": (_sf("W64", "PCM_16"), 44100, 2, 80, 0, True),
    "ogg-vorbis": (_sf("OGG", "VORBIS"), 44100, 2, 25, 0, True),
    "ogg-vorbis-mono": (_sf("OGG", "VORBIS"), 22050, 1, 25, 0, True),
    "ogg-opus": (_av("ogg", "libopus", bit_rate=96_000), 48000, 2, 25, 0, True),
    "ogg-opus-libsndfile": (_sf("OGG", "OPUS"), 48000, 1, 25, 0, True),
    "ogg-opus-5.1": (_av("ogg", "libopus", bit_rate=384_000), 48000, 6, 25, 0, True),
    "ogg-opus-7.1": (_av("ogg", "libopus", bit_rate=512_000), 48000, 8, 25, 0, True),
    "ogg-flac": (_av("ogg", "flac"), 44100, 2, 80, 0, True),
    # AAC fills bands with noise that depends on where decoding began.
    "m4a-aac": (_av("ipod", "aac", bit_rate=128_000), 44100, 2, 20, 0, False),
    "m4a-aac-mono": (_av("ipod", "aac", bit_rate=96_000), 48000, 1, 20, 0, False),
    "m4a-aac-5.1": (_av("ipod", "aac", bit_rate=384_000), 48000, 6, 12, 0, False),
    "m4a-alac": (_av("ipod", "alac"), 44100, 2, 80, 0, True),
    "mp4-fragmented": (_av("mp4", "aac", bit_rate=128_000, **_FRAGMENTED), 44100, 2, 20, 0, False),
    "mp4-opus": (_av("mp4", "libopus"), 48000, 2, 25, 0, True),
    "mp4-flac-7.1": (_av("mp4", "flac"), 44100, 8, 80, 0, True),
    "mp4-flac": (_av("mp4", "flac"), 44100, 2, 80, 0, True),
    "mp4-video": (_av("mp4", "aac", bit_rate=128_000, video=True), 44100, 2, 20, 0, False),
    "mov-pcm": (_av("mov", "pcm_s24be"), 44100, 2, 120, 0, True),
    # Nothing in the stream tells the encoder's delay of one frame.
    "adts": (_av("adts", "aac", bit_rate=128_000), 44100, 2, 20, 1024, False),
    "adts-7.1": (_av("adts", "aac", bit_rate=512_000), 48000, 8, 12, 1024, False),
    "adts-5.1": (_av("adts", "aac", bit_rate=384_000), 48000, 6, 12, 1024, False),
    # Placed to Matroska's clock of 1 ms.
    "webm-opus": (_av("webm", "libopus", bit_rate=96_000), 48000, 2, 25, 48, False),
    "webm-opus-video": (_av("webm", "libopus", bit_rate=96_000, video=True), 48000, 2, 25, 48, False),
    "webm-vorbis": (_av("webm", "vorbis", **_VORBIS), 44100, 2, 25, 45, False),
    "mkv-flac": (_av("matroska", "flac"), 44100, 2, 80, 45, False),
    "mkv-pcm": (_av("matroska", "pcm_s16le"), 44100, 2, 80, 45, False),
    "mkv-ac3": (_av("matroska", "ac3", bit_rate=256_000), 48000, 2, 20, 48, False),
}

_made: dict[str, Sample] = {}


def sample(name: str) -> Sample:
    """The file of a format."""
    if name not in _made:
        encoder, rate, channels, snr_db, lag, exact = FORMATS[name]
        signal = make.notes(SECONDS, rate, channels)
        _made[name] = Sample(encoder(signal, rate), rate, make.mono(signal), snr_db, lag, exact)
    return _made[name]
