"""MP4 and MOV boxes: whether there is an index and a sound track, whether it is encrypted, and what the index claims.

FFmpeg unrolls the run-length coded tables of an index into memory as the file claims them, up to gigabytes for a file
of a few kilobytes. So they are looked at before FFmpeg is. It takes a box for what its name says wherever it finds
one; so all boxes that it would find are looked at, and those that are not where the standard has them are refused.

Reference:
    ISO/IEC 14496-12, and 23001-7 for encrypted sample entries.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import CorruptAudio, ImplausibleAudio, NoAudioStream, ProtectedAudio, UnsupportedAudio

_ENCRYPTED = {b"enca", b"drms", b"aavd"}
_PROTECTED_BRANDS = {b"aax ", b"aaxc", b"M4P "}
_MAX_BOXES = 1_000_000
"""In the whole file. An hour of fragments of 0.1 s has some 300 000."""
_MAX_DEPTH = 12
"""More than FFmpeg follows."""
_MAX_PACKETS_PER_S = 1000
"""More than any codec's: Opus has at most 400, video some hundreds."""
_MAX_SAMPLES_PER_BYTE = 64
"""More than any codec of a constant rate reaches."""
_MAX_DESCRIPTION = 1 << 24
"""Bytes of the description of a track's codec (``stsd``)."""
_BLOCK = 1 << 20
_ROOT = b"root"
_CONTAINERS = {
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"meta", b"ilst", b"mvex", b"tref"),
    *(b"moof", b"traf", b"sinf", b"schi", b"wave", b"iprp", b"ipco"),
}
"""Boxes of boxes, as FFmpeg knows them; and ``stsd``, which is treated apart."""
_TABLES = (b"stts", b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"ctts")
_PARENTS = {
    **dict.fromkeys((b"moov", b"moof"), _ROOT),
    **dict.fromkeys((b"trak", b"mvex"), b"moov"),
    **{b"mdia": b"trak", b"minf": b"mdia", b"stbl": b"minf", b"stsd": b"stbl", **dict.fromkeys(_TABLES, b"stbl")},
    **{b"edts": b"trak", b"elst": b"edts"},
    **{b"trex": b"mvex", b"traf": b"moof", b"tfhd": b"traf", b"trun": b"traf"},
    b"hoov": b"",
}
"""The only place of a box. ``hoov``, which FFmpeg takes for an index, has none."""
_NOT_IN_DESCRIPTIONS = (*_TABLES, b"cmov", b"hdlr", b"tfhd")
_UNIQUE = ({b"stts"}, {b"stsz", b"stz2"}, {b"stsc"})
"""Of these, FFmpeg takes the last in some versions and the first in others."""

Box = tuple[int, int]
"""Where the content of a box begins and ends in the file."""


def check_mp4(source: Source, limits: DecodeLimits, offset: int = 0) -> None:
    """Refuse what cannot be decoded, with the reason.

    Raises:
        ProtectedAudio: the sound is encrypted.
        NoAudioStream: there is no sound track.
        CorruptAudio: there is no index (``moov``): the file breaks off before it.
        ImplausibleAudio: the index claims absurd numbers of packets or samples, or there are boxes where none belong.
        UnsupportedAudio: the index is compressed, as early QuickTime programs did it.
    """
    if source.read(offset + 4, 4) == b"ftyp" and source.read(offset + 8, 4) in _PROTECTED_BRANDS:
        raise ProtectedAudio("the file is copy-protected (DRM)")
    file = _File(source)
    file.walk((offset, source.size))
    if not file.has_index:
        raise CorruptAudio("the MP4 file has no index (moov); it may be cut off")
    packets = file.fragment_packets
    for track in file.tracks:
        if track.has_sound:
            _check_sample_entries(source, track)
        packets += _packets(source, track)
    if not any(track.has_sound for track in file.tracks):
        raise NoAudioStream("the video has no sound track")
    if packets > limits.max_duration_s * _MAX_PACKETS_PER_S:
        raise ImplausibleAudio(f"the MP4 index claims {packets} packets of sound or video")


class _Track:
    """The handlers and tables of a track."""

    def __init__(self) -> None:
        self.handlers: set[bytes] = set()
        self.tables: dict[bytes, list[Box]] = {}

    @property
    def has_sound(self) -> bool:
        return b"soun" in self.handlers

    @property
    def has_only_sound(self) -> bool:
        """Whether it is sound to FFmpeg, which takes the last handler that it knows."""
        return self.has_sound and self.handlers.isdisjoint((b"vide", b"subp", b"clcp"))

    def add(self, source: Source, name: bytes, box: Box) -> None:
        if name == b"hdlr":
            self.handlers.add(source.read(box[0] + 8, 4))
        elif name in {b"stsd", b"elst"} or name in _TABLES:
            if any(name in names and names & self.tables.keys() for names in _UNIQUE):
                raise ImplausibleAudio(f"a track of the MP4 file has a second table of a kind ({name.decode()})")
            self.tables.setdefault(name, []).append(box)

    def edits(self, source: Source) -> int:
        """Entries of its edit list, at least 1. For each of them FFmpeg may take the whole index once more."""
        return max(1, sum(_number(source, box[0] + 4) for box in self.get(b"elst")))

    def get(self, *names: bytes) -> list[Box]:
        return [box for name in names for box in self.tables.get(name, ())]


