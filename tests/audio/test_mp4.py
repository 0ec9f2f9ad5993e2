"""What is looked at in MP4 and MOV files before FFmpeg sees them."""

from __future__ import annotations

import struct

import pytest

from tests.audio.formats import sample
from tests.audio.make import box, encode, notes
from tunelab.audio._mp4 import check_mp4
from tunelab.audio._source import Source
from tunelab.audio.decode import decode
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import AudioError, CorruptAudio, ImplausibleAudio, NoAudioStream, ProtectedAudio, UnsupportedAudio

FTYP = box(b"ftyp", b"isom\0\0\0\0isom")
MANY = 4_000_000
"""More packets than are accepted, but not so many that a failing test takes all memory."""
SIZES = box(b"stsz", struct.pack(">III", 0, 1, MANY))
TIMES = box(b"stts", struct.pack(">IIII", 0, 1, MANY, 1024))
CHUNKS = box(b"stsc", struct.pack(">IIIII", 0, 1, 1, MANY, 1)) + box(b"stco", struct.pack(">III", 0, 1, 0))
HANDLER = box(b"hdlr", bytes(8), b"soun", bytes(13))


def check(data: bytes) -> None:
    limits = DecodeLimits()
    with Source(data, limits) as source:
        check_mp4(source, limits)


def track(*tables: bytes, handler: bytes = HANDLER) -> bytes:
    return box(b"trak", box(b"mdia", handler, box(b"minf", box(b"stbl", *tables))))


def harmless(*more: bytes) -> bytes:
    """A ``moov`` with nothing wrong in it, but for what is put there."""
    return box(b"moov", track(), *more)


def within_moov(data: bytes, *more: bytes) -> bytes:
    """A file whose index is its last box, with more boxes in it."""
    at = data.index(b"moov") - 4
    return data[:at] + box(b"moov", data[at + 8 :], *more)


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


@pytest.mark.parametrize(("edits", "refused"), [(2, False), (1000, True)])
def test_each_edit_may_take_all_packets_again(edits: int, refused: bool) -> None:
    few = box(b"stsz", struct.pack(">III", 0, 1, 10_000))
    table = box(b"elst", struct.pack(">II", 0, edits), bytes(12) * edits)
    media = box(b"mdia", HANDLER, box(b"minf", box(b"stbl", few)))
    data = FTYP + box(b"moov", box(b"trak", box(b"edts", table), media))
    if refused:
        with pytest.raises(ImplausibleAudio, match="10000000 packets"):
            check(data)
    else:
        check(data)


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
    def encoded(entry: bytes) -> bytes:
        return track(box(b"stsd", struct.pack(">II", 0, 1), box(entry, bytes(28))))

    with pytest.raises(ProtectedAudio):
        decode(FTYP + box(b"moov", encoded(b"mp4a"), encoded(b"enca")))


def test_tables_without_their_box() -> None:
    minf = box(b"minf", TIMES, SIZES, CHUNKS)
    data = FTYP + box(b"moov", box(b"trak", box(b"mdia", HANDLER, minf)))
    with pytest.raises(ImplausibleAudio, match=r"stts.*belongs"):
        decode(data)


@pytest.mark.parametrize("name", [b"stts", b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"ctts"])
@pytest.mark.parametrize("parent", [b"minf", b"edts", b"dinf", b"tref", b"sinf", b"schi", b"wave", b"udta"])
def test_a_table_anywhere_else(name: bytes, parent: bytes) -> None:
    misplaced = box(parent, box(name, bytes(12)))
    if parent == b"minf":
        misplaced = box(b"mdia", HANDLER, misplaced)
    with pytest.raises(ImplausibleAudio, match=f"{name.decode()}.*belongs"):
        check(FTYP + box(b"moov", box(b"trak", misplaced), track()))


def test_a_track_in_front_of_the_index() -> None:
    with pytest.raises(ImplausibleAudio, match=r"trak.*belongs"):
        decode(FTYP + track(TIMES, SIZES, CHUNKS) + harmless())


@pytest.mark.parametrize("parent", [b"moof", b"udta", b"hoov", b"wave", b"trak"])
def test_a_track_in_another_box(parent: bytes) -> None:
    with pytest.raises(ImplausibleAudio, match="belongs"):
        check(FTYP + box(parent, track(TIMES, SIZES, CHUNKS)) + harmless())


