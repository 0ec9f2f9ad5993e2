"""Read the tensors of a TensorFlow checkpoint (format V2, one shard) without TensorFlow.

The index is a LevelDB table of ``BundleEntryProto`` messages that say where in the data file each tensor lies:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto. Only what a float32
checkpoint on one shard needs is read here; TensorFlow itself cannot live in one environment with the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources.abc import Traversable

import numpy as np

from tunelab.types import FloatArray

_FOOTER, _FLOAT32 = 48, 1


def read_checkpoint(folder: Traversable, prefix: str) -> dict[str, FloatArray]:
    """All float32 tensors of ``folder/PREFIX.index`` and ``folder/PREFIX.data-00000-of-00001``, by name.

    Raises:
        ValueError: the index is compressed or cut off, or an entry points outside the data.
        FileNotFoundError: one of the two files is missing.
    """
    index = folder.joinpath(f"{prefix}.index").read_bytes()
    data = folder.joinpath(f"{prefix}.data-00000-of-00001").read_bytes()
    tensors: dict[str, FloatArray] = {}
    try:
        footer = index[-_FOOTER:]
        # Two handles (offset and size each): the table's meta block, which holds nothing, and its list of blocks.
        position = _skip(footer, 2)
        offset, position = _varint(footer, position)
        for _, handle in _block(index, offset, _varint(footer, position)[0]):
            start, position = _varint(handle, 0)
            for key, entry in _block(index, start, _varint(handle, position)[0]):
                fields = dict(_fields(entry))
                if not key or fields.get(1) != _FLOAT32:
                    continue  # the header has no name; counters are integers
                shape = tuple(_size(value) for _, value in _fields(_bytes(fields.get(2, b""))))
                begin = _number(fields.get(4, 0))
                raw = data[begin : begin + _number(fields[5])]
                if len(raw) != 4 * math.prod(shape):
                    raise ValueError(f"{key.decode()}: the data does not fit the shape {shape}")
                tensors[key.decode()] = np.frombuffer(raw, "<f4").reshape(shape)
    except (IndexError, KeyError) as error:
        raise ValueError(f"{prefix}.index is cut off or not a checkpoint index") from error
    return tensors


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """A base-128 number and the position after it."""
    result = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return result, position


def _skip(buffer: bytes, numbers: int) -> int:
    position = 0
    for _ in range(numbers):
        _, position = _varint(buffer, position)
    return position


def _block(buffer: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry; a key says how much of its beginning it shares with the one before."""
    if buffer[offset + size] != 0:
        raise ValueError("compressed index blocks are not supported")
    block = buffer[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, position, key = len(block) - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol-buffers message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            number, position = _varint(message, position)
            yield tag >> 3, number
            continue
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, position = _varint(message, position)
        yield tag >> 3, message[position : position + length]
        position += length


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected, not a number")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number was expected, not a message")
    return value


def _size(dimension: int | bytes) -> int:
    return _number(dict(_fields(_bytes(dimension))).get(1, 0))
