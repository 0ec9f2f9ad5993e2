"""The loss curve of a pre-training run as a picture: of a finished run, or of one that is still going on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunelab.errors import SettingsError

CURVE, PICTURE = "curve.csv", "curve.png"
SMOOTHED_SHARE = 0.02
"""Share of all steps over which the loss is smoothed; never fewer than :data:`LEAST_SMOOTHED`."""
LEAST_SMOOTHED = 20
MOST_POINTS = 4000


@dataclass(frozen=True, slots=True)
class Curve:
    """Steps of a run in order, each shape ``(n,)``: number from 1, seconds since the start, blocks, loss."""

    step: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    layers: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]

    def smoothed(self) -> npt.NDArray[np.float64]:
        """Geometric mean of the losses around each step, shape ``(n,)``; windows end where the run does."""
        width = max(LEAST_SMOOTHED, int(SMOOTHED_SHARE * len(self.loss)))
        sums = np.concatenate([[0.0], np.cumsum(np.log(self.loss))])
        places = np.arange(len(self.loss))
        first, last = np.maximum(places - width // 2, 0), np.minimum(places + width // 2 + 1, len(self.loss))
        mean: npt.NDArray[np.float64] = np.exp((sums[last] - sums[first]) / (last - first))
        return mean

    def growth(self) -> list[tuple[int, int]]:
        """Steps at which the number of blocks changes, and the number from then on."""
        places = np.flatnonzero(np.diff(self.layers)) + 1
        return [(int(self.step[place]), int(self.layers[place])) for place in places]

    def __str__(self) -> str:
        now, before = self.smoothed()[[-1, -max(1, len(self.loss) // 10)]]
        return (
            f"step {self.step[-1]}, {self.seconds[-1] / 60:.1f} min, {self.layers[-1]} blocks, "
            f"loss {now:.4f} ({100 * (now / before - 1):+.1f} % over the last tenth)"
        )


def read_curve(run: Path) -> Curve:
    """``curve.csv`` of a run, which may be growing: an unfinished last line is left out.

    A run that went on from a checkpoint wrote the steps after that twice; the last ones count.

    Raises:
        SettingsError: there is no such file, or no step in it.
    """
    rows: dict[int, tuple[float, int, float]] = {}
    try:
        text = (run / CURVE).read_text()
    except OSError as error:
        raise SettingsError(f"{run.name} has no {CURVE}: it is no pre-training run, or has not begun") from error
    lines = text[: text.rfind("\n") + 1].splitlines()
    for row in csv.DictReader(lines):
        try:
            step, seconds, layers = int(row["step"]), float(row["seconds"]), int(row["layers"])
            loss = float(row["loss"])
        except (KeyError, TypeError, ValueError):
            continue  # the header again: it began anew, and its first step drops what was before
        if not (np.isfinite(loss) and loss > 0):
            continue
        while rows and next(reversed(rows)) >= step:
            rows.popitem()
        rows[step] = (seconds, layers, loss)
    if not rows:
        raise SettingsError(f"{run.name} has no step in its {CURVE} yet")
    seconds_of, layers_of, losses = zip(*rows.values(), strict=True)
    return Curve(np.array(list(rows)), np.array(seconds_of), np.array(layers_of), np.array(losses))


def draw_curve(run: Path, out: Path | None = None) -> Curve:
    """Draw the loss of a run, on a logarithmic scale, over its steps; where blocks were added is marked.

    Args:
        run: the run's folder.
        out: the PNG to write, by default ``curve.png`` in the run.

    Returns:
        What was drawn.

    Raises:
        SettingsError: the run has no steps.
    """
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    from tunelab.evaluation.plots import COLOURS, GREY, new_figure, save_figure

    curve = read_curve(run)
    smoothed = curve.smoothed()
    figure = new_figure(9.0, 4.8)
    axes = figure.subplots()
    chosen = np.unique(np.linspace(0, len(curve.step) - 1, min(MOST_POINTS, len(curve.step))).astype(int))
    axes.scatter(curve.step[chosen], curve.loss[chosen], s=2, lw=0, color=GREY, alpha=0.35, label="one batch")
    axes.plot(curve.step, smoothed, color=COLOURS[0], lw=1.8, label="smoothed")
    axes.set_yscale("log")
    # Single batches far out must not flatten the curve.
    low, high = np.percentile(curve.loss, [0.5, 99.5])
    axes.set_ylim(0.95 * min(low, smoothed.min()), 1.05 * max(high, smoothed.max()))
    # Powers of ten alone would leave most curves without a number.
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(0, 1.02 * curve.step[-1])
    top = axes.get_xaxis_transform()
    for step, layers in curve.growth():
        axes.axvline(step, color=COLOURS[1], lw=1, ls="--")
        axes.text(step, 0.98, f" {layers} blocks", transform=top, va="top", color=COLOURS[1], fontsize=9)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(f"{run.name}: {curve}", fontsize=10)
    axes.legend(loc="lower left", fontsize=8, markerscale=4)
    axes.grid(color="#e5e5e5", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out or run / PICTURE)
    return curve
