"""The pipeline on fake handles: what it makes of failures, and that it sends again only what may be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments import pipeline as module
from deployments.pipeline import GraphPipeline, translate
from tunelab.errors import (
    CorruptAudio,
    EngineError,
    PipelineFailed,
    PipelineOverloaded,
    PipelineUnavailable,
    TimelineUnsupported,
    TuneLabError,
)
from tunelab.timeline import Plan
from tunelab.types import Analysis, Timeline

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

    def __init__(self, *outcomes: Any, **methods: Any) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Response] = []
        self.ping = self
        for name, answers in methods.items():
            setattr(self, name, Handle(*answers) if isinstance(answers, list) else answers)

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


@pytest.mark.parametrize(
    "make",
    [died, lambda: OutOfMemoryError("the node is low on memory"), lambda: NodeDiedError("unreachable")],
)
def test_a_lost_replica_is_no_verdict_on_the_file(make: Callable[[], Exception]) -> None:
    assert translate(make()) is None
    assert translate(wrapped(make())) is None
    assert translate(upstream(make())) is None
    assert translate(wrapped(upstream(make()))) is None


def test_a_request_whose_replica_died_is_sent_again() -> None:
    pipeline, first, last = graph(upstream(died()), wrapped(died()), ANSWER)
    assert asyncio.run(pipeline.analyze(b"song")) is ANSWER
    assert len(first.sent) == len(last.sent) == 3


def test_it_gives_up_when_replicas_die_again_and_again() -> None:
    pipeline, first, _ = graph(died())
    with pytest.raises(PipelineUnavailable):
        asyncio.run(pipeline.analyze(b"song"))
    assert len(first.sent) == module._TRIES


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: wrapped(CorruptAudio("broken")), CorruptAudio),
        (lambda: CorruptAudio("broken"), CorruptAudio),
        (lambda: wrapped(EngineError("secret detail")), PipelineUnavailable),
        (lambda: EngineError("secret detail"), PipelineUnavailable),
        (lambda: wrapped(ValueError("a bug")), PipelineFailed),
        (lambda: BackPressureError(1, 1), PipelineOverloaded),
    ],
)
def test_other_failures_are_not_sent_again(make: Callable[[], Exception], expected: type[TuneLabError]) -> None:
    pipeline, first, _ = graph(make())
    with pytest.raises(TuneLabError) as caught:
        asyncio.run(pipeline.analyze(b"song"))
    # Itself, and not as Ray has it: what is told to clients depends on it.
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)
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


def test_whoever_waits_for_a_question_that_is_given_up_hears_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ASKED_S", 0.05)

    async def scenario() -> None:
        handles = [Handle("never") for _ in range(3)]
        pipeline = GraphPipeline("fake", "", *handles)  # type: ignore[arg-type]
        first = asyncio.create_task(pipeline.ready())
        await asyncio.sleep(0.03)
        joined = asyncio.create_task(pipeline.ready())
        await asyncio.sleep(0.03)
        second = asyncio.create_task(pipeline.ready())
        assert await asyncio.wait_for(first, 1) is False
        # Who asked a moment ago waits for the newer question.
        assert not joined.done()
        joined.cancel()
        # Who goes away by itself is not told anything.
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(scenario())


def test_after_an_answer_nobody_asks() -> None:
    async def scenario() -> None:
        first, last = Handle(None), Handle(ANSWER)
        pipeline = GraphPipeline("fake", "", first, Handle(None), last)  # type: ignore[arg-type]
        await pipeline.analyze(b"song")
        last.outcomes = [BackPressureError(1, 1)]
        assert await pipeline.ready()

    asyncio.run(scenario())


class Encoding:
    """A method of the encoder that takes its time, and knows how many are on their way at once."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.windows: list[int] = []
        self.running = self.most = 0

    def remote(self, track: Any, number: int) -> Any:
        self.windows.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        return Response(self.failures.pop(0) if self.failures else number)


