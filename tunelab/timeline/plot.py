"""A timeline as a picture: the scores over time, with the sections behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunelab.types import HEADS, Timeline, clock

# Okabe and Ito's colours, which people with any colour vision can tell apart.
_CURVES = dict(zip(HEADS, ("#D55E00", "#CC79A7", "#E69F00", "#009E73", "#0072B2", "#000000"), strict=True))
_SHADES = ("#e3ecf7", "#fdf0dc", "#e4f3e4", "#f8e4ee", "#ececec", "#f6f3d3", "#ddf1f1", "#eee4f8")
_WIDTH_IN, _HEIGHT_IN, _DPI = 11.0, 5.2, 130
_LEAST_LABEL = 0.012
"""Share of the track that a section has to have for its label to fit."""


def save_plot(timeline: Timeline, path: Path, title: str) -> None:
    """Write a PNG, about 1400 x 700 pixels.

    Args:
        timeline: what to draw.
        path: of the PNG.
        title: above the picture.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot: that keeps figures, and looks for a screen.
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_sections(axes, timeline)
    _draw_scores(axes, timeline)
    axes.set_xlim(0, timeline.duration_s)
    axes.set_ylim(-2, 102)
    axes.set_ylabel("score")
    axes.xaxis.set_major_locator(_time_ticks(timeline.duration_s))
    axes.xaxis.set_major_formatter(lambda value, _: clock(value))
    axes.set_title(title, fontsize=11, loc="left", pad=20, parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    figure.savefig(path, dpi=_DPI, format="png")


def _draw_sections(axes: Any, timeline: Timeline) -> None:
    names = dict.fromkeys(section.label for section in timeline.sections if section.label)
    shades = {name: _SHADES[number % len(_SHADES)] for number, name in enumerate(names)}
    for section in timeline.sections:
        if section.label is None:
            axes.axvspan(section.start_s, section.end_s, facecolor="white", edgecolor="#cccccc", hatch="//", lw=0)
            continue
        axes.axvspan(section.start_s, section.end_s, color=shades[section.label], lw=0)
        if section.start_s > 0:
            axes.axvline(section.start_s, color="#888888", lw=0.8)
        if section.end_s - section.start_s >= _LEAST_LABEL * timeline.duration_s:
            middle = (section.start_s + section.end_s) / 2
            axes.annotate(
                section.label, (middle, 1.0), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", fontsize=10, color="#444444",
            )  # fmt: skip


def _draw_scores(axes: Any, timeline: Timeline) -> None:
    # A score holds for its whole segment: steps, and gaps where it is silent.
    edges = np.array([*timeline.start_s, timeline.end_s[-1]])
    for head, scores in timeline.scores.items():
        points = np.array([np.nan if score is None else 100 * score for score in scores])
        axes.stairs(points, edges, baseline=None, color=_CURVES[head], lw=1.8, label=head)


def _time_ticks(duration_s: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    steps = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    return MultipleLocator(next((step for step in steps if duration_s / step <= 12), steps[-1]))
