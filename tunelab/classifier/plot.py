"""One PNG of a report: the confusion matrix and the figures of each class. Agg only, no window ever opens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunelab.errors import ClassifierError
from tunelab.evaluation.plots import COLOURS, GREY, new_figure, save_figure

_SHOWN = 40
"""Classes that fit on a page; of more, those that the classifier knows worst."""
_WITH_INTERVALS = 6
"""Classes whose confusion matrix has room for intervals."""
_MEASURES = (("precision", COLOURS[0], "s"), ("recall", COLOURS[1], "o"), ("f1", "black", "D"))

Report = Mapping[str, Any]
Axes = Any
"""matplotlib's: it has no types here."""


def plot_report(report: Report, path: Path) -> None:
    """Draw a report of :func:`tunelab.classifier.train.train`.

    Args:
        report: with a whole confusion matrix, or of a ``multilabel`` classifier, or of one with too many classes for a
            matrix: those have only the figures of each class.
        path: the file to write.

    Raises:
        ClassifierError: it cannot be written.
    """
    rows = list(report["per_class"])
    if len(rows) > _SHOWN:
        rows = sorted(rows, key=lambda row: row["f1"]["value"])[:_SHOWN]
    matrix = report["kind"] == "multiclass" and report["confusion"] is not None
    height = 2.2 + max(2.0, (0.55 if matrix and len(rows) <= _WITH_INTERVALS else 0.34) * len(rows))
    figure = new_figure(2.2 * height + 1.5 if matrix else 7.5, height)
    panels = np.atleast_1d(figure.subplots(1, 2 if matrix else 1))
    if matrix:
        _confusion(panels[0], report)
    _classes(panels[-1], rows, len(report["per_class"]))
    figure.suptitle(_title(report), fontsize=10)
    try:
        with warnings.catch_warnings():
            # A letter that no font has is drawn as a box, which is no reason for a line on standard error.
            warnings.filterwarnings("ignore", message="Glyph")
            save_figure(figure, path)
    except OSError as error:
        raise ClassifierError(f"{path.name} cannot be written: {error.strerror}") from None


def _title(report: Report) -> str:
    accuracy, macro, baseline = report["accuracy"], report["macro_f1"], report["baseline"]
    what = "accuracy" if report["kind"] == "multiclass" else "all labels right"
    always = ", ".join(f"'{_short(name)}'" for name in baseline["always"]) or "no label"
    return (
        f"{what} {_interval(accuracy)},  macro F1 {_interval(macro)},  of {report['n']['test']} tracks held out\n"
        f"the same answer for all, {always}:  {baseline['accuracy']:.2f},  macro F1 {baseline['macro_f1']:.2f}"
    )


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:.2f} [{low:.2f}, {high:.2f}]"


def _short(name: str, most: int = 24) -> str:
    """A label as matplotlib may have it: a dollar sign would begin a formula."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")


def _confusion(axes: Axes, report: Report) -> None:
    counts = np.array(report["confusion"]["counts"], np.float64)
    bounds = np.array(report["confusion"]["ci95"], np.float64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    names = [_short(name) for name in report["classes"]]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    with_interval = len(names) <= _WITH_INTERVALS
    size = 9 if len(names) <= 12 else 6
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            text = f"{counts[row, column]:.0f}"
            if with_interval:
                low, high = 100 * bounds[row, column]
                text += f"\n{100 * shares[row, column]:.0f} %\n[{low:.0f}, {high:.0f}]"
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    if len("".join(names)) < 45:
        axes.set_xticks(range(len(names)), names)
    else:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title("tracks held out" + (", and share of the row [95 % interval]" if with_interval else ""), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _classes(axes: Axes, rows: list[Mapping[str, Any]], all_classes: int) -> None:
    places = np.arange(len(rows))
    for number, (measure, colour, marker) in enumerate(_MEASURES):
        values = np.array([row[measure]["value"] for row in rows])
        bounds = np.array([row[measure]["ci95"] for row in rows])
        axes.errorbar(
            values,
            places + 0.22 * (number - 1),
            xerr=np.abs(bounds.T - values),
            fmt=marker,
            ms=4.5,
            lw=1.2,
            capsize=2,
            color=colour,
            label={"f1": "F1"}.get(measure, measure),
        )
    axes.set_yticks(places, [f"{_short(row['label'])}  ({row['n_test']})" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("value, with its 95 % interval")
    worst = f"the {len(rows)} of {all_classes} classes that are known worst"
    shown = worst if len(rows) < all_classes else "each class"
    axes.set_title(f"{shown} (number of tracks held out)", fontsize=9)
    axes.grid(axis="x", color="#e5e5e5", lw=0.6)
    for place in places[1:]:
        axes.axhline(place - 0.5, color=GREY, lw=0.4, alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.legend(fontsize=8, ncols=3, loc="outside lower right", frameon=False)
