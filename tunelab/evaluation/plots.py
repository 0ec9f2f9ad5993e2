"""PNG figures of a report: a head against listeners, and against its labels. Agg only, no window ever opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.evaluation.calibration import HeldOut
from tunelab.evaluation.listeners import Sample
from tunelab.evaluation.metrics import auc
from tunelab.evaluation.report import with_interval

Axes = Any
"""matplotlib's: it has no types here."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
GREY = "#7f7f7f"
DPI = 130
Figures = Mapping[str, Any]
"""A row of :func:`~tunelab.evaluation.listeners.listener_figures` or ``calibration.held_out_figures``."""
SHORT = {"pearson_r": "Pearson r", "spearman": "Spearman", "ccc": "CCC", "rmse": "RMSE", "auc": "AUC"}


def new_figure(width: float, height: float) -> Any:
    """An empty figure of that many inches that draws with Agg, apart from any global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG; the same figure gives the same bytes."""
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def plot_listeners(samples: list[Sample], rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write ``HEAD.png`` for every head among the samples: a scatter, or distributions and a ROC, for each of its rows.

    Args:
        samples: the clips.
        rows: their figures, in the same order.
        folder: where to.

    Returns:
        What was written.
    """
    by_head: dict[str, list[tuple[Sample, dict[str, Any]]]] = {}
    for sample, row in zip(samples, rows, strict=True):
        by_head.setdefault(sample.row.head, []).append((sample, row))
    written = []
    for head, group in by_head.items():
        panels = sum(2 if sample.row.metric is auc else 1 for sample, _ in group)
        figure = new_figure(5.2 * panels, 5.0)
        figure.suptitle(head.capitalize(), fontsize=14)
        axes = iter(np.atleast_1d(figure.subplots(1, panels)))
        entries: dict[str, Any] = {}
        for sample, row in group:
            if sample.row.metric is auc:
                _distributions(next(axes), sample, row)
                _roc(next(axes), sample)
            else:
                entries |= _scatter(next(axes), sample, row)
        if entries:
            # Below the panels, where it hides no point.
            figure.legend(
                entries.values(), entries, loc="outside lower center", ncols=2 + panels, fontsize=8, frameon=False
            )
        path = folder / f"{head}.png"
        save_figure(figure, path)
        written.append(path)
    return written


def plot_calibration(clips: Mapping[str, HeldOut], rows: list[dict[str, Any]], path: Path) -> None:
    """Write one PNG with a panel for each head: mean label in bins of the score, and how often each score is given.

    Args:
        clips: of :func:`tunelab.evaluation.calibration.held_out`.
        rows: their figures, in the same order.
        path: the file to write.
    """
    columns = min(3, len(clips))
    lines = -(-len(clips) // columns)
    figure = new_figure(4.6 * columns, 4.6 * lines)
    panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for axes, held, row in zip(panels, clips.values(), rows, strict=False):
        _calibration(axes, held, row)
    for axes in panels[len(clips) :]:
        axes.set_visible(False)
    for axes in panels[: len(clips) : columns]:
        axes.set_ylabel("label")
    for axes in panels[max(0, len(clips) - columns) : len(clips)]:
        axes.set_xlabel("score")
        axes.tick_params(labelbottom=True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save_figure(figure, path)


def _scatter(axes: Axes, sample: Sample, row: Figures) -> dict[str, Any]:
    """Draw the clips and the line of equal ranks; what the legend has to name."""
    for colour, name in zip(COLOURS, np.unique(sample.names), strict=False):
        chosen = sample.names == name
        label = name or None
        axes.scatter(
            sample.truth[chosen], 100 * sample.score[chosen], s=13, alpha=0.65, lw=0, color=colour, label=label
        )
    # Where all points would lie if the ranks agreed: the k-th smallest score over the k-th smallest truth.
    axes.plot(
        np.sort(sample.truth), 100 * np.sort(sample.score), color="black", lw=1.3, label="equal ranks (Spearman 1)"
    )
    truth = sample.row.measure.partition(" with ")[2]
    axes.set_xlabel(_wrapped(truth) + "\n(shares of listeners)")
    axes.set_ylabel("score")
    axes.set_ylim(-2, 102)
    axes.set_title(_caption(row), fontsize=9)
    _plain(axes)
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def _distributions(axes: Axes, sample: Sample, row: Figures) -> None:
    positive, negative = _sides(sample)
    edges = np.linspace(0, 100, 26)
    for colour, name, chosen in (
        (COLOURS[1], positive, sample.truth > 0.5),
        (COLOURS[0], negative, sample.truth <= 0.5),
    ):
        scores = 100 * sample.score[chosen]
        axes.hist(scores, edges, alpha=0.55, color=colour, label=f"{name} (n = {len(scores)})")
        axes.axvline(float(np.median(scores)), color=colour, lw=1.5, ls="--")
    axes.set_xlim(0, 100)
    axes.set_xlabel("score (dashed: medians)")
    axes.set_ylabel("clips")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(_caption(row), fontsize=9)
    axes.legend(fontsize=8, framealpha=0.85)
    _plain(axes)


def _roc(axes: Axes, sample: Sample) -> None:
    from sklearn.metrics import roc_curve

    positive, negative = _sides(sample)
    wrong, right, _ = roc_curve(sample.truth > 0.5, sample.score)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
    axes.plot(wrong, right, color=COLOURS[0], lw=1.8)
    axes.fill_between(wrong, right, color=COLOURS[0], alpha=0.12, lw=0)
    axes.set_xlabel(f"share of '{negative}' above the threshold")
    axes.set_ylabel(f"share of '{positive}' above the threshold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_aspect("equal")
    axes.set_title("ROC", fontsize=9)
    _plain(axes)


def _calibration(axes: Axes, held: HeldOut, row: Figures) -> None:
    bins = row["bins"]
    axes.hist(
        100 * held.score,
        np.linspace(0, 100, 26),
        weights=np.full(len(held.score), 100 / len(held.score)),
        color=GREY,
        alpha=0.35,
        label="share of clips, %",
    )
    axes.plot([0, 100], [0, 100], color="black", lw=1, ls=":", label="score = label")
    axes.errorbar(
        [100 * part["score"] for part in bins],
        [100 * part["label"] for part in bins],
        yerr=_bars(bins),
        fmt="o",
        ms=5,
        lw=1.3,
        capsize=3,
        color=COLOURS[0],
        label="mean label, 95 % interval",
    )
    text = "\n".join(_line(name.ljust(9), figure) for name, figure in _named(row))
    axes.text(
        0.03,
        0.97,
        text,
        transform=axes.transAxes,
        va="top",
        fontsize=8,
        family="monospace",
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0},
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_title(f"{row['head'].capitalize()}   ({row['n']} clips, {row['groups']} groups)", fontsize=10)
    _plain(axes)


def _bars(bins: list[Mapping[str, float]]) -> npt.NDArray[np.float64]:
    """Lengths below and above, shape ``(2, bins)``, in points; none where there is no interval."""
    lengths = [[part["label"] - part["low"], part["high"] - part["label"]] for part in bins]
    return 100 * np.nan_to_num(np.array(lengths, np.float64).T).clip(0)


def _sides(sample: Sample) -> tuple[str, str]:
    """Names of the clips of truth 1 and truth 0, as the measure has them: ``AUC these vs those``."""
    positive, _, negative = sample.row.measure.removeprefix("AUC ").partition(" vs ")
    return positive, negative


def _caption(row: Figures) -> str:
    lines = [_line(name, figure) for name, figure in _named(row)]
    lines[0] += f", n = {row['n']}; vibenet 0.1.0: {row['vibenet']:.3f}"
    return "\n".join(lines)


def _named(row: Figures) -> list[tuple[str, Any]]:
    return [(SHORT[name], figure) for name, figure in row["measures"].items()]


def _line(name: str, figure: Figures) -> str:
    return f"{name} {with_interval(figure)}"


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 48)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", lw=0.6)
    axes.set_axisbelow(True)
