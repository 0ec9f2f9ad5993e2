"""Damage to files, as transfers, bad disks, bad programs and bad people do it."""

from __future__ import annotations

import random

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to four kinds of damage to ``data``; pieces of ``other`` may get into it."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice((_cut, _flip, _flip, _overwrite, _extreme, _extreme, _splice, _insert, _remove, _repeat))(
            damaged, other, rng
        )
    return bytes(damaged)


def _place(data: bytearray, rng: random.Random) -> int:
    """Half of all damage goes to the first bytes, where the headers are."""
    size = max(1, len(data))
    return rng.randrange(min(size, 400) if rng.random() < 0.5 else size)


def _cut(data: bytearray, other: bytes, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _flip(data: bytearray, other: bytes, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 30, 300)) if data else 0):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at : at + rng.choice((4, 40, 4000))] = rng.randbytes(rng.choice((4, 40, 4000)))


def _extreme(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, width = _place(data, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice(_EXTREMES) & (1 << 8 * width) - 1
    data[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))


def _splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, begin = _place(data, rng), rng.randrange(len(other))
    data[at:] = other[begin : begin + rng.randrange(100_000)]


def _insert(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, begin = _place(data, rng), rng.randrange(len(other))
    data[at:at] = other[begin : begin + rng.choice((1, 16, 5000))]


def _remove(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 16, 5000))]


def _repeat(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((8, 512, 20_000))] * rng.choice((1, 3))
