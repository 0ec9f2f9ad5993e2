"""While a bundle is replaced, old and new replicas run side by side: they must not work on the same track."""

from __future__ import annotations

from tunelab.errors import PipelineUnavailable


def check_revision(theirs: str, ours: str) -> None:
    """Refuse what another bundle computed.

    Raises:
        PipelineUnavailable: the revisions differ.
    """
    if theirs != ours:
        raise PipelineUnavailable("the model is being replaced; try again")
