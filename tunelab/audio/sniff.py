"""What a file is, by its content. Names and extensions are never looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tunelab.audio._frames import find_first
from tunelab.audio._source import Source
from tunelab.errors import NoAudioStream, ProtectedAudio, UnsupportedAudio

_HEAD = 4096
_JUNK = 1 << 18
"""Bytes of junk that may stand before the first MP3 frame."""
_MAX_TAGS = 64


class Format(Enum):
    """The formats that TuneLab reads."""

    MPEG = "MP3"
    ADTS = "AAC"
    WAV = "WAV"
    FLAC = "FLAC"
    AIFF = "AIFF"
    OGG = "Ogg"
    OGG_OPUS = "Opus"
    OGG_FLAC = "Ogg FLAC"
    OGG_VIDEO = "Ogg video"
    MP4 = "MP4"
    MATROSKA = "WebM"
    AU = "AU"
    CAF = "CAF"
    W64 = "W64"


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A format, and where in the file it begins, in bytes: after ID3 tags."""

    format: Format
    offset: int


_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"SQLite format 3", "a database"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x00\x00\x01\xba", "an MPEG program stream"),
    (0, b".RMF", "RealMedia"),
    (0, b"#!AMR", "AMR speech"),
    (0, b"\x0b\x77", "Dolby Digital (AC-3)"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "True Audio"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"ADIF", "AAC with an ADIF header"),
    (0, b"IMPM", "a tracker module"),
    (0, b"Extended Module: ", "a tracker module"),
    (1080, b"M.K.", "a tracker module"),
)
_SCORE = "a MIDI file: that is a score, not audio; render it to audio first"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"pnot", b"skip")


def sniff(source: Source) -> Sniffed:
    """Find out what a file is.

    Raises:
        UnsupportedAudio: nothing that TuneLab reads; the message says what it looks like.
        ProtectedAudio: a format that exists only with copy protection.
        NoAudioStream: an Ogg file with nothing but video.
    """
    tags_end = _after_id3(source)
    for offset in dict.fromkeys((tags_end, _after_zeros(source, tags_end), 0)):
        head = source.read(offset, _HEAD)
        known = _by_magic(source, head, offset)
        if known is not None:
            return Sniffed(known, offset)
        _refuse_known(head)
    # MP3 and AAC have no magic number: several frame headers in a row must do. An ID3 tag may lie about its length.
    for begin, end in dict.fromkeys(((tags_end, tags_end + _JUNK), (0, _JUNK))):
        found = find_first(source, begin, min(end, source.size))
        if found is not None:
            return Sniffed(Format.ADTS if found[1].codec == "aac" else Format.MPEG, found[0])
    raise UnsupportedAudio(f"not an audio file that TuneLab reads: it looks like {_describe(source.read(0, _HEAD))}")


def _after_id3(source: Source) -> int:
    offset = 0
    for _ in range(_MAX_TAGS):
        header = source.read(offset, 10)
        if len(header) < 10 or header[:3] != b"ID3" or max(header[6:10]) > 127:
            break
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        after = offset + 10 + size + (10 if header[5] & 0x10 else 0)
        if after >= source.size:
            break
        offset = after
    return offset


def _after_zeros(source: Source, offset: int) -> int:
    """Some programs pad tags with zeros that the tag's size leaves out. (But MP4 files begin with zeros.)"""
    padding = source.read(offset, _HEAD)
    return offset + len(padding) - len(padding.lstrip(b"\0")) if offset and padding.strip(b"\0") else offset


def _by_magic(source: Source, head: bytes, offset: int) -> Format | None:
    magic, form = head[:4], head[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
        return Format.WAV
    if magic == b"FORM" and form in (b"AIFF", b"AIFC"):
        return Format.AIFF
    if magic == b"OggS":
        return _ogg_format(source, offset)
    if head[4:8] in _MP4_BOXES:
        return Format.MP4
    simple = {b"fLaC": Format.FLAC, b"\x1a\x45\xdf\xa3": Format.MATROSKA, b".snd": Format.AU, b"caff": Format.CAF}
    return Format.W64 if head[:16] == _W64 else simple.get(magic)


def _ogg_format(source: Source, offset: int) -> Format:
    codecs = list(_ogg_streams(source, offset))
    for name, found in (("opus", Format.OGG_OPUS), ("vorbis", Format.OGG), ("flac", Format.OGG_FLAC)):
        if name in codecs:
            return Format.OGG_VIDEO if "video" in codecs else found
    if "video" in codecs:
        raise NoAudioStream("the Ogg video has no sound track")
    raise UnsupportedAudio("an Ogg file with a codec other than Vorbis, Opus and FLAC")


def _ogg_streams(source: Source, offset: int) -> Iterator[str]:
    """What each logical stream holds: their first pages stand together at the start of the file."""
    for _ in range(64):
        header = source.read(offset, 27)
        if len(header) < 27 or header[:4] != b"OggS" or not header[5] & 2:
            return
        lengths = source.read(offset + 27, header[26])
        packet = source.read(offset + 27 + len(lengths), 8)
        if packet.startswith(b"OpusHead"):
            yield "opus"
        elif packet.startswith(b"\x01vorbis"):
            yield "vorbis"
        elif packet.startswith(b"\x7fFLAC"):
            yield "flac"
        elif packet.startswith((b"\x80theora", b"BBCD", b"OVP80")):
            yield "video"
        offset += 27 + len(lengths) + sum(lengths)


def _refuse_known(head: bytes) -> None:
    if head[:16] == _ASF:
        if any(guid in head for guid in _ASF_ENCRYPTION):
            raise ProtectedAudio("the Windows Media file is copy-protected (DRM)")
        raise UnsupportedAudio("Windows Media audio (WMA) is not supported; convert it to FLAC or MP3")
    if head[4:8] == b"\x57\x90\x75\x36":
        raise ProtectedAudio("the Audible file is copy-protected (DRM)")
    if head[:4] == b"MThd" or (head[:4] == b"RIFF" and head[8:12] == b"RMID"):
        raise UnsupportedAudio(f"the file is {_SCORE}")
    if head[:4] == b"RIFF":
        what = {b"AVI ": "an AVI video", b"WEBP": "a WebP image"}.get(head[8:12], "a RIFF file without audio")
        raise UnsupportedAudio(f"not an audio file that TuneLab reads: it looks like {what}")
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        raise UnsupportedAudio("not an audio file that TuneLab reads: it looks like an MPEG transport stream")
    for at, magic, what in _OTHERS:
        if head[at : at + len(magic)] == magic:
            raise UnsupportedAudio(f"not an audio file that TuneLab reads: it looks like {what}")
    if (text := _describe_text(head)) is not None:
        raise UnsupportedAudio(f"not an audio file that TuneLab reads: it looks like {text}")


def _describe_text(head: bytes) -> str | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and head[2:4] != b"\xff\xfe" and 0 in head[2:8]:
        return "text"
    body = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    # An incomplete character at the end of the excerpt is none of the text's fault.
    try:
        body.decode("utf-8") if len(head) < _HEAD else body[:-3].decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(body) - 8:
            return None
    if not body or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in body):
        return None
    start = body[:64].lower()
    if start.startswith(b"#extm3u"):
        return "a playlist; send the audio itself"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith((b"<?xml", b"<svg")):
        return "XML"
    return "JSON" if start.startswith((b"{", b"[")) else "text"


def _describe(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "nothing but zeros"
    return "an ID3 tag without music" if head[:3] == b"ID3" else "unknown binary data"
