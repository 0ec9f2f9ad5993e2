"""Third stage: an embedding -> the scores. All heads live in this one light deployment."""

from __future__ import annotations

import numpy as np

from deployments.revision import check_revision
from tunelab.encoder.bundle import find_bundle
from tunelab.heads import load_heads
from tunelab.types import Analysis, Embedded


class HeadsStage:
    """Reads the scores of a bundle from its embeddings.

    Args:
        bundle: name or path.
    """

    def __init__(self, bundle: str) -> None:
        opened = find_bundle(bundle)
        self._model, self._revision = opened.name, opened.revision
        self._score = load_heads(opened)

    async def __call__(self, embedded: Embedded) -> Analysis:
        """Score one embedding; half a millisecond, so it runs on the event loop.

        Raises:
            PipelineUnavailable: another bundle's encoder computed it.
        """
        check_revision(embedded.revision, self._revision)
        return Analysis(
            scores=self._score(embedded.embedding),
            embedding=np.asarray(embedded.embedding),
            duration_s=embedded.duration_s,
            model=self._model,
            revision=self._revision,
        )

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True
