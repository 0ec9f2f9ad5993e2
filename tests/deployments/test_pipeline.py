"""The pipeline on fake handles: what it makes of failures, and that it sends again only what may be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments import pipeline as module
from deployments.pipeline import GraphPipeline, translate
from tunelab.errors import (
    CorruptAudio,
    EngineError,
    PipelineFailed,
    PipelineOverloaded,
    PipelineUnavailable,
    TuneLabError,
)
from tunelab.types import Analysis

ANSWER = Analysis({"energy": 0.5}, np.zeros(768, np.float32), 30.0, "fake")


class Response:
    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.cancelled = False

    def __await__(self) -> Iterator[Any]:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        if self.outcome == "never":
            yield from asyncio.get_running_loop().create_future().__await__()
        return self.outcome

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Answers with one outcome after the other; the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Response] = []
        self.ping = self

    def remote(self, *arguments: Any) -> Response:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        self.sent.append(Response(outcome))
        return self.sent[-1]


def graph(*outcomes: Any) -> tuple[GraphPipeline, Handle, Handle]:
    first, last = Handle(None), Handle(*outcomes)
    return GraphPipeline("fake", "", first, Handle(None), last), first, last  # type: ignore[arg-type]


def wrapped(error: Exception) -> Exception:
    """As Ray raises an error of a replica at the caller: a class that is both RayTaskError and the cause's."""
    return RayTaskError("f", "traceback", error).as_instanceof_cause()  # type: ignore[no-any-return]


def upstream(error: Exception) -> Exception:
    """As Serve raises it when the replica died that an input was to come from."""
    wrapping = RayServeException("an upstream actor died")
    wrapping.__cause__ = error
    return wrapping


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)


def died() -> Exception:
    return ActorDiedError()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wrapped(CorruptAudio("broken")), CorruptAudio),
        (wrapped(wrapped(CorruptAudio("broken"))), CorruptAudio),
        (CorruptAudio("broken"), CorruptAudio),
        (BackPressureError(1, 1), PipelineOverloaded),
        (wrapped(BackPressureError(1, 1)), PipelineOverloaded),
        (wrapped(EngineError("secret detail")), PipelineUnavailable),
        (wrapped(ValueError("a bug")), PipelineFailed),
        (upstream(CorruptAudio("broken")), CorruptAudio),
        (RayServeException("something of its own"), PipelineFailed),
    ],
)
def test_what_failures_mean(error: Exception, expected: type[TuneLabError]) -> None:
    meant = translate(error)
    assert type(meant) is expected
    assert not isinstance(meant, RayTaskError)
    assert "secret" not in str(meant)
    assert "bug" not in str(meant)


def test_a_lost_replica_is_no_verdict_on_the_file() -> None:
    assert translate(died()) is None
    assert translate(wrapped(died())) is None
    assert translate(upstream(died())) is None
    assert translate(wrapped(upstream(died()))) is None


def test_a_request_whose_replica_died_is_sent_again() -> None:
    pipeline, first, last = graph(upstream(died()), wrapped(died()), ANSWER)
    assert asyncio.run(pipeline.analyze(b"song")) is ANSWER
    assert len(first.sent) == len(last.sent) == 3


def test_it_gives_up_when_replicas_die_again_and_again() -> None:
    pipeline, first, _ = graph(died())
    with pytest.raises(PipelineUnavailable):
        asyncio.run(pipeline.analyze(b"song"))
    assert len(first.sent) == module._TRIES


@pytest.mark.parametrize("make", [lambda: wrapped(CorruptAudio("broken")), lambda: BackPressureError(1, 1)])
def test_other_failures_are_not_sent_again(make: Callable[[], Exception]) -> None:
    pipeline, first, _ = graph(make())
    with pytest.raises(TuneLabError):
        asyncio.run(pipeline.analyze(b"song"))
    assert len(first.sent) == 1


def test_a_client_that_goes_away_cancels_every_stage() -> None:
    pipeline, first, last = graph("never")

    async def scenario() -> None:
        task = asyncio.create_task(pipeline.analyze(b"song"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert first.sent[0].cancelled
    assert last.sent[0].cancelled


def test_ready_means_every_stage_answers() -> None:
    def ready(*pings: Any) -> bool:
        handles = [Handle(ping) for ping in pings]
        return asyncio.run(GraphPipeline("fake", "", *handles).ready())  # type: ignore[arg-type]

    assert ready(True, True, True)
    assert not ready(True, died(), True)
    assert not ready(True, BackPressureError(1, 1), True)


def test_a_refusal_of_a_later_stage_cancels_the_earlier_ones() -> None:
    pipeline, first, _ = graph(BackPressureError(1, 1))
    with pytest.raises(PipelineOverloaded):
        asyncio.run(pipeline.analyze(b"song"))
    assert first.sent[0].cancelled


def test_an_answer_of_another_revision_is_refused() -> None:
    pipeline, _, _ = graph(replace(ANSWER, revision="newer"))
    with pytest.raises(PipelineUnavailable):
        asyncio.run(pipeline.analyze(b"song"))


def test_however_many_ask_the_stages_are_asked_once() -> None:
    async def scenario() -> None:
        handles = [Handle(True) for _ in range(3)]
        pipeline = GraphPipeline("fake", "", *handles)  # type: ignore[arg-type]
        assert await asyncio.gather(*(pipeline.ready() for _ in range(50))) == [True] * 50
        assert [len(handle.sent) for handle in handles] == [1, 1, 1]

    asyncio.run(scenario())


def test_after_an_answer_nobody_asks() -> None:
    async def scenario() -> None:
        first, last = Handle(None), Handle(ANSWER)
        pipeline = GraphPipeline("fake", "", first, Handle(None), last)  # type: ignore[arg-type]
        await pipeline.analyze(b"song")
        last.outcomes = [BackPressureError(1, 1)]
        assert await pipeline.ready()

    asyncio.run(scenario())
