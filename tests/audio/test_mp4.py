"""What is looked at in MP4 and MOV files before FFmpeg sees them."""

from __future__ import annotations

import struct

import pytest

from tests.audio.formats import sample
from tests.audio.make import box
from tunelab.audio.decode import decode
from tunelab.errors import AudioError, CorruptAudio, ImplausibleAudio, NoAudioStream, ProtectedAudio, UnsupportedAudio

FTYP = box(b"ftyp", b"isom\0\0\0\0isom")


def patched(name: str, table: bytes, at: int, value: int) -> bytes:
    """A file with one 32-bit number of one box changed, ``at`` bytes into its content."""
    data = bytearray(sample(name).data)
    struct.pack_into(">I", data, data.index(table) + 4 + at, value)
    return bytes(data)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 5_000_000])
def test_packets_without_a_table_of_their_sizes(count: int) -> None:
    data = bytearray(patched("m4a-aac", b"stsz", 4, 1))  # one byte each: then no table follows
    struct.pack_into(">I", data, data.index(b"stsz") + 12, count)
    with pytest.raises(ImplausibleAudio, match=f"{count} packets"):
        decode(bytes(data))


def test_samples_in_a_chunk() -> None:
    with pytest.raises(ImplausibleAudio, match=r"claims \d+ samples in a file of"):
        decode(patched("mov-pcm", b"stsc", 12, 0x7FFFFFFF))


def test_packets_of_a_fragment() -> None:
    with pytest.raises(ImplausibleAudio, match="packets"):
        decode(patched("mp4-fragmented", b"trun", 4, 100_000_000))


def test_packets_of_other_tracks_count_too() -> None:
    sizes = box(b"stsz", struct.pack(">III", 0, 1, 3_000_000))
    video = box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + b"vide" + bytes(13)), box(b"minf", box(b"stbl", sizes))))
    sound = box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + b"soun" + bytes(13))))
    with pytest.raises(ImplausibleAudio, match="6000000 packets"):
        decode(FTYP + box(b"moov", video, video, sound))


@pytest.mark.parametrize("where", ["front", "back"])
def test_index_in_front_of_or_behind_the_sound(where: str) -> None:
    data = sample("m4a-aac").data
    index = data.index(b"moov") - 4
    movie, rest = data[index:], data[:index]
    assert decode(rest + movie if where == "back" else rest + box(b"free", bytes(100)) + movie).samples.any()


def test_last_box_without_a_size() -> None:
    """A size of 0 means: to the end of the file."""
    data = sample("m4a-aac").data
    at = data.index(b"moov") - 4
    assert decode(data[:at] + struct.pack(">I", 0) + data[at + 4 :]).samples.any()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (FTYP + box(b"moov", box(b"cmov", bytes(50))), UnsupportedAudio),
        (FTYP + struct.pack(">I4s", 4, b"moov"), CorruptAudio),
        (FTYP + struct.pack(">I4sQ", 1, b"moov", 5), CorruptAudio),
        (FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63), NoAudioStream),
        (FTYP + box(b"free", b"") * 1000, CorruptAudio),
        (FTYP + box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr")))), NoAudioStream),
    ],
)
def test_broken_boxes(data: bytes, error: type[AudioError]) -> None:
    with pytest.raises(error):
        decode(data)


def test_encrypted_second_sound_track() -> None:
    def track(entry: bytes) -> bytes:
        stsd = box(b"stsd", struct.pack(">II", 0, 1), box(entry, bytes(28)))
        handler = box(b"hdlr", bytes(8), b"soun", bytes(13))
        return box(b"trak", box(b"mdia", handler, box(b"minf", box(b"stbl", stsd))))

    with pytest.raises(ProtectedAudio):
        decode(FTYP + box(b"moov", track(b"mp4a"), track(b"enca")))
