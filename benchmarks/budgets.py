"""What the design promises, and whether a figure keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound.

    Attributes:
        what: is measured.
        bound: inclusive.
        unit: of bound and figure.
        at_most: whether the figure must stay below the bound, or above it.
    """

    what: str
    bound: float
    unit: str
    at_most: bool = True

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g} {self.unit}"

    def met_by(self, value: float) -> bool:
        """Whether a figure keeps the bound."""
        return value <= self.bound if self.at_most else value >= self.bound

    def verdict(self, value: float | None) -> str:
        """``met`` or ``MISSED``, and by how much of the bound; ``not measured`` for ``None``."""
        if value is None:
            return "not measured"
        if self.at_most and value < 0:
            # A difference below zero is noise, and no margin.
            return "met, nothing to measure above the noise"
        distance = f"{100 * abs(value - self.bound) / self.bound:.0f} %"
        return f"met, {distance} to spare" if self.met_by(value) else f"MISSED by {distance}"


ANALYZE = Budget("file -> scores in process, MP3, warm, median", 150, "ms")
VIBENET = Budget("vibenet predict (whole track) / TuneLab (middle 30 s), MP3", 4, "x", at_most=False)
MAEST = Budget("librosa.load + AST of 12 blocks, eager attention / TuneLab, MP3", 20, "x", at_most=False)
HTTP = Budget("the same over HTTP through the graph, one client, difference", 40, "ms")
THROUGHPUT = Budget("8 clients through the graph / in-process workers, one a core", 0.85, "x", at_most=False)
START = Budget("first start (empty data folder, model cache cold) to the first scored answer", 60, "s")
MEMORY = Budget("memory of the running service under load, PSS", 4.0, "GB")
BATCH = Budget("batch job, once it runs / the same files in one process", 0.90, "x", at_most=False)

ALL = (ANALYZE, VIBENET, MAEST, HTTP, THROUGHPUT, START, MEMORY, BATCH)
