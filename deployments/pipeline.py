"""The graph's handles behind the :class:`~tunelab.types.Pipeline` protocol that the service depends on."""

from __future__ import annotations

import asyncio
import logging

from ray.exceptions import ObjectLostError, RayActorError, RaySystemError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from tunelab.errors import EngineError, PipelineError, PipelineOverloaded, PipelineUnavailable, TuneLabError
from tunelab.types import Analysis

logger = logging.getLogger("ray.serve")

_LOST = (
    RayActorError,
    ObjectLostError,
    WorkerCrashedError,
    RaySystemError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
)
"""What a request meets whose replica died."""
_TRIES = 4
_PAUSE_S = 0.25


class GraphPipeline:
    """Bytes -> :class:`Analysis` through the stages' handles.

    Responses are passed on unresolved: the window goes from the decoder's replica straight to the encoder's through
    the object store, and only the answer of the last stage comes back here.

    Args:
        model: name of the bundle that answers.
        mel_extractor: handle of the first stage.
        encoder: handle of the second.
        heads: handle of the third.
    """

    def __init__(
        self, model: str, mel_extractor: DeploymentHandle, encoder: DeploymentHandle, heads: DeploymentHandle
    ) -> None:
        self.model = model
        self._mel_extractor = mel_extractor
        self._encoder = encoder
        self._heads = heads

    async def analyze(self, data: bytes) -> Analysis:
        """Analyse one file. A request whose replica dies is sent again: it changed nothing.

        Raises:
            AudioError: the file is at fault.
            PipelineOverloaded: the queue of a stage is full.
            PipelineUnavailable: replicas died again and again, or the engine failed.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._once(data)
            except (TuneLabError, asyncio.CancelledError):
                raise
            except Exception as error:
                failure = translate(error)
                if failure is not None:
                    raise failure from None
                if attempt == _TRIES:
                    logger.error("gave up after %d tries: %s", attempt, type(error).__name__)
                    raise PipelineUnavailable("a part of the service is restarting; try again") from None
                logger.warning("a replica died, the request is sent again: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE_S * attempt)
        raise AssertionError("unreachable")

    async def _once(self, data: bytes) -> Analysis:
        sent: list[DeploymentResponse] = []
        try:
            sent.append(self._mel_extractor.remote(data))
            sent.append(self._encoder.remote(sent[-1]))
            sent.append(self._heads.remote(sent[-1]))
            analysis: Analysis = await sent[-1]
            return analysis
        except asyncio.CancelledError:
            for response in sent:
                response.cancel()
            raise

    async def ready(self) -> bool:
        """Whether every stage has a replica that answers now."""
        stages = (self._mel_extractor, self._encoder, self._heads)
        answers = await asyncio.gather(*(self._ping(stage) for stage in stages), return_exceptions=True)
        return all(answer is True for answer in answers)

    async def _ping(self, stage: DeploymentHandle) -> bool:
        answer: bool = await stage.ping.remote()
        return answer


def translate(error: Exception) -> TuneLabError | None:
    """What a failed call means to the service; ``None``: a replica died and the call may be sent again.

    Errors that crossed replicas come wrapped, each hop once: what counts is the innermost cause.
    """
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException) and cause.cause is not cause:
        cause = cause.cause
    if isinstance(cause, EngineError):
        return PipelineUnavailable("the encoder failed; try again")
    if isinstance(cause, TuneLabError):
        return cause
    if isinstance(cause, BackPressureError):
        return PipelineOverloaded("every place in the queue is taken; try again in a moment")
    if isinstance(cause, _LOST):
        return None
    logger.error("a stage failed unexpectedly: %s", type(cause).__name__, exc_info=error)
    return PipelineError("the pipeline failed")
