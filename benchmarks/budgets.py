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
        distance = f"{100 * abs(value - self.bound) / self.bound:.0f} %"
        return f"met, {distance} to spare" if self.met_by(value) else f"MISSED by {distance}"


ANALYZE = Budget("file -> scores in process, MP3, warm, median", 150, "ms")
VIBENET = Budget("vibenet's predict / TuneLab, MP3", 4, "x", at_most=False)
MAEST = Budget("librosa.load + 12 blocks, eager attention / TuneLab, MP3", 20, "x", at_most=False)
HTTP = Budget("the same over HTTP through the graph, one client, difference", 40, "ms")
THROUGHPUT = Budget("8 clients through the graph / two in-process workers", 0.85, "x", at_most=False)
START = Budget("start to the first scored answer, model cache warm", 60, "s")
MEMORY = Budget("memory of the running service under load, PSS", 4.0, "GB")

ALL = (ANALYZE, VIBENET, MAEST, HTTP, THROUGHPUT, START, MEMORY)
