"""Third stage: an embedding -> the scores, columns -> a timeline. All heads live in this one light deployment."""

from __future__ import annotations

import asyncio

import numpy as np

from deployments.revision import check_revision
from tunelab.encoder.bundle import find_bundle
from tunelab.encoder.columns import column_grid
from tunelab.heads import load_heads
from tunelab.timeline import Plan, make_plan, make_timeline
from tunelab.types import Analysis, Columns, Embedded, Timeline, TrackFeatures


class HeadsStage:
    """Reads the scores of a bundle from its embeddings.

    Args:
        bundle: name or path.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = find_bundle(bundle)
        self._model, self._revision = self._bundle.name, self._bundle.revision
        self._score = load_heads(self._bundle)

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

    async def plan(self, track: TrackFeatures) -> Plan:
        """Say which windows of a track the encoder has to see: what the pipeline needs to know of them.

        Raises:
            TimelineUnsupported: the bundle's embeddings have no course over time.
            SilentAudio: there is no sound.
            PipelineUnavailable: another bundle's front end computed it.
        """
        check_revision(track.outline.revision, self._revision)
        return make_plan(track.outline, self._bundle.mel.window_s, column_grid(self._bundle))

    async def received(self, encoded: Embedded | Columns) -> bool:
        """Tell the pipeline that a window was encoded, so that it can wait for this without taking the arrays itself.

        Raises:
            PipelineUnavailable: another bundle's encoder computed it.
        """
        check_revision(encoded.revision, self._revision)
        return True

    async def timeline(self, plan: Plan, step_s: float, level: Embedded, *columns: Columns) -> Timeline:
        """Put a timeline together.

        Args:
            plan: of the track.
            step_s: length of a segment in seconds.
            level: the embedding of window ``plan.level``.
            columns: of the windows ``plan.windows``, in this order.
        """
        windows = {number: each.embeddings for number, each in zip(plan.windows, columns, strict=True)}
        # On a thread: of a long track it takes tenths of a second.
        return await asyncio.to_thread(
            make_timeline,
            plan,
            windows,
            level.embedding,
            self._score,
            step_s=step_s,
            model=self._model,
            revision=self._revision,
        )

    async def ping(self) -> bool:
        """Whether this stage answers."""
        return True
