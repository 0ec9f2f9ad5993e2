"""How good a classifier is on tracks that it was not trained on, with 95 % bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from tunelab.classifier.model import Kind

DRAWS = 1000
CONFUSION_CLASSES = 30
"""Up to so many classes the report has the whole confusion matrix; a larger one nobody reads."""

Matrix = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
_NUMBERS = 4_000_000
"""Random numbers that are held at once."""


def report(
    kind: Kind,
    classes: tuple[str, ...],
    truth: Matrix,
    predicted: Matrix,
    always: npt.NDArray[np.bool_],
    groups: npt.NDArray[Any] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of predictions, as JSON values to four digits.

    ``accuracy`` is the share of tracks whose class (all of whose labels) is right, ``macro_f1`` the mean F1 of the
    classes; ``per_class`` has precision, recall and F1 in the order of ``classes``. Each is
    ``{"value": .., "ci95": [low, high]}``; precision counts as 0 where nothing is predicted.
    ``baseline`` has what the same answer for every track reaches.
    ``confusion`` of a ``multiclass`` one has the counts (rows: truth) and the intervals of the rows' shares; that of a
    ``multilabel`` one the four counts of each label.

    Args:
        kind: of the classifier.
        classes: names.
        truth: which track has which, shape ``(n, classes)``; each class is on a track.
        predicted: the same of the predictions.
        always: the answer of the baseline, shape ``(classes,)``.
        groups: of each track, shape ``(n,)``; whole groups are drawn. ``None``: every track for itself.
        draws: resamples.
        seed: of the resamples.
    """
    columns = _columns(truth, predicted)
    value = _measures(columns.sum(axis=0)[np.newaxis])
    drawn = _measures(_resampled(columns, groups, draws, seed))
    baseline = _measures(_columns(truth, np.broadcast_to(always, truth.shape)).sum(axis=0)[np.newaxis])
    rows = [
        {
            "n_test": int(truth[:, place].sum()),
            **{key: _figure(value[key][0, place], drawn[key][:, place]) for key in ("precision", "recall", "f1")},
        }
        for place in range(len(classes))
    ]
    return {
        "accuracy": _figure(value["accuracy"][0], drawn["accuracy"]),
        "macro_f1": _figure(value["macro_f1"][0], drawn["macro_f1"]),
        "baseline": {
            "always": [name for name, given in zip(classes, always, strict=True) if given],
            "accuracy": round(float(baseline["accuracy"][0]), 4),
            "macro_f1": round(float(baseline["macro_f1"][0]), 4),
        },
        "per_class": rows,
        "confusion": _confusion(kind, truth, predicted, groups, draws, seed),
    }


def _columns(truth: Matrix, predicted: Matrix) -> Any:
    """Everything that the measures need, as columns to be summed over tracks, shape ``(n, 3 x classes + 2)``.

    Labels, predictions, and where both are; then whether all is right, and 1.
    """
    right = (truth == predicted).all(axis=1, keepdims=True)
    return csr_array(np.hstack([truth, predicted, truth & predicted, right, np.ones_like(right)]), dtype=np.float64)


def _measures(sums: Numbers) -> dict[str, Numbers]:
    """Of sums of :func:`_columns`, shape ``(k, columns)``: each measure, ``(k,)`` or ``(k, classes)``.

    NaN: recall of a class that no track of a resample has; F1 if none was predicted, either.
    """
    truth, predicted, both = np.split(sums[:, :-2], 3, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * both / (truth + predicted)
        recall = both / truth
        precision = np.where(predicted > 0, both / predicted, 0.0)
    there = np.isfinite(f1)
    macro = np.where(there, f1, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    accuracy = sums[:, -2] / sums[:, -1]
    return {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy, "macro_f1": macro}


def _resampled(rows: Any, groups: npt.NDArray[Any] | None, draws: int, seed: int) -> Numbers:
    """Sums over tracks that are drawn with replacement, shape ``(draws, columns)``. ``rows``: sparse, one a track."""
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        rows = csr_array((np.ones(len(place)), (place, np.arange(len(place))))) @ rows
    rng = np.random.default_rng(seed)
    units = rows.shape[0]
    shares = np.full(units, 1 / units)
    at_once = max(1, _NUMBERS // units)
    sums = [
        rng.multinomial(units, shares, size=min(at_once, draws - begin)) @ rows for begin in range(0, draws, at_once)
    ]
    return np.concatenate(sums)


def _confusion(
    kind: Kind, truth: Matrix, predicted: Matrix, groups: npt.NDArray[Any] | None, draws: int, seed: int
) -> dict[str, Any] | None:
    if kind == "multilabel":
        cells = {"tp": truth & predicted, "fp": ~truth & predicted, "fn": truth & ~predicted, "tn": ~truth & ~predicted}
        return {name: cell.sum(axis=0).tolist() for name, cell in cells.items()}
    n, classes = truth.shape
    if classes > CONFUSION_CLASSES:
        return None
    cell = classes * truth.argmax(axis=1) + predicted.argmax(axis=1)
    rows = csr_array((np.ones(n), (np.arange(n), cell)), shape=(n, classes * classes))
    drawn = _resampled(rows, groups, draws, seed).reshape(-1, classes, classes)
    with np.errstate(invalid="ignore"):
        shares = drawn / drawn.sum(axis=2, keepdims=True)
    bounds = np.nanpercentile(shares, [2.5, 97.5], axis=0)
    return {
        "counts": rows.sum(axis=0).astype(int).reshape(classes, classes).tolist(),
        "ci95": np.moveaxis(bounds, 0, -1).round(4).tolist(),
    }


def _figure(value: float, drawn: Numbers) -> dict[str, Any]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": round(float(value), 4), "ci95": [round(float(low), 4), round(float(high), 4)]}