def test_second_table_of_times() -> None:
    one = box(b"stts", struct.pack(">IIII", 0, 1, 1, 1))
    with pytest.raises(ImplausibleAudio, match=r"second.*stts"):
        decode(FTYP + box(b"moov", track(one, TIMES, SIZES, CHUNKS)))


@pytest.mark.parametrize("twice", [(b"stts", b"stts"), (b"stsz", b"stsz"), (b"stsz", b"stz2"), (b"stsc", b"stsc")])
def test_second_table_of_a_kind(twice: tuple[bytes, bytes]) -> None:
    tables = [box(name, bytes(12)) for name in twice]
    with pytest.raises(ImplausibleAudio, match="second"):
        check(FTYP + box(b"moov", track(*tables)))
    minf = box(b"minf", *(box(b"stbl", table) for table in tables))
    with pytest.raises(ImplausibleAudio, match="second"):
        check(FTYP + box(b"moov", box(b"trak", box(b"mdia", HANDLER, minf))))


@pytest.mark.parametrize("parent", [b"moof", b"moov", b"udta"])
def test_packets_of_a_fragment_without_a_track(parent: bytes) -> None:
    run = box(b"trun", struct.pack(">II", 0, MANY))
    with pytest.raises(ImplausibleAudio, match="belongs"):
        decode(FTYP + harmless() + box(parent, run) if parent != b"moov" else FTYP + harmless(run))


def test_packets_of_all_fragments_together() -> None:
    fragment = box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, MANY // 2))))
    with pytest.raises(ImplausibleAudio, match=f"{MANY} packets"):
        check(FTYP + harmless() + 2 * fragment)


@pytest.mark.parametrize("parent", [b"udta", b"trak", b"mvex", b"ilst"])
def test_compressed_index_anywhere(parent: bytes) -> None:
    with pytest.raises(UnsupportedAudio, match="compressed"):
        decode(FTYP + harmless(box(parent, box(b"cmov", bytes(50)))))


@pytest.mark.parametrize("name", [b"stts", b"stsz", b"cmov", b"hdlr"])
def test_boxes_in_the_description_of_a_codec(name: bytes) -> None:
    stsd = box(b"stsd", struct.pack(">II", 0, 1), box(b"mp4a", bytes(28), box(name, bytes(20))))
    with pytest.raises(ImplausibleAudio, match=f"{name.decode()}.*belongs"):
        check(FTYP + box(b"moov", track(stsd)))


@pytest.mark.parametrize("start", [0, 4, 20])
def test_boxes_in_meta_begin_where_its_handler_is(start: int) -> None:
    meta = box(b"meta", bytes(start), box(b"hdlr", bytes(20)), SIZES)
    with pytest.raises(ImplausibleAudio, match=r"stsz.*belongs"):
        check(FTYP + harmless(box(b"udta", meta)))


def test_sound_of_a_constant_rate_needs_no_other_handler_and_no_offsets() -> None:
    """Else FFmpeg indexes every one of its samples."""
    one = box(b"stts", struct.pack(">IIII", 0, 1, MANY, 1))
    check(FTYP + box(b"moov", track(one, SIZES)))
    video = HANDLER + box(b"hdlr", bytes(8), b"vide", bytes(13))
    for tables, handler in (((one, SIZES), video), ((one, SIZES, box(b"ctts", bytes(8))), HANDLER)):
        with pytest.raises(ImplausibleAudio, match=f"{MANY} packets"):
            check(FTYP + box(b"moov", track(*tables, handler=handler)))


def test_samples_in_chunks_of_tables_that_ffmpeg_mends() -> None:
    whole = box(b"stts", struct.pack(">IIII", 0, 1, MANY, 0xFFFFFFFF))
    with pytest.raises(ImplausibleAudio, match=r"claims \d+ samples"):
        check(FTYP + box(b"moov", track(whole, CHUNKS)))
    one = box(b"stts", struct.pack(">IIII", 0, 1, MANY, 1))
    runs = box(b"stsc", struct.pack(">II9I", 0, 3, 5, 1, 1, 3, MANY, 1, 6, 1, 1))
    with pytest.raises(ImplausibleAudio, match=r"claims \d+ samples"):
        check(FTYP + box(b"moov", track(one, runs, box(b"stco", struct.pack(">II", 0, 6), bytes(24)))))


