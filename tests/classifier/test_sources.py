"""Arrays of embeddings that are none are told so, whatever is wrong with them."""

from pathlib import Path

import numpy as np
import pytest

from tunelab.classifier.sources import all_rows
from tunelab.errors import ClassifierError


def npy(header: str) -> bytes:
    """An array file, whatever its header says."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(768 * 4)


def test_a_usual_array_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.ones((3, 768), np.float32))
    [rows] = all_rows(str(tmp_path / "e.npy"))
    assert rows.embeddings.shape == (3, 768)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04 and no archive",
        b"\x80\x04K\x01.",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 768)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 40 + ", 768)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 768"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 768)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 768)}"),
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 768)}"),
    ],
)
def test_what_is_no_array_of_embeddings_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.npy").write_bytes(content)
    with pytest.raises(ClassifierError, match=r"e\.npy"):
        list(all_rows(str(tmp_path / "e.npy")))