class Received:
    """Of the heads: waits for what was encoded."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding

    def remote(self, encoded: Response) -> Any:
        async def wait() -> bool:
            await asyncio.sleep(0.001)
            self.encoding.running -= 1
            if isinstance(encoded.outcome, Exception):
                raise upstream(encoded.outcome)
            return True

        response = Response(None)
        response.__class__ = type("Waiting", (Response,), {"__await__": lambda self: wait().__await__()})
        return response


PLAN = Plan((), (0, 1, 3), 1, 120.0, np.zeros(0, bool))
TIMELINE = Timeline((0.0,), (120.0,), {"energy": (0.5,)}, (), {"energy": 0.5}, 5.0, 120.0, "fake")


def timelines(*failures: Exception, **methods: Any) -> tuple[GraphPipeline, Handle, Encoding, Handle]:
    encoding = Encoding(*failures)
    first = Handle(None, track=methods.get("track", ["track"]))
    encoder = Handle(None, embed_window=encoding, columns_of_window=encoding)
    heads = Handle(
        ANSWER,
        plan=methods.get("plan", [PLAN]),
        received=Received(encoding),
        timeline=methods.get("timeline", [TIMELINE]),
    )
    return GraphPipeline("fake", "", first, encoder, heads), first, encoding, heads  # type: ignore[arg-type]


def test_a_timeline_asks_for_its_windows_a_few_at_a_time() -> None:
    pipeline, first, encoding, heads = timelines()

    async def scenario() -> None:
        both = await asyncio.gather(*(pipeline.timeline(b"song", 5.0, 600.0) for _ in range(5)))
        assert both == [TIMELINE] * 5

    asyncio.run(scenario())
    # Each window of the plan, and that of the level once more.
    assert sorted(encoding.windows) == sorted(5 * [1, 0, 1, 3])
    assert encoding.most == module._WINDOWS
    assert len(first.track.sent) == len(heads.timeline.sent) == 5  # type: ignore[attr-defined]


def test_analyses_do_not_wait_for_timelines() -> None:
    pipeline, *_ = timelines(track=["never"])

    async def scenario() -> None:
        waiting = [asyncio.create_task(pipeline.timeline(b"song", 5.0, 600.0)) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert await pipeline.analyze(b"song") is ANSWER
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_only_the_window_that_was_lost_is_sent_again() -> None:
    pipeline, first, encoding, _ = timelines(died(), wrapped(died()))
    assert asyncio.run(pipeline.timeline(b"song", 5.0, 600.0)) is TIMELINE
    assert len(encoding.windows) == 4 + 2
    assert len(first.track.sent) == 1  # type: ignore[attr-defined]


def test_a_timeline_waits_for_a_place_in_the_encoders_queue() -> None:
    pipeline, _, encoding, _ = timelines(*[BackPressureError(1, 1) for _ in range(10)])
    assert asyncio.run(pipeline.timeline(b"song", 5.0, 600.0)) is TIMELINE
    assert len(encoding.windows) == 4 + 10


def test_but_not_for_one_in_the_decoders() -> None:
    pipeline, first, *_ = timelines(plan=[upstream(BackPressureError(1, 1))])
    with pytest.raises(PipelineOverloaded):
        asyncio.run(pipeline.timeline(b"song", 5.0, 600.0))
    assert first.track.sent[0].cancelled  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ({"plan": [wrapped(CorruptAudio("broken"))]}, CorruptAudio),
        ({"plan": [wrapped(TimelineUnsupported("no patches"))]}, TimelineUnsupported),
        ({"plan": [wrapped(EngineError("broken"))]}, PipelineUnavailable),
        ({"plan": [died()]}, PipelineUnavailable),
        ({"timeline": [wrapped(EngineError("broken"))]}, PipelineUnavailable),
        ({"timeline": [wrapped(ValueError("a bug"))]}, PipelineFailed),
        ({"timeline": [died()]}, PipelineUnavailable),
        ({"timeline": [replace(TIMELINE, revision="newer")]}, PipelineUnavailable),
    ],
)
def test_failures_of_a_timeline(methods: dict[str, Any], expected: type[TuneLabError]) -> None:
    pipeline, *_ = timelines(**methods)
    with pytest.raises(TuneLabError) as caught:
        asyncio.run(pipeline.timeline(b"song", 5.0, 600.0))
    assert type(caught.value) is expected


@pytest.mark.parametrize("error", [EngineError("broken"), wrapped(EngineError("broken"))])
def test_a_window_that_fails_ends_the_others_and_frees_the_places(error: Exception) -> None:
    async def scenario() -> None:
        pipeline, _, encoding, _ = timelines(error)
        with pytest.raises(PipelineUnavailable):
            await pipeline.timeline(b"song", 5.0, 600.0)
        encoding.running = 0
        assert await asyncio.wait_for(pipeline.timeline(b"song", 5.0, 600.0), 5) is TIMELINE

    asyncio.run(scenario())


def test_a_client_that_leaves_a_timeline_cancels_its_windows() -> None:
    async def scenario() -> None:
        pipeline, *_ = timelines()
        sent: list[Response] = []

        def remote(track: Any, number: int) -> Response:
            sent.append(Response("never"))
            return sent[-1]

        pipeline._heads.received.remote = lambda encoded: Response("never")
        for name in ("embed_window", "columns_of_window"):
            getattr(pipeline._encoder, name).remote = remote
        task = asyncio.create_task(pipeline.timeline(b"song", 5.0, 600.0))
        await asyncio.sleep(0.01)
        assert len(sent) == module._WINDOWS
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert all(response.cancelled for response in sent)
        assert pipeline._windows._value == module._WINDOWS
        assert pipeline._timelines._value == module._TIMELINES

    asyncio.run(scenario())
