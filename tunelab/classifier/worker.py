"""Train one classifier and end: ``python -m tunelab.classifier.worker``, started by the service.

A process of its own: requests are answered while it computes, its memory goes back to the machine, and where that runs
short it is the one to be stopped. See :mod:`tunelab.classifier.wire` for what goes through its pipes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from tunelab.classifier.labels import from_mapping
from tunelab.classifier.wire import frame, json_frame, read_embeddings, read_frame
from tunelab.errors import ClassifierError
from tunelab.types import EMBEDDING_SIZE

_NICENESS = 10
_OOM_SCORE = "500"
"""Where memory runs out, Linux stops this process before the service."""


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Read one job, train, write the answer.

    Raises:
        EOFError: the service is gone before the job was complete.
    """
    job = json.loads(read_frame(incoming))
    labels = from_mapping(job["labels"])
    embeddings = np.empty((len(labels.keys), EMBEDDING_SIZE), np.float32)
    there = np.zeros(len(labels.keys), np.bool_)
    while content := read_frame(incoming):
        places, vectors = read_embeddings(content)
        embeddings[places], there[places] = vectors, True
    threading.Thread(target=_end_with, args=(incoming.fileno(),), daemon=True).start()
    from tunelab.classifier.train import train

    try:
        trained = train(
            embeddings[there],
            labels.take(np.flatnonzero(there).tolist()),
            model=job["model"],
            revision=job["revision"],
            left_out=int((~there).sum()),
        )
    except ClassifierError as error:
        outgoing.write(json_frame({"error": error.message}))
    else:
        outgoing.write(json_frame({"report": trained.report}))
        outgoing.write(frame(trained.classifier.to_bytes()))
    outgoing.flush()


def _end_with(incoming: int) -> None:
    # The service writes nothing more, so this returns when it closes the pipe, or ends.
    os.read(incoming, 1)
    os._exit(1)


def main() -> None:
    """Give way to everything else on the machine, then serve."""
    os.nice(_NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # not on every system
        file.write(_OOM_SCORE)
    # Only answers may go where they are waited for, and not what a library likes to print.
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr  # written line by line, so that nothing is lost where the process is ended
    with suppress(EOFError, BrokenPipeError), outgoing:
        serve(sys.stdin.buffer, outgoing)


if __name__ == "__main__":
    main()
