"""The training process by itself, as the service starts it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import IO

import psutil
import pytest

from tests.classifier.support import made
from tunelab.classifier import Classifier
from tunelab.classifier.wire import MAX_FRAME_BYTES, embeddings_frame, frame, json_frame, read_frame

# What a library prints must not get between the frames.
NOISY = """
import tunelab.classifier.worker as worker
real = worker.serve
def serve(*pipes):
    print("a line that nobody waits for")
    real(*pipes)
worker.serve = serve
worker.main()
"""
LABELS = {f"t{number:03}": "abc"[number % 3] for number in range(60)}


def start(code: str = "from tunelab.classifier.worker import main; main()") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout


def send(stdin: IO[bytes], labels: dict[str, str]) -> None:
    """A job whose embeddings come in two parts, and not for every track."""
    embeddings, _, _ = made(len(labels), 3)
    half = len(labels) // 2
    stdin.write(json_frame({"labels": labels, "model": "m", "revision": "r"}))
    stdin.write(embeddings_frame(list(range(half, len(labels))), embeddings[half:]))
    stdin.write(embeddings_frame(list(range(1, half)), embeddings[1:half]))
    stdin.write(frame(b""))
    stdin.flush()


def test_a_job_and_its_answer() -> None:
    with start(NOISY) as child:
        stdin, stdout = pipes(child)
        nice = psutil.Process(child.pid)
        send(stdin, LABELS)
        report = json.loads(read_frame(stdout))["report"]
        assert nice.nice() >= 10
        trained = Classifier.from_bytes(read_frame(stdout))
        assert (trained.classes, trained.model, trained.revision) == (("a", "b", "c"), "m", "r")
        assert (sum(report["n"].values()), report["left_out"]) == (59, 1)
        stdin.close()
        assert stdout.read() == b""
        assert child.wait() in (0, 1)
        assert child.stderr is not None
        assert b"a line that nobody waits for" in child.stderr.read()


def test_labels_that_make_no_sense_are_an_answer() -> None:
    with start() as child:
        stdin, stdout = pipes(child)
        send(stdin, dict.fromkeys(LABELS, "a"))
        assert "at least 2 classes" in json.loads(read_frame(stdout))["error"]


def test_it_ends_with_its_service() -> None:
    """A training of some seconds is not finished for nobody."""
    for whole in (True, False):
        with start() as child:
            stdin, stdout = pipes(child)
            if whole:
                send(stdin, {f"t{number:05}": "abc"[number % 3] for number in range(6000)})
            else:
                stdin.write(json_frame({"labels": LABELS})[:-5])
            stdin.close()
            assert stdout.read() == b""
            child.wait()
            assert child.stderr is not None
            assert child.stderr.read() == b""


@pytest.mark.parametrize("content", [b"", b"123", frame(b"x")[:-1], (MAX_FRAME_BYTES + 1).to_bytes(8, "little")])
def test_broken_frames(content: bytes) -> None:
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(content))
    assert read_frame(io.BytesIO(frame(b"abc") + b"more")) == b"abc"