def test_too_many_boxes_and_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = box(b"udta")
    for _ in range(20):
        deep = box(b"udta", deep)
    with pytest.raises(ImplausibleAudio, match="deep"):
        check(FTYP + harmless(deep))
    monkeypatch.setattr("tunelab.audio._mp4._MAX_BOXES", 1000)
    with pytest.raises(ImplausibleAudio, match="1000 boxes"):
        check(FTYP + box(b"free") * 1000 + harmless())


def test_an_index_that_ffmpeg_overlooks() -> None:
    """To FFmpeg the size is negative; it would look for the index in ``free`` boxes then."""
    hidden = box(b"free", box(b"mvhd", bytes(100)), track(TIMES, SIZES, CHUNKS))
    with pytest.raises(CorruptAudio):
        check(FTYP + hidden + struct.pack(">I4sQ", 1, b"moov", 2**64 - 1) + track())


FRONT = "front"
FRAGMENTED = "frag_keyframe+empty_moov"


@pytest.mark.parametrize(
    ("container", "codec", "flags", "video"),
    [
        ("mp4", "aac", "", True),
        ("mp4", "aac", FRONT, False),
        ("mp4", "aac", FRAGMENTED, True),
        ("mp4", "aac", FRAGMENTED + "+default_base_moof", False),
        ("mp4", "aac", "dash+delay_moov+" + FRAGMENTED, False),
        ("mp4", "aac", "use_metadata_tags", False),
        ("mp4", "alac", "", False),
        ("mp4", "libopus", "", False),
        ("mov", "pcm_s16le", "", True),
        ("mov", "pcm_s16le", FRONT, False),
        ("mov", "pcm_s24be", FRAGMENTED, False),
        ("mov", "aac", "", True),
        ("mov", "aac", "use_metadata_tags", False),
        ("mov", "alac", "", False),
        ("ipod", "aac", FRONT, False),
        ("ipod", "alac", "", False),
        ("ismv", "aac", "", False),
        ("3gp", "aac", "", False),
    ],
)
def test_layouts_that_are_read(container: str, codec: str, flags: str, *, video: bool) -> None:
    tags = {"title": "Stück", "artist": "jemand", "comment": "stsz and stts", "genre": "Techno"}
    options = {FRONT: {"moov_size": "9999"}, "": {}}.get(flags, {"movflags": flags})
    data = encode(notes(2, 48_000, 2), 48_000, container, codec, video=video, metadata=tags, options=options)
    check(data)
    assert decode(data).duration_s == pytest.approx(2, abs=0.1)


HANDLED = box(b"hdlr", bytes(8), b"mdir", bytes(13))
ILST = box(b"ilst", box(b"\xa9nam", box(b"data", struct.pack(">II", 1, 0), b"stsz")))


@pytest.mark.parametrize(
    "more",
    [
        box(b"udta", box(b"meta", bytes(4), HANDLED, ILST)),  # as in MP4
        box(b"meta", HANDLED, box(b"keys", bytes(8)), ILST),  # as in QuickTime
        box(b"meta", bytes(4), ILST),  # no handler
        box(b"udta", box(b"\xa9nam", struct.pack(">HH", 4, 0), b"name"), bytes(4)),  # QuickTime ends it with zeros
        box(b"udta", bytes(4)),
        box(b"free", track(TIMES, SIZES, CHUNKS)),  # left there by a program that moved the index
        box(b"uuid", bytes(16), SIZES),
    ],
)
def test_user_data_that_is_read(more: bytes) -> None:
    assert decode(within_moov(sample("m4a-aac").data, more)).samples.any()


def test_further_boxes_in_the_file_that_are_read() -> None:
    data = sample("m4a-aac").data
    at = data.index(b"moov") - 4
    long = struct.pack(">I4sQ", 1, b"moov", len(data) - at + 8) + data[at + 8 :]
    for variant in (data[:at] + long, data + box(b"moov", SIZES), data + box(b"free", SIZES), data + bytes(7)):
        assert decode(variant).samples.any()
