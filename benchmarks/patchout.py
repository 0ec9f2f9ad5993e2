"""``python -m benchmarks.patchout FILE``: a bundle beside its copy without every second time patch, in turns."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.inprocess import Track, take_turns
from benchmarks.machine import processor
from benchmarks.report import Report
from benchmarks.stats import Summary
from tunelab.analyzer import Analyzer
from tunelab.encoder.bundle import find_bundle
from tunelab.training.patchout import leave_out_patches


def compare(whole: Analyzer, thin: Analyzer, file: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the file to its scores, of both in turns; the first round warms up and is not counted."""

    def timed(analyzer: Analyzer) -> Callable[[str], float]:
        def measure(path: str) -> float:
            begin = time.perf_counter()
            analyzer.analyze(path)
            return 1000 * (time.perf_counter() - begin)

        return measure

    times, _ = take_turns({"whole": timed(whole), "thin": timed(thin)}, [Track(file, "", 0.0)], rounds)
    return times["whole", str(file)], times["thin", str(file)]


def main(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An audio file.")],
    bundle: Annotated[str, typer.Option(help="Name or folder of the whole bundle.")] = "tunelab-v1",
    rounds: Annotated[int, typer.Option(min=1)] = 9,
) -> None:
    """Print both times and their ratio, on this machine with all cores."""
    report, source = Report(), find_bundle(bundle)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # the copy is gone afterwards, and what is converted of it has to be, too
        thin = Analyzer(leave_out_patches(source, Path(folder) / "thin"))
        whole = Analyzer(source)
        times = compare(whole, thin, file, rounds)
    report.section(
        f"{file.name} -> scores, warm: ms, median (min .. max) of {rounds}, in turns",
        ["", "ms"],
        [["all patches", str(Summary.of(times[0]))], ["every second time patch", str(Summary.of(times[1]))]],
        f"{statistics.median(times[0]) / statistics.median(times[1]):.2f} times as quick. {source.name} "
        f"{source.card.get('version')}, {whole.encode.name}, {whole.threads} threads, {processor()}.",
    )


if __name__ == "__main__":
    typer.run(main)
