"""Tables of labels, and how tracks are dealt out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunelab.classifier.labels import Labels, from_mapping, read_labels, targets
from tunelab.classifier.split import split
from tunelab.errors import ClassifierError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def test_one_class_a_track(table: Path) -> None:
    table.write_bytes(
        '﻿path,label,group\na.mp3, lo-fi ,x\nb.mp3,drill,x\na.mp3,lo-fi,x\nc.mp3,,\n"d, e.mp3",phonk,\n'.encode()
    )
    labels = read_labels(table, ("id", "path"))
    assert labels == Labels(
        "multiclass",
        ("a.mp3", "b.mp3", "d, e.mp3"),
        (("lo-fi",), ("drill",), ("phonk",)),
        ("x", "x", "d, e.mp3"),
        "path",
        rows=5,
        unlabelled=1,
    )


def test_several_labels_in_a_cell_or_in_rows(table: Path) -> None:
    table.write_text("id,label\n1,a|b\n2,\n3,b\n3, c \n")
    labels = read_labels(table, ("id", "path"))
    assert (labels.kind, labels.names) == ("multilabel", (("a", "b"), (), ("b", "c")))
    table.write_text("id,label\n3,b\n3,c\n")
    assert read_labels(table, ("id",), multilabel=True).names == (("b", "c"),)


def test_in_the_order_of_an_array(table: Path) -> None:
    table.write_text("path,label\nx.mp3,a\nx.mp3,b\ny.mp3,\nz.mp3,a\n")
    labels = read_labels(table, ("row",))
    assert (labels.keys, labels.column, labels.rows) == (("0", "1", "3"), None, 4)
    assert read_labels(table, ("row",), multilabel=True).names == (("a",), ("b",), (), ("a",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,genre\na,b\n", "needs the columns 'label' and 'id' or 'path'"),
        ("name,label\na,b\n", "needs the columns"),
        ("", "needs the columns"),
        ("id,label\na,x\na,y\n", r"line 3: 'a' is both 'x' and 'y'; --multi-label"),
        ("id,label,group\na,x,g\na,x,h\n", "line 3: 'a' is in two groups"),
        ("id,label\n,x\n", "line 2: 'id' is empty"),
        ("id,label\na,x,y\n", "line 2: more cells than columns"),
        (f"id,label\na,{'x' * 101}\n", "line 2: a label is one line"),
        ('id,label\na,"x\ny"\n', "a label is one line"),
        ('id,label\na,"' + "x" * 200_000 + '"\n', "no CSV"),
    ],
)
def test_tables_that_make_no_sense(table: Path, content: str, message: str) -> None:
    table.write_text(content)
    with pytest.raises(ClassifierError, match=message):
        read_labels(table, ("id", "path"))


def test_files_that_are_no_tables(table: Path) -> None:
    with pytest.raises(ClassifierError, match=r"labels\.csv cannot be read: No such file"):
        read_labels(table, ("id",))
    table.write_bytes(b"id,label\na,\xff\n")
    with pytest.raises(ClassifierError, match="no CSV in UTF-8"):
        read_labels(table, ("id",))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text('abid,|label\n"\r\0 ', max_size=60).map(str.encode))
def test_no_table_crashes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"id,label\n" + content)
    with suppress(ClassifierError):
        targets(read_labels(path, ("id",)))


def numbered(**counts: int) -> Labels:
    names = [name for name, count in counts.items() for _ in range(count)]
    return from_mapping({str(number): name for number, name in enumerate(names)})


def test_classes_are_counted() -> None:
    classes, has = targets(numbered(b=4, a=5))
    assert classes == ("a", "b")
    assert has.sum(axis=0).tolist() == [5, 4]
    for labels, message in (
        (numbered(a=9), "at least 2 classes; the labelled tracks have 1"),
        (numbered(), "at least 2 classes"),
        (numbered(a=9, b=3, c=1), r"at least 4 tracks; too few: 'b' \(3\), 'c' \(1\)"),
        (numbered(**{f"n{number}": 4 for number in range(201)}), "may have 200 classes; the labelled tracks have 201"),
        (from_mapping({str(n): [] for n in range(9)}), "have 0"),
        (from_mapping({str(n): ["a"] for n in range(9)}), r"must lack a label; too few lack: 'a' \(0\)"),
    ):
        with pytest.raises(ClassifierError, match=message):
            targets(labels)
    # One label is enough where tracks may lack it.
    assert targets(from_mapping({str(n): ["a"] * (n < 4) for n in range(9)}))[0] == ("a",)


def sides_of(labels: Labels, seed: int = 0) -> np.ndarray:
    return split(*targets(labels), labels.groups, seed=seed)


def test_every_class_is_on_every_side_in_its_share() -> None:
    labels = numbered(rare=4, some=20, many=1000)
    sides = sides_of(labels)
    truth = np.array([names[0] for names in labels.names])
    share = {name: np.bincount(sides[truth == name], minlength=3).tolist() for name in ("rare", "some", "many")}
    assert share == {"rare": [2, 1, 1], "some": [13, 3, 4], "many": [650, 150, 200]}
    assert np.array_equal(sides, sides_of(labels))
    assert not np.array_equal(sides, sides_of(labels, seed=1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splits_keep_their_promises(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, classes = data.draw(st.integers(12, 120)), data.draw(st.integers(1, 5))
    has = rng.random((n, classes)) < data.draw(st.floats(0.1, 0.9))
    groups = tuple(str(value) for value in rng.integers(0, data.draw(st.integers(1, n)), n))
    names = tuple(str(number) for number in range(classes))
    for given_groups in (None, groups):
        try:
            sides = split(names, has, given_groups)
        except ClassifierError:
            continue
        for side in range(3):
            assert has[sides == side].any(axis=0).all()
        if given_groups is not None:
            for group in set(groups):
                assert len(set(sides[[value == group for value in groups]])) == 1


def test_classes_that_cannot_be_split() -> None:
    labels = numbered(a=5, b=5)
    grouped = Labels("multiclass", labels.keys, labels.names, tuple("xxxyyzzwwv"))
    with pytest.raises(ClassifierError, match=r"class 'a' comes from 2 group\(s\)"):
        sides_of(grouped)
    # Three tracks carry all labels at once, one for each side; a fourth class has no fourth one.
    has = np.array([[1, 1], [1, 1], [1, 0], [0, 1], [1, 0], [0, 1]], bool)
    assert set(split(("a", "b"), has).tolist()) == {0, 1, 2}
