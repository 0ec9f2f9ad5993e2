"""Heads on anybody's labels: files and values -> embeddings, once -> heads -> gate -> a bundle that serves at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.audio.extract import MelExtractor
from tunelab.encoder import load_engine
from tunelab.encoder.bundle import Bundle
from tunelab.errors import TuneLabError
from tunelab.evaluation.metrics import AGREEMENT, auc, interval, pearson
from tunelab.groups import joined
from tunelab.training.datasets import Example, by_head
from tunelab.training.derived import derived_bundle
from tunelab.training.embedding_store import EmbeddingStore
from tunelab.training.export import write_heads, write_json
from tunelab.training.heads import CROSS_ENTROPY, GATE, passes_gate, train_head
from tunelab.types import FloatArray, content_id

LEAST_EXAMPLES = 50
"""Fewer labelled files than this make no head."""
_HELD_OUT, _DEVELOPMENT = 0.2, 0.15
"""Shares of the groups, where a dataset has no splits of its own."""

Failures = dict[str, str]
"""Path -> why it could not be used."""


def embedder(bundle: Bundle) -> Callable[[bytes], FloatArray]:
    """Bytes of a file -> embedding, float32 ``(768,)``; the bundle need not have heads."""
    extract, encode = MelExtractor(bundle.mel), load_engine(bundle)

    def embed(data: bytes) -> FloatArray:
        embedding: FloatArray = encode(extract(data).mel[np.newaxis])[0]
        return embedding

    return embed


def embed_examples(
    examples: list[Example],
    embed: Callable[[bytes], FloatArray],
    store: EmbeddingStore,
    told: Callable[[int], None] = lambda done: None,
) -> tuple[list[Example], FloatArray, Failures]:
    """Embeddings of all files that can be decoded; those in the store are not computed again.

    Args:
        examples: what to embed.
        embed: of :func:`embedder`.
        store: of the same bundle.
        told: called with the number of files done.

    Returns:
        The examples that are left, their embeddings ``(n, 768)`` in the same order, and the failures. Files of the same
        bytes are in one group, so that a split does not train on what it measures.
    """
    kept: list[Example] = []
    ids: list[str] = []
    failures: Failures = {}
    for number, example in enumerate(examples, start=1):
        try:
            data = example.path.read_bytes()
            name = content_id(data)
            if name not in store:
                store.add(name, embed(data))
            kept.append(example)
            ids.append(name)
        except (TuneLabError, OSError) as error:
            failures[str(example.path)] = str(error)
        told(number)
    groups = joined([example.group for example in kept], ids)
    kept = [replace(example, group=group) for example, group in zip(kept, groups, strict=True)]
    return kept, store.read(ids), failures


def split_of(examples: list[Example]) -> npt.NDArray[np.str_]:
    """``train``, ``validation`` or ``test`` for each: the dataset's own, else by a hash of the group."""
    return np.array([example.split or _hashed_split(example.group) for example in examples])


def _hashed_split(group: str) -> str:
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
    if place < _HELD_OUT:
        return "test"
    return "validation" if place < _HELD_OUT + _DEVELOPMENT else "train"


def fit(examples: list[Example], embeddings: FloatArray) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Train a head for every score that has labels.

    Returns:
        Tensors of the heads that passed the gate, and a row of the card for each head.
    """
    splits = split_of(examples)
    groups = np.unique([example.group for example in examples], return_inverse=True)[1]
    tensors: dict[str, FloatArray] = {}
    rows: dict[str, Any] = {}
    for head, numbers in by_head(examples):
        index = np.array(numbers)
        labels = np.array([examples[number].labels[head] for number in numbers], np.float32)
        part = {name: splits[index] == name for name in ("train", "validation", "test")}
        if why := _why_not(len(index), part):
            rows[head] = {"shipped": False, "n": len(index), "why": why}
            continue
        fitted = train_head(
            head,
            (embeddings[index[part["train"]]], labels[part["train"]]),
            (embeddings[index[part["validation"]]], labels[part["validation"]]),
            embeddings[index[part["test"]]],
        )
        truth = labels[part["test"]]
        rows[head] = _row(head, fitted.heldout, truth, groups[index[part["test"]]]) | {
            "n_train": int(part["train"].sum()),
            "epochs": fitted.chosen_epoch,
        }
        if rows[head]["shipped"]:
            tensors |= fitted.tensors
    return tensors, rows


def _why_not(count: int, part: Mapping[str, npt.NDArray[np.bool_]]) -> str:
    """Why ``count`` labelled files make no head, or nothing."""
    if count < LEAST_EXAMPLES:
        return f"fewer than {LEAST_EXAMPLES} labelled files"
    short = [name for name, chosen in part.items() if chosen.sum() < 2]
    return f"fewer than two labelled files in {' and '.join(short)}" if short else ""


def _row(head: str, score: FloatArray, truth: FloatArray, groups: npt.NDArray[np.int64]) -> dict[str, Any]:
    measures = {name: metric(score, truth) for name, metric in AGREEMENT.items()}
    ci95 = interval(pearson, score, truth, groups)
    row: dict[str, Any] = {
        "shipped": passes_gate(measures["pearson_r"]),
        "loss": "binary cross-entropy" if head in CROSS_ENTROPY else "mean square error",
        "truth": "the labels that were given",
        "n": len(score),
    }
    # A card says nothing of what is not defined: r of labels that are all the same, the interval of a single group.
    row |= {name: round(value, 4) for name, value in measures.items() if math.isfinite(value)}
    if all(map(math.isfinite, ci95)):
        row["ci95"] = [round(value, 4) for value in ci95]
    if set(np.unique(truth)) == {0.0, 1.0}:
        row["auc"] = round(auc(score, truth), 4)
    if "pearson_r" not in row:
        row["why"] = "r is not defined: the labels of the held-out split are all the same"
    elif not row["shipped"]:
        row["why"] = f"r below the gate of {GATE} on the held-out split"
    return row


def write_own_bundle(
    source: Bundle, out: Path, tensors: Mapping[str, FloatArray], rows: Mapping[str, Any], labels: str
) -> None:
    """Write a bundle with the encoder of ``source`` and the new heads.

    Raises:
        SettingsError: ``out`` exists.
    """
    card = {
        "name": out.name,
        "version": "1",
        "summary": f"Heads trained on {labels}, on the encoder of {source.name} (revision {source.revision}).",
        "licence": f"encoder: {source.card.get('licence', 'see the source')}; heads: as their labels allow",
        "heads": dict(rows),
        "dropped": {head: row for head, row in rows.items() if not row["shipped"]},
    }
    with derived_bundle(source, out) as folder:
        write_heads(tensors, folder)
        write_json(folder / "card.json", card)
