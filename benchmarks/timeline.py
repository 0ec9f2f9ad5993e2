"""How well timelines keep to their place: ``python -m benchmarks.timeline [--files FOLDER]``.

Tracks are put together here from two pieces each, so that it is known where they change. The pieces are synthetic, or
excerpts of 30 s from the user's own files, which say more: synthetic sound is nothing that the encoder was trained on.
"""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soundfile
import typer

from benchmarks.files import RATE as RATE_OF_BARS
from benchmarks.files import TRACK_S, synthesise
from benchmarks.pieces import PIECE_S, RATE, Piece, draw, own_pieces, synthetic_pieces, wav
from benchmarks.report import progress, render
from tunelab.analyzer import Analyzer, load
from tunelab.encoder import DEFAULT_BUNDLE
from tunelab.encoder.columns import ColumnEncoder, column_grid
from tunelab.timeline import make_plan
from tunelab.types import Timeline

NEAR_S = 2.0
"""A change that is found within this is found."""
SEGMENT_S = 5.0
LOOP_S = 8.0
DIFFERENT = 40.0
"""Points by which two pieces differ that nobody takes for one."""
_TURNS = 5
_BINS_S = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0)
_TELLS = 20.0
"""Points between two pieces from which on a score can tell how much of one is in the other."""

Points = npt.NDArray[np.float64]
"""Scores in 0..100, shape ``(..., heads)``."""


