"""What the service and its training process say to each other, over the pipes between them.

Service to process: a job as JSON, then embeddings as safetensors, some at a time, then an empty frame. The pipe stays
open until the answer is there: its end tells the process that nobody wants one any more. Process to service: the report
or an error as JSON, then, with a report, the classifier's file. Each is a frame: eight bytes of length and so many of
content.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from tunelab.types import FloatArray

MAX_FRAME_BYTES = 1 << 30
_LENGTH_BYTES = 8


def frame(content: bytes) -> bytes:
    """One frame."""
    return len(content).to_bytes(_LENGTH_BYTES, "little") + content


def read_frame(stream: BinaryIO) -> bytes:
    """The content of the next frame.

    Raises:
        EOFError: the stream ended before or within it, or what is there is no frame.
    """
    size = int.from_bytes(_exactly(stream, _LENGTH_BYTES), "little")
    if size > MAX_FRAME_BYTES:
        raise EOFError("not a frame")
    return _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the other side is gone")
    return content


def json_frame(value: Any) -> bytes:
    """A frame of JSON."""
    return frame(json.dumps(value).encode())


def embeddings_frame(places: list[int], embeddings: FloatArray) -> bytes:
    """A frame with embeddings, shape ``(k, width)``, and the places of their tracks in the job's labels."""
    return frame(save({"places": np.array(places, np.int64), "embeddings": np.ascontiguousarray(embeddings)}))


def read_embeddings(content: bytes) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Places and embeddings of an :func:`embeddings_frame`."""
    tensors = load(content)
    return tensors["places"], tensors["embeddings"]
