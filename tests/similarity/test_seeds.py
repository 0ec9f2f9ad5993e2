"""Where a search of a batch job's output starts from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.similarity.support import content_id_of, embeddings_of, rows_of, write_output
from tunelab.similarity.seeds import find_seed
from tunelab.types import content_id

NAMES = ("a", "caf\\xe9", "c")
"""As rows have them: the second is no UTF-8."""


def test_names_that_are_no_utf8_are_found_as_rows_have_them(tmp_path: Path) -> None:
    folder = str(write_output(tmp_path / "out", rows_of(NAMES, embeddings_of(3))))
    for name in (os.fsdecode(b"/music/caf\xe9.mp3"), "/music/caf\\xe9.mp3"):
        seed = find_seed(folder, name)
        assert seed.content_id == content_id_of(NAMES[1])
        assert np.array_equal(seed.embedding, embeddings_of(3)[1].astype(np.float32))


def test_files_whose_names_are_no_utf8_are_found_by_their_content(tmp_path: Path) -> None:
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp3")
    Path(file).write_bytes(b"song")
    ids = [content_id_of("a"), content_id_of("b"), content_id(b"song")]
    folder = str(write_output(tmp_path / "out", rows_of(("a", "b", "c"), embeddings_of(3), id=ids)))
    seed = find_seed(folder, file)
    assert seed.content_id == ids[2]
    assert np.array_equal(seed.embedding, embeddings_of(3)[2].astype(np.float32))
