"""What is refused, with which error, and that its message speaks of the file and not of the machine."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.audio.formats import FORMATS, sample
from tests.audio.make import box, encode, mp3, notes
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.errors import (
    AudioError,
    AudioTooLarge,
    AudioTooLong,
    AudioTooShort,
    CorruptAudio,
    EmptyAudio,
    ImplausibleAudio,
    NoAudioStream,
    ProtectedAudio,
    SilentAudio,
    UnsupportedAudio,
)

FTYP = box(b"ftyp", b"isom\0\0\0\0isom")
NOTHING = np.zeros((0, 1), np.float32)


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("track.mp3", mp3(notes(1, 22_050), 22_050, bit_rate=32_000))
    return file.getvalue()


def _mp4(entry: bytes, handler: bytes = b"soun", brand: bytes = b"isom") -> bytes:
    stsd = box(b"stsd", struct.pack(">II", 0, 1), box(entry, bytes(28)))
    media = box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13)), box(b"minf", box(b"stbl", stsd)))
    return box(b"ftyp", brand, bytes(4)) + box(b"moov", box(b"trak", media)) + box(b"mdat", bytes(5000))


def _refused(data: bytes, error: type[AudioError], message: str, **limits: float) -> None:
    with pytest.raises(error, match=message) as caught:
        decode(data, limits=DecodeLimits(**limits))  # type: ignore[arg-type]
    assert type(caught.value) is error
    assert "/" not in caught.value.message.replace("MP4/MOV", "")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", EmptyAudio, "empty"),
        (b"\0" * 10_000, UnsupportedAudio, "nothing but zeros"),
        (b"x", UnsupportedAudio, "text"),
        ("Grüße, not music. ".encode() * 300, UnsupportedAudio, "text"),
        ("UTF-16 text".encode("utf-16"), UnsupportedAudio, "text"),
        (b'{"not": "audio"}', UnsupportedAudio, "JSON"),
        (b"<!DOCTYPE html><html>", UnsupportedAudio, "web page"),
        (b"#EXTM3U\ntrack.mp3\n", UnsupportedAudio, "playlist"),
        (b"\x89PNG\r\n\x1a\n" + bytes(5000), UnsupportedAudio, "PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(5000), UnsupportedAudio, "JPEG"),
        (b"MThd\0\0\0\x06\0\x01\0\x02\x01\xe0MTrk", UnsupportedAudio, "MIDI.*score"),
        (_zip(), UnsupportedAudio, "ZIP"),
        (b"%PDF-1.7\n" + bytes(1000), UnsupportedAudio, "PDF"),
        (b"\x1f\x8b\x08" + bytes(1000), UnsupportedAudio, "gzip"),
        (b"RIFF\0\0\0\0AVI LIST", UnsupportedAudio, "AVI"),
        (b"RIFF\0\0\0\0WEBPVP8 ", UnsupportedAudio, "WebP"),
        (b"wvpk" + bytes(1000), UnsupportedAudio, "WavPack"),
        (np.random.default_rng(0).bytes(50_000), UnsupportedAudio, "unknown binary"),
        (b"ID3\x03\0\0\0\0\x02\0" + bytes(256), UnsupportedAudio, "ID3 tag without music"),
        (b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(8) + b"\1\x08Speex   ", UnsupportedAudio, "codec other than"),
        (_mp4(b"drms"), ProtectedAudio, "DRM"),
        (_mp4(b"enca"), ProtectedAudio, "DRM"),
        (_mp4(b"mp4a", brand=b"M4P "), ProtectedAudio, "copy-protected"),
        (_mp4(b"mp4a", brand=b"aax "), ProtectedAudio, "copy-protected"),
        (_mp4(b"encv", handler=b"vide"), NoAudioStream, "no sound"),
        (_mp4(b"mp4a"), ImplausibleAudio, "0 channels"),
        (FTYP, CorruptAudio, "moov"),
        (FTYP + box(b"moov"), NoAudioStream, "no sound"),
        (FTYP + box(b"mdat", bytes(5000)), CorruptAudio, "cut off"),
        (b"fLaC" + bytes(100), CorruptAudio, "FLAC"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), CorruptAudio, "WebM"),
        (b"FORM\0\0\0\x20AIFFCOMM", CorruptAudio, "AIFF"),
        (b".snd" + bytes(100), CorruptAudio, "AU"),
        (b"caff\0\1\0\0" + bytes(100), CorruptAudio, "CAF"),
    ],
    # Not the bytes themselves: a ZIP holds the time, and both test processes have to know a test by the same name.
    ids=lambda value: f"{len(value)}B" if isinstance(value, bytes) else getattr(value, "__name__", value)[:20],
)
def test_files_that_are_no_audio_or_broken(data: bytes, error: type[AudioError], message: str) -> None:
    _refused(data, error, message)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("webm", "libopus")])
def test_video_without_sound(container: str, codec: str) -> None:
    _refused(encode(NOTHING, 44_100, container, codec, video=True), NoAudioStream, "no sound")


def test_video_with_sound_is_read() -> None:
    assert decode(encode(notes(3, 44_100), 44_100, "mp4", "aac", video=True)).samples.any()


# A-law and GSM have no code for zero.
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("wav-alaw", "wav-gsm")])
def test_silence_of_every_codec_is_silent(name: str) -> None:
    encoder, rate, channels, *_ = FORMATS[name]
    _refused(encoder(np.zeros((2 * rate, channels), np.float32), rate), SilentAudio, "silent")


@pytest.mark.parametrize("name", FORMATS)
def test_too_short_and_too_long(name: str) -> None:
    _refused(sample(name).data, AudioTooShort, r"at least 9 s", min_duration_s=9.0)
    _refused(sample(name).data, AudioTooLong, r"5 s long; at most 2 s", max_duration_s=2.0)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97])
def test_cut_off_files_give_what_is_there_or_a_typed_error(name: str, share: float) -> None:
    file = sample(name)
    data = file.data[: max(8, int(len(file.data) * share))]
    # The index of these may stand at the end.
    if share < 0.5 or name.startswith(("m4a", "mp4", "mov", "caf")):
        with contextlib.suppress(AudioError):
            decode(data)
    else:
        # Ogg pages may last a second.
        assert share * 3.2 * 16_000 < decode(data).samples.size <= 5.1 * 16_000


def test_too_large() -> None:
    _refused(bytes(1001), AudioTooLarge, "1001 bytes; at most 1000", max_bytes=1000)


def test_limits_of_paths_are_their_own(tmp_path: Path) -> None:
    path = tmp_path / "track"
    path.write_bytes(sample("wav-16").data)
    assert decode(path, limits=DecodeLimits(max_bytes=10)).samples.any()
    with pytest.raises(AudioTooLarge) as caught:
        decode(path, limits=DecodeLimits(max_file_bytes=10))
    assert str(tmp_path) not in caught.value.message


class TestPaths:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            decode(tmp_path / "missing.mp3")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            decode(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
    def test_pipe_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UnsupportedAudio, match="not a regular file"):
            decode(tmp_path / "pipe")

    def test_device(self) -> None:
        with pytest.raises(UnsupportedAudio, match="not a regular file"):
            decode("/dev/zero")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        with pytest.raises(EmptyAudio):
            decode(tmp_path / "empty")

    def test_file_that_shrinks_while_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "track"
        path.write_bytes(sample("wav-16").data)
        original = os.read

        def shrinking(descriptor: int, count: int) -> bytes:
            os.truncate(path, 100_000)
            return original(descriptor, count)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "read", shrinking)
            assert 0 < decode(path).samples.size < 80_000

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files")
    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        path = tmp_path / "track"
        before = len(os.listdir("/proc/self/fd"))
        for name in ("mp3-cbr", "flac", "wav-16", "ogg-opus", "m4a-aac", "webm-opus"):
            for size in (None, 30, 3000):
                path.write_bytes(sample(name).data[:size])
                with contextlib.suppress(AudioError):
                    decode(path)
        assert len(os.listdir("/proc/self/fd")) == before


def test_errors_cross_process_borders() -> None:
    with pytest.raises(AudioError) as caught:
        decode(b"")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (type(again), again.message) == (EmptyAudio, "the file is empty")


def test_many_threads_at_once() -> None:
    names = ["mp3-cbr", "flac", "ogg-opus", "m4a-aac", "wav-16", "webm-vorbis"]
    wanted = {name: decode(sample(name).data).samples for name in names}
    with ThreadPoolExecutor(6) as pool:
        got = pool.map(lambda name: (name, decode(sample(name).data).samples), 5 * names)
        for name, samples in got:
            np.testing.assert_array_equal(samples, wanted[name])
