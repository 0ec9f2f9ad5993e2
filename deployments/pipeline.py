"""The graph's handles behind the :class:`~tunelab.types.Pipeline` protocol that the service depends on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.revision import check_revision
from tunelab.errors import EngineError, PipelineFailed, PipelineOverloaded, PipelineUnavailable, TuneLabError
from tunelab.service.tracing import logger
from tunelab.timeline import Plan
from tunelab.types import Analysis, Timeline

_LOST = (
    RayActorError,
    OutOfMemoryError,  # Ray's memory monitor killed it
    ObjectLostError,
    WorkerCrashedError,
    NodeDiedError,
    LocalRayletDiedError,
    RaySystemError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
)
"""What a request meets whose replica died."""
_TRIES = 3
"""Not more: a file that kills a decoder kills one with each try."""
_PAUSE_S = 0.25
_TIMELINES = 2
"""In progress at once in this process: each keeps up to 50 MB of windows and columns in the object store."""
_WINDOWS = 2
"""Of timelines, on their way to the encoder at once: a single analysis waits for these at most."""
_PROVEN_S = 5.0
"""For so long after an answer nobody needs to ask whether the stages are up."""
_ASKED_S = 1.0
"""For so long the stages' answer is not asked for again."""

T = TypeVar("T")


class GraphPipeline:
    """Bytes -> :class:`Analysis` or :class:`Timeline` through the stages' handles.

    Responses are passed on unresolved: windows go from the decoder's replica straight to the encoder's through the
    object store, and only the answer of the last stage comes back here.

    A timeline's windows wait in the same queue as those of analyses, a few at a time, and its file is decoded while
    that of no other timeline is: single analyses go on being answered.

    Args:
        model: name of the bundle that answers.
        revision: its revision; answers of another one are refused.
        mel_extractor: handle of the first stage.
        encoder: handle of the second.
        heads: handle of the third.
    """

    def __init__(
        self,
        model: str,
        revision: str,
        mel_extractor: DeploymentHandle,
        encoder: DeploymentHandle,
        heads: DeploymentHandle,
    ) -> None:
        self.model, self.revision = model, revision
        self._mel_extractor = mel_extractor
        self._encoder = encoder
        self._heads = heads
        self._timelines = asyncio.Semaphore(_TIMELINES)
        self._decoding = asyncio.Semaphore(1)
        self._windows = asyncio.Semaphore(_WINDOWS)
        self._answered = -_PROVEN_S
        self._asked: tuple[float, asyncio.Task[bool]] | None = None

    async def analyze(self, data: bytes) -> Analysis:
        """Analyse one file. A request whose replica dies is sent again: it changed nothing.

        Raises:
            AudioError: the file is at fault.
            PipelineOverloaded: the queue of a stage is full.
            PipelineUnavailable: replicas died again and again or are being replaced, or the engine failed.
            PipelineFailed: a stage has a fault.
        """
        analysis = await self._sent_again(partial(self._once, data))
        check_revision(analysis.revision, self.revision)
        self._answered = time.monotonic()
        return analysis

    async def timeline(self, data: bytes, step_s: float, max_s: float) -> Timeline:
        """Score one file along its length. What was lost with a replica is sent again, window by window.

        Raises:
            TimelineUnsupported: the bundle's embeddings have no course over time.
            AudioError: the file is at fault.
            PipelineOverloaded: the queue of the first stage is full. Later, it is waited.
            PipelineUnavailable: replicas died again and again or are being replaced, or the engine failed.
            PipelineFailed: a stage has a fault.
        """
        async with self._timelines:
            async with self._decoding:
                track, plan = await self._sent_again(partial(self._track, data, max_s))
            stage = self._encoder
            calls = [partial(stage.embed_window.remote, track, plan.level)]
            calls += [partial(stage.columns_of_window.remote, track, number) for number in plan.windows]
            tasks = [
                asyncio.create_task(self._sent_again(partial(self._encoded, call), patient=True)) for call in calls
            ]
            try:
                level, *columns = await asyncio.gather(*tasks)
            finally:
                for task in tasks:  # after the first failure nobody needs the others
                    task.cancel()
            timeline = await self._sent_again(partial(self._assembled, plan, step_s, level, *columns), patient=True)
        check_revision(timeline.revision, self.revision)
        self._answered = time.monotonic()
        return timeline

    async def _sent_again(self, once: Callable[[], Awaitable[T]], *, patient: bool = False) -> T:
        """What ``once`` gives; if a replica died, it is called again. ``patient``: also if a queue is full."""
        attempt = 1
        while True:
            try:
                return await once()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                # A stage's own errors, too: at the caller they are Ray's as well, and an engine's is not for clients.
                failure = translate(error)
                if patient and isinstance(failure, PipelineOverloaded):
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if failure is not None:
                    raise failure from None
                if attempt == _TRIES:
                    logger.error("gave up after %d tries: %s", attempt, type(error).__name__)
                    raise PipelineUnavailable("a part of the service is restarting; try again") from None
                logger.warning("a replica died, the request is sent again: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE_S * attempt)
            attempt += 1

    async def _track(self, data: bytes, max_s: float) -> tuple[DeploymentResponse, Plan]:
        sent: list[DeploymentResponse] = []
        try:
            sent.append(self._mel_extractor.track.remote(data, max_s))
            sent.append(self._heads.plan.remote(sent[-1]))
            return sent[0], await sent[1]
        except BaseException:
            _cancel(sent)
            raise

    async def _encoded(self, call: Callable[[], DeploymentResponse]) -> DeploymentResponse:
        async with self._windows:
            sent: list[DeploymentResponse] = []
            try:
                sent.append(call())
                sent.append(self._heads.received.remote(sent[-1]))
                await sent[1]
                return sent[0]
            except BaseException:
                _cancel(sent)
                raise

    async def _assembled(
        self, plan: Plan, step_s: float, level: DeploymentResponse, *columns: DeploymentResponse
    ) -> Timeline:
        response = self._heads.timeline.remote(plan, step_s, level, *columns)
        try:
            timeline: Timeline = await response
            return timeline
        except BaseException:
            response.cancel()
            raise

    async def _once(self, data: bytes) -> Analysis:
        sent: list[DeploymentResponse] = []
        try:
            sent.append(self._mel_extractor.remote(data))
            sent.append(self._encoder.remote(sent[-1]))
            sent.append(self._heads.remote(sent[-1]))
            analysis: Analysis = await sent[-1]
            return analysis
        except BaseException:
            # The client went away, or a later stage refused: nobody needs what the earlier ones still work on.
            _cancel(sent)
            raise

    async def ready(self) -> bool:
        """Whether a request sent now would be answered: one just was, or every stage answers.

        The stages are asked through the queues of the customers' requests, so however many want to know, they are asked
        once a second at most.
        """
        now = time.monotonic()
        if now - self._answered < _PROVEN_S:
            return True
        if self._asked is None or now - self._asked[0] > _ASKED_S:
            if self._asked is not None and not self._asked[1].done():
                self._asked[1].cancel()
            self._asked = (now, asyncio.create_task(self._ask()))
        while True:
            asked = self._asked[1]
            try:
                # Whoever stops waiting must not end it for the others.
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not asked.cancelled() or (task and task.cancelling()):
                    raise
                # It was given up for a newer one.
                if time.monotonic() - now > _ASKED_S:
                    return False

    async def _ask(self) -> bool:
        stages = (self._mel_extractor, self._encoder, self._heads)
        answers = await asyncio.gather(*(self._ping(stage) for stage in stages), return_exceptions=True)
        return all(answer is True for answer in answers)

    async def _ping(self, stage: DeploymentHandle) -> bool:
        answer: bool = await stage.ping.remote()
        return answer


def _cancel(sent: list[DeploymentResponse]) -> None:
    for response in sent:
        response.cancel()


def translate(error: Exception) -> TuneLabError | None:
    """What a failed call means to the service; ``None``: a replica died and the call may be sent again.

    Errors that crossed replicas come wrapped, each hop once, and a stage whose input was lost says so in an error of
    Serve's own, with the loss as its cause: what counts is the innermost one.
    """
    cause: BaseException = error
    while (inner := _inner(cause)) is not None:
        cause = inner
    if isinstance(cause, EngineError):
        return PipelineUnavailable("the encoder failed; try again")
    if isinstance(cause, TuneLabError):
        return cause
    if isinstance(cause, BackPressureError):
        return PipelineOverloaded("every place in the queue is taken; try again in a moment")
    if isinstance(cause, _LOST):
        return None
    logger.error("a stage failed unexpectedly: %s", type(cause).__name__, exc_info=error)
    return PipelineFailed("the pipeline failed")


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(error, RayTaskError):
        cause: object = error.cause
        return cause if isinstance(cause, BaseException) and cause is not error else None
    if isinstance(error, RayServeException) and not isinstance(error, (BackPressureError, *_LOST)):
        cause = error.__cause__
        return cause if isinstance(cause, BaseException) else None
    return None