def main(
    files: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of tracks of 30 s.")] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Tracks of two pieces.")] = 40,
    seed: Annotated[int, typer.Option(help="Which pieces, and where they are cut.")] = 0,
    bundle: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = DEFAULT_BUNDLE,
) -> None:
    """Cut detection, leakage, flatness and speed of timelines."""
    rng = np.random.default_rng(seed)
    pieces = own_pieces(files, 2 * pairs, rng) if files else synthetic_pieces()
    analyzer = load(bundle)
    kind = "own files" if files else "synthetic"
    print(f"{bundle} on {analyzer.encode.name}, {analyzer.threads} threads; pieces: {kind}\n")
    _cuts(analyzer, pieces, pairs, rng)
    _leakage(analyzer, pieces, max(2, pairs // 4), rng)
    some = [pieces[number] for number in rng.permutation(len(pieces))[: max(2, pairs // 4)]]
    _excerpts(analyzer, some)
    _loops(analyzer, some)
    _speed(analyzer)


def crossing(scores: Points, times_s: Points, first: Points, second: Points) -> float:
    """Where the score that differs most between two pieces has gone half of the way from one to the other.

    Args:
        scores: along the track, shape ``(n, heads)``.
        times_s: middles of the segments, shape ``(n,)``.
        first: scores of the first piece alone, shape ``(heads,)``.
        second: of the second.

    Returns:
        seconds; of several places the one that splits the track best.
    """
    head = int(np.abs(second - first).argmax())
    towards = np.where(np.abs(scores[:, head] - first[head]) < np.abs(scores[:, head] - second[head]), -1, 1)
    # Before the change everything should be near the first piece, after it near the second.
    fits = np.cumsum(towards[::-1])[::-1] - np.concatenate([[0], np.cumsum(towards)[:-1]])
    at = int(fits.argmax())
    return float((times_s[max(at - 1, 0)] + times_s[at]) / 2)


def share_of_other(got: Points, own: Points, other: Points) -> float:
    """How far scores have gone from what they should be towards the other piece: 0 not at all, 1 the whole way.

    Args:
        got: of segments beside another piece, shape ``(n, heads)``.
        own: of the same segments without it.
        other: of the other piece at these places.
    """
    way = other - own
    tells = np.abs(way) >= _TELLS
    return float(((got - own) * way)[tells].sum() / np.square(way)[tells].sum()) if tells.any() else float("nan")


def _points(timeline: Timeline) -> Points:
    return 100 * np.array([timeline.scores[head] for head in timeline.scores], dtype=np.float64).T


def _cuts(analyzer: Analyzer, pieces: Sequence[Piece], pairs: int, rng: np.random.Generator) -> None:
    boundaries, scores, ways, others, seconds = [], [], [], 0, 0.0
    for number in range(pairs):
        progress(f"cuts: {number + 1} of {pairs}")
        one, two = draw(pieces, rng)
        first, second = rng.integers(15 * RATE, round(PIECE_S * RATE), 2)
        timeline = analyzer.timeline(wav(np.concatenate([one.samples[:first], two.samples[-second:]])), 1.0)
        cut_s = first / RATE
        found = [section.start_s for section in timeline.sections[1:]]
        boundaries.append(min((abs(at - cut_s) for at in found), default=np.inf))
        others += sum(abs(at - cut_s) > NEAR_S for at in found)
        seconds += timeline.duration_s
        middles = (np.array(timeline.start_s) + np.array(timeline.end_s)) / 2
        points, clear_s = _points(timeline), 3.0
        ends = [np.median(points[side], axis=0) for side in (middles < cut_s - clear_s, middles > cut_s + clear_s)]
        scores.append(abs(crossing(points, middles, *ends) - cut_s))
        ways.append(float(np.abs(ends[1] - ends[0]).max()))
    different = np.array(ways) >= DIFFERENT
    print(
        f"Tracks of two pieces of 15 to 30 s: {pairs}, of which {different.sum()} are of pieces that differ by "
        f"{DIFFERENT:g} points or more in some score. Where the change is told, against where it is:\n"
    )
    rows = []
    for what, errors in (("section boundary", np.array(boundaries)), ("scores in steps of 1 s", np.array(scores))):
        for which, chosen in (("all", errors), ("different pieces", errors[different])):
            if chosen.size:
                spread = (np.quantile(chosen, q, method="higher") for q in (0.5, 0.9))
                told = ("not found" if np.isinf(error) else f"{error:.1f} s" for error in spread)
                rows.append([what, which, f"{np.mean(chosen <= NEAR_S):.0%}", *told])
    print(render(["", "tracks", f"within {NEAR_S:g} s", "median error", "90 % below"], rows))
    print(f"\nBoundaries elsewhere, within a piece: {60 * others / seconds:.2f} a minute.\n")


def _leakage(analyzer: Analyzer, pieces: Sequence[Piece], pairs: int, rng: np.random.Generator) -> None:
    encode, times_s = ColumnEncoder(analyzer.bundle, analyzer.encode), None
    gap = max((len(list(run)) for held, run in itertools.groupby(encode.bound) if held), default=0)
    print(
        f"{encode.bound.sum()} of {encode.bound.size} columns hold something else than their sound and are bridged; "
        f"the longest gap is {gap * encode.grid.step_s:.1f} s.\n"
    )
    found: dict[bool, dict[int, list[tuple[Points, Points, Points]]]] = {True: {}, False: {}}
    for number in range(pairs):
        progress(f"leakage: {number + 1} of {pairs}")
        one, two = draw(pieces, rng)
        cut = int(rng.integers(10 * RATE, 20 * RATE))
        both = np.concatenate([one.samples[:cut], two.samples[cut:]])
        mels = np.stack(
            [analyzer.extract_track.from_samples(each).mels[0] for each in (one.samples, two.samples, both)]
        )
        times_s = encode.grid.times_s
        for local in (True, False):
            columns = encode(mels) if local else analyzer.encode.columns(mels, local=False)
            for second in range(int(PIECE_S)):
                inside = (times_s >= second) & (times_s < second + 1)
                first, last, got = (
                    100 * np.array(list(analyzer.score(each[inside].mean(axis=0)).values())) for each in columns
                )
                distance_s = second + 0.5 - cut / RATE
                own, other = (first, last) if distance_s < 0 else (last, first)
                where = int(np.searchsorted(_BINS_S, abs(distance_s), side="right")) - 1
                found[local].setdefault(where, []).append((got, own, other))
    print(
        f"How much of the scores of a second comes from the piece beyond the change, of {pairs} pairs in one window:\n"
    )
    rows = []
    for number, (near, far) in enumerate(itertools.pairwise(_BINS_S)):
        shares = [share_of_other(*map(np.array, zip(*found[local][number], strict=True))) for local in (True, False)]
        rows.append([f"{near:g} to {far:g} s", *(f"{share:.0%}" for share in shares)])
    print(render(["from the change", "as timelines read it", "with attention to the whole window"], rows) + "\n")


def _excerpts(analyzer: Analyzer, pieces: Sequence[Piece]) -> None:
    encode = ColumnEncoder(analyzer.bundle, analyzer.encode)
    step = round(SEGMENT_S * RATE)
    heads = list(analyzer.score.names)
    alone, along, whole, gaps = [], [], [], []
    for number, piece in enumerate(pieces):
        progress(f"excerpts: {number + 1} of {len(pieces)}")
        excerpts = [piece.samples[begin : begin + step] for begin in range(0, piece.samples.size, step)]
        alone.append([[analyzer.score(analyzer.embed_samples(each))[head] for head in heads] for each in excerpts])
        timeline = analyzer.timeline(wav(piece.samples), SEGMENT_S)
        along.append(_points(timeline) / 100)
        gaps.append(
            100 * (along[-1].mean(axis=0) - [analyzer.analyze(wav(piece.samples)).scores[head] for head in heads])
        )
        columns = analyzer.encode.columns(analyzer.extract_track.from_samples(piece.samples).mels, local=False)[0]
        at = (encode.grid.times_s // SEGMENT_S).astype(int)
        whole.append(
            [
                [analyzer.score(columns[at == each].mean(axis=0))[head] for head in heads]
                for each in range(len(excerpts))
            ]
        )
    wanted, local, wide = (
        np.array(each) - np.array(each).mean(axis=1, keepdims=True) for each in (alone, along, whole)
    )
    print(
        f"Segments of 5 s of {len(pieces)} pieces against an analysis of the 5 s alone: correlation within a piece,\n"
        "and how far the mean of the segments is from the analysis of the whole piece:\n"
    )
    rows = []
    for number, head in enumerate(heads):
        pairs = [(wanted[..., number].ravel(), each[..., number].ravel()) for each in (local, wide)]
        correlations = [float(x @ y / np.sqrt((x @ x) * (y @ y))) for x, y in pairs]
        rows.append(
            [head, *(f"{r:.2f}" for r in correlations), f"{np.abs(np.array(gaps)[:, number]).mean():.1f} points"]
        )
    print(
        render(["", "as timelines read it", "with attention to the whole window", "mean of the segments"], rows) + "\n"
    )


def _loops(analyzer: Analyzer, pieces: Sequence[Piece]) -> None:
    counts, spreads = [], []
    for number, piece in enumerate(pieces):
        progress(f"loops: {number + 1} of {len(pieces)}")
        samples = np.tile(piece.samples[: round(LOOP_S * RATE)], 10)
        timeline = analyzer.timeline(wav(samples), LOOP_S)
        counts.append(len(timeline.sections))
        spreads.append(_points(timeline).std(axis=0))
    flat = sum(count == 1 for count in counts)
    print(
        f"{LOOP_S:g} s, 10 times, of {len(pieces)} pieces: {flat} are one section. Standard deviation of the scores of "
        "the 10, which sound the same:\n"
    )
    rows = [[head, f"{value:.1f}"] for head, value in zip(analyzer.score.names, np.mean(spreads, axis=0), strict=True)]
    print(render(["", "points"], rows) + "\n")


def _speed(analyzer: Analyzer) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(list(synthesise(TRACK_S, 0))), RATE_OF_BARS, format="MP3")
    data = file.getvalue()
    tasks: dict[str, Callable[[bytes], object]] = {
        "timeline": analyzer.timeline,
        "decoding and log-mel of it": analyzer.extract_track,
        "analysis of the same file": analyzer.analyze,
    }
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(_TURNS + 1):
        progress(f"speed: {turn} of {_TURNS}")
        for name, task in tasks.items():
            begin = time.perf_counter()
            task(data)
            if turn:  # the first warms up
                taken[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    plan = make_plan(analyzer.extract_track(data).outline, analyzer.bundle.mel.window_s, column_grid(analyzer.bundle))
    print(
        f"A synthetic MP3 of {TRACK_S / 60:g} minutes, {plan.passes} passes of the encoder; medians of {_TURNS}, in "
        "turns:\n"
    )
    rows = [
        [name, f"{1000 * value:.0f} ms", f"{60 * 1000 * value / TRACK_S:.0f} ms"] for name, value in medians.items()
    ]
    print(render(["", "", "a minute of audio"], rows))
    ratio = medians["timeline"] / medians["analysis of the same file"]
    print(f"\nA timeline takes {ratio:.1f} times as long as an analysis.")


if __name__ == "__main__":
    typer.run(main)
