"""TuneLab: six mood scores and an embedding for any track, on your own machine.

>>> import tunelab
>>> analyzer = tunelab.load()
>>> analyzer.analyze("track.mp3").percent()
{'energy': 82, 'danceability': 77, 'happiness': 64, 'acousticness': 12, 'instrumentalness': 4, 'speechiness': 3}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunelab.errors import AudioError, BundleError, PipelineError, TuneLabError
from tunelab.types import EMBEDDING_SIZE, HEADS, Analysis

if TYPE_CHECKING:
    from tunelab.analyzer import Analyzer, load

__version__ = "0.1.0"

__all__ = [
    "EMBEDDING_SIZE",
    "HEADS",
    "Analysis",
    "Analyzer",
    "AudioError",
    "BundleError",
    "PipelineError",
    "TuneLabError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    # The analyser brings in OpenVINO and librosa; `tunelab accounts list` should not wait for them.
    if name in ("Analyzer", "load"):
        from tunelab import analyzer

        return getattr(analyzer, name)
    raise AttributeError(f"module 'tunelab' has no attribute {name!r}")