class _File:
    """What a walk through all boxes found.

    Attributes:
        has_index: there is a ``moov``, even if it is empty.
        tracks: of the first ``moov``; FFmpeg skips others.
        fragment_packets: as claimed by all fragments.
    """

    def __init__(self, source: Source) -> None:
        self.has_index = False
        self.tracks: list[_Track] = []
        self.fragment_packets = 0
        self._source = source
        self._boxes = 0

    def walk(self, box: Box, parent: bytes = _ROOT, track: _Track | None = None, depth: int = 0) -> None:
        """Look at the boxes within another, and those within them.

        Raises:
            ImplausibleAudio: a box is out of place, or there are far too many, one within the other or in all.
            UnsupportedAudio: the index is compressed.
        """
        if depth > _MAX_DEPTH:
            raise ImplausibleAudio(f"the boxes of the MP4 file are nested more than {_MAX_DEPTH} deep")
        for name, inner in _boxes(self._source, box):
            self._boxes += 1
            if self._boxes > _MAX_BOXES:
                raise ImplausibleAudio(f"the MP4 file has more than {_MAX_BOXES} boxes")
            _check_place(name, parent)
            if name == b"moov" and self.has_index:
                continue
            self.has_index = self.has_index or name == b"moov"
            if name == b"trun":
                self.fragment_packets += _number(self._source, inner[0] + 4)
            elif name == b"stsd":
                _check_description(self._source, inner)
            if track is not None:
                track.add(self._source, name, inner)
            if name in _CONTAINERS:
                content = _boxes_of_meta(self._source, inner) if name == b"meta" else inner
                if name == b"trak":
                    self.tracks.append(_Track())
                self.walk(content, name, self.tracks[-1] if name == b"trak" else track, depth + 1)


def _check_place(name: bytes, parent: bytes) -> None:
    if name == b"cmov":
        raise UnsupportedAudio("a QuickTime file with a compressed index is not supported")
    if _PARENTS.get(name, parent) != parent:
        raise _misplaced(name)


def _misplaced(name: bytes) -> ImplausibleAudio:
    return ImplausibleAudio(f"the MP4 file has a box ({name.decode()}) where none of its kind belongs")


def _check_description(source: Source, box: Box) -> None:
    """FFmpeg looks for boxes in the descriptions too, at places that depend on the codec. So here the names must do.

    By chance they are in one of a million descriptions at most; none is a part of a word.
    """
    begin, end = box
    if end - begin > _MAX_DESCRIPTION:
        raise ImplausibleAudio(f"the MP4 file describes a codec in {end - begin} bytes")
    content = source.read(begin, end - begin)
    for name in _NOT_IN_DESCRIPTIONS:
        if name in content:
            raise _misplaced(name)


def _check_sample_entries(source: Source, track: _Track) -> None:
    for begin, end in track.get(b"stsd"):
        for name, _ in itertools.islice(_boxes(source, (begin + 8, end)), _MAX_BOXES):
            if name in _ENCRYPTED:
                raise ProtectedAudio("the sound track is encrypted (DRM)")


def _packets(source: Source, track: _Track) -> int:
    """How many entries FFmpeg's own index of a track will have."""
    for times in track.get(b"stts"):
        duration = _number(source, times[0] + 12)
        # FFmpeg makes 1 of absurdly long durations.
        if _number(source, times[0] + 4) == 1 and (duration == 1 or duration >= 1 << 31):
            # Sound of a constant rate is indexed by chunk, in steps of about a thousand samples.
            _check_chunks(source, track)
            if duration == 1 and track.has_only_sound and not track.get(b"ctts"):
                return 0
    packets = max((_number(source, sizes[0] + 8) for sizes in track.get(b"stsz", b"stz2")), default=0)
    return packets * track.edits(source)


def _check_chunks(source: Source, track: _Track) -> None:
    """Check the number of samples that a track's chunks have, by the claim of its index."""
    chunks = max((_number(source, box[0] + 4) for box in track.get(b"stco", b"co64")), default=0)
    samples = 0
    for begin, end in track.get(b"stsc"):
        runs = source.read(begin + 8, min(end - begin - 8, 12 * _number(source, begin + 4)))
        starts = [first for first, _, _ in struct.iter_unpack(">III", runs[: len(runs) // 12 * 12])]
        lengths = [length for _, length, _ in struct.iter_unpack(">III", runs[: len(runs) // 12 * 12])]
        if 0 in lengths or any(first >= following for first, following in itertools.pairwise(starts)):
            # FFmpeg mends a table that is broken; whatever comes of it has no more than this.
            samples += max(lengths) * chunks
            continue
        for first, length, following in zip(starts, lengths, [*starts[1:], chunks + 1], strict=False):
            samples += length * max(0, min(following, chunks + 1) - first)
    samples *= track.edits(source)
    if samples > _MAX_SAMPLES_PER_BYTE * source.size:
        raise ImplausibleAudio(f"the MP4 index claims {samples} samples in a file of {source.size} bytes")


def _number(source: Source, at: int) -> int:
    return int.from_bytes(source.read(at, 4), "big")


def _boxes_of_meta(source: Source, box: Box) -> Box:
    """Where its boxes are: 4 bytes later in MP4 than in QuickTime. FFmpeg goes by the name of the first, ``hdlr``."""
    begin, end = box
    for at in range(begin, end, _BLOCK):
        source.deadline.check()
        block = source.read(at, min(_BLOCK, end - at))
        found = block.find(b"hdlr")
        while found >= 0:
            if found % 4 == 0:
                return at + found - 4, end
            found = block.find(b"hdlr", found + 1)
    return end, end


def _boxes(source: Source, box: Box) -> Iterator[tuple[bytes, Box]]:
    """The names and contents of the boxes directly within another."""
    begin, end = box
    while begin + 8 <= end:
        source.deadline.check()
        header = source.read(begin, 16)
        if len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header[:8])
        content = begin + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], begin + 16
        elif size == 0:
            size = end - begin
        if size < content - begin or size - 16 >= 1 << 63:  # to FFmpeg the latter is a negative number
            return
        yield name, (content, min(begin + size, end))
        begin += size
