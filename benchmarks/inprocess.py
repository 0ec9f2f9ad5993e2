"""File -> scores in process, beside the peers; and each stage alone."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import budgets
from benchmarks.protocol import Worker, WorkerError
from benchmarks.report import Report, progress
from benchmarks.stats import Summary

TUNELAB = "TuneLab"
PEERS = {
    "vibenet": "vibenet predict (whole track)",
    "vibenet-middle": "vibenet, middle 30 s",
    "ast-eager": "librosa + AST eager",
    "ast-sdpa": "librosa + AST sdpa",
}
_BUDGETS = {"vibenet": budgets.VIBENET, "ast-eager": budgets.MAEST}
_ABOUT_PEERS = (
    "TuneLab decodes and analyses the middle 30 s. vibenet's predict reads the whole track, which is what its users "
    "get; `vibenet, middle 30 s` is its own resampling, mel and network on as much sound as TuneLab reads, found by "
    "seeking. AST takes the middle 30 s, after librosa.load of the whole file.\n"
    "AST: transformers' own, 12 blocks, in the shape of the published MAEST (96 mel, stride 10, 1685 tokens, fp32) "
    "with RANDOM weights: only its time means anything.\n"
    "Eager attention is how maest-infer computes it, and stands in for that here; sdpa is the default of transformers."
)
_PAUSE_S = 0.2
"""Between two runs: the thread pools of some libraries go on spinning for a while."""

Measure = Callable[[str], float]
"""Path -> milliseconds."""
Times = dict[tuple[str, str], list[float]]
"""(subject, path) -> milliseconds."""


@dataclass(frozen=True, slots=True)
class Track:
    """A file that is measured."""

    path: Path
    format: str
    duration_s: float

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def megabytes(self) -> str:
        """Size of the file in MB, for a table."""
        return f"{self.path.stat().st_size / 1e6:.1f}"


def probe(worker: Worker, paths: Iterable[Path]) -> list[Track]:
    """Look at the files, and make sure that :func:`~benchmarks.unique.unique_parts` does not change what is computed.

    Raises:
        WorkerError: a file cannot be analysed, or new bytes change it.
    """
    tracks = []
    for path in paths:
        found = worker.ask("probe", path=str(path))
        if not found["same_when_unique"]:
            raise WorkerError(f"{path.name}: a tag changes how it is decoded; leave it out")
        tracks.append(Track(path, found["format"], found["duration_s"]))
    return tracks


def judged(tracks: Sequence[Track]) -> list[Track]:
    """The tracks that the budgets speak of: the MP3s; all if there is none."""
    return [track for track in tracks if track.format == "MP3"] or list(tracks)


def take_turns(
    subjects: Mapping[str, Measure], tracks: Sequence[Track], repeats: int, pause_s: float = _PAUSE_S
) -> tuple[Times, dict[tuple[str, str], str]]:
    """Measure A B C A B C ... on each track, after one round that does not count.

    Returns:
        The times, and for each subject and path that failed the reason; it is not tried again.
    """
    times: Times = defaultdict(list)
    failed: dict[tuple[str, str], str] = {}
    for round_number in range(repeats + 1):
        for track in tracks:
            for name, measure in subjects.items():
                key = (name, str(track.path))
                if key in failed:
                    continue
                try:
                    value = measure(str(track.path))
                except WorkerError as error:
                    failed[key] = str(error)
                    continue
                if round_number:
                    times[key].append(value)
                time.sleep(pause_s)
        progress(f"in process: round {round_number} of {repeats}")
    return dict(times), failed


def pooled(times: Times, subject: str, tracks: Sequence[Track]) -> float | None:
    """Median of a subject over several tracks; ``None`` if it failed on one of them."""
    lists = [times.get((subject, str(track.path))) for track in tracks]
    if not lists or not all(lists):
        return None
    return statistics.median(value for values in lists if values for value in values)


def compare(report: Report, worker: Worker, peers: Worker | None, tracks: Sequence[Track], repeats: int) -> None:
    """TuneLab and the peers on the same files, in turns."""
    subjects: dict[str, Measure] = {TUNELAB: lambda path: float(worker.ask("analyze", path=path)["ms"])}
    if peers is not None:
        subjects |= {peer: partial(_ask_peer, peers, peer) for peer in PEERS}
    times, failed = take_turns(subjects, tracks, repeats)

    others = list(subjects)[1:]
    columns = ["file", "format", "MB", "s", TUNELAB, *(PEERS[name] for name in others)]
    columns += [f"{PEERS[name]} / {TUNELAB}" for name in others]
    rows = []
    for track in tracks:
        cells = [_cell(times.get((name, str(track.path)))) for name in subjects]
        ratios = [_ratio(times, name, [track]) for name in others]
        rows.append([track.name, track.format, track.megabytes, f"{track.duration_s:.0f}", *cells, *ratios])
    chosen = judged(tracks)
    medians = [pooled(times, name, chosen) for name in subjects]
    label = "all MP3" if any(track.format == "MP3" for track in tracks) else "all"
    cells = ["-" if value is None else f"{value:.0f}" for value in medians]
    rows.append([label, "", "", "", *cells, *(_ratio(times, name, chosen) for name in others)])

    ours = medians[0]
    if ours is not None:
        report.figure(budgets.ANALYZE, ours)
        for name, budget in _BUDGETS.items():
            theirs = pooled(times, name, chosen)
            if theirs is not None:
                report.figure(budget, theirs / ours)
    hello = worker.ask("hello")
    computes = [f"{TUNELAB}: {hello['engine']}, {hello['threads']} threads"]
    if peers is not None:
        computes += [f"{PEERS[name]}: {_about_peer(peers, name)}" for name in others]
    report.section(
        f"File -> scores in process, warm: ms, median (min .. max) of {repeats}, in turns in one run",
        columns,
        rows,
        "Precision and threads: " + "; ".join(computes) + ".",
        *([_ABOUT_PEERS] if others else []),
        "\n".join(report.verdict(budget) for budget in (budgets.ANALYZE, budgets.VIBENET, budgets.MAEST)),
        *(f"Failed: {PEERS.get(name, name)} on {Path(path).name}: {why}" for (name, path), why in failed.items()),
    )


def stages(report: Report, worker: Worker, tracks: Sequence[Track], repeats: int) -> None:
    """Each stage alone."""
    rows = []
    names: list[str] = []
    for track in tracks:
        worker.ask("stages", path=str(track.path))
        runs = [worker.ask("stages", path=str(track.path)) for _ in range(repeats)]
        names = list(runs[0])
        rows.append([track.name, *(str(Summary.of([run[name] for run in runs])) for name in names)])
    report.section(f"Stages: ms, median (min .. max) of {repeats}", ["file", *names], rows)


def _ask_peer(peers: Worker, peer: str, path: str) -> float:
    return float(peers.ask("analyze", peer=peer, path=path)["ms"])


def _about_peer(peers: Worker, peer: str) -> str:
    try:
        return str(peers.ask("about", peer=peer)["about"])
    except WorkerError:
        return "could not be loaded"


def _cell(values: list[float] | None) -> str:
    return str(Summary.of(values)) if values else "failed"


def _ratio(times: Times, other: str, tracks: Sequence[Track]) -> str:
    ours, theirs = pooled(times, TUNELAB, tracks), pooled(times, other, tracks)
    return "-" if ours is None or theirs is None else f"{theirs / ours:.1f}"
