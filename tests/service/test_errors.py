"""Every status, its code and its form; and that nothing of the inside gets out."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.nodes import ROOT
from tests.service.support import Api
from tunelab import errors
from tunelab.service import accounts
from tunelab.service import errors as service_errors
from tunelab.service.problems import problem_for, status_of
from tunelab.service.tables import Track

SECRET = "/srv/secret/place.py"


def subclasses(parent: type) -> list[type]:
    return [kind for child in parent.__subclasses__() for kind in (child, *subclasses(child))]


def failing(error: Exception) -> Any:
    async def behave(data: bytes) -> None:
        raise error

    return behave


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.EmptyAudio, 422),
        (errors.AudioTooLarge, 413),
        (service_errors.BodyTooLarge, 413),
        (errors.UnsupportedAudio, 422),
        (errors.NoAudioStream, 422),
        (errors.ProtectedAudio, 422),
        (errors.CorruptAudio, 422),
        (errors.ImplausibleAudio, 422),
        (errors.AudioTooShort, 422),
        (errors.AudioTooLong, 422),
        (errors.SilentAudio, 422),
        (errors.DecodeTimeout, 422),
        (errors.PipelineOverloaded, 503),
        (errors.PipelineTimeout, 408),
        (errors.PipelineUnavailable, 503),
        (errors.EngineError, 500),
        (errors.BundleInvalid, 500),
        (service_errors.Unauthorized, 401),
        (service_errors.InsufficientCredits, 402),
        (service_errors.TierRequired, 403),
        (service_errors.AccountDisabled, 403),
        (service_errors.NotFound, 404),
        (service_errors.UploadTimeout, 408),
        (service_errors.UnsupportedMediaType, 415),
        (service_errors.MalformedUpload, 422),
        (service_errors.TooManyRequests, 429),
        (service_errors.DatabaseUnavailable, 503),
    ],
)
def test_table(error: type[errors.TuneLabError], status: int) -> None:
    assert status_of(error) == status
    answer = problem_for(error("what was wrong"))
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert (b"what was wrong" in bytes(answer.body)) == (status != 500)


def test_every_audio_and_pipeline_error_has_a_status() -> None:
    for kind in subclasses(errors.AudioError) + subclasses(errors.PipelineError):
        assert (status_of(kind) == 500) == (kind is errors.PipelineFailed), kind


def test_the_documented_codes_are_those_that_are_sent() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, re.MULTILINE)}
    kinds = [kind for kind in subclasses(errors.TuneLabError) if status_of(kind) != 500]
    sent = {(status_of(kind), kind.code) for kind in kinds}
    for_frameworks = {(400, "bad_request"), (405, "method_not_allowed"), (400, "client_disconnected")}
    assert documented == sent | for_frameworks | {(422, "invalid_request"), (500, "internal_error")}


def test_failures_cost_nothing_and_store_nothing(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        cases = [
            (errors.SilentAudio("every sample is zero"), 422, "audio_silent"),
            (errors.UnsupportedAudio("not audio"), 422, "audio_unsupported"),
            (errors.PipelineOverloaded("every queue is full"), 503, "overloaded"),
            (errors.PipelineUnavailable("a stage is starting"), 503, "unavailable"),
            (errors.PipelineTimeout("too slow"), 408, "timeout"),
            (errors.EngineError(f"broke in {SECRET}"), 500, "internal_error"),
            (RuntimeError(f"broke in {SECRET}"), 500, "internal_error"),
        ]
        for error, status, code in cases:
            api.pipeline.behaviour = failing(error)
            answer = await api.analyze(code.encode())
            body = answer.json()
            assert (answer.status_code, body["code"], body["status"]) == (status, code, status)
            assert list(body) == ["type", "title", "status", "detail", "code", "trace_id"]
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-trace-id"] == body["trace_id"]
            assert SECRET not in answer.text
            if status == 503:
                assert int(answer.headers["retry-after"]) >= 1
        assert await api.credits() == 100

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(Track)) == 0


def test_errors_that_crossed_ray_speak_for_themselves_only(run_api: Any) -> None:
    class RayTaskError(Exception):
        """What Ray raises: its own class and the cause's in one, whose text is a stack trace from another process."""

    class RaisedByRay(RayTaskError, errors.SilentAudio):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

        def __str__(self) -> str:
            return f"Traceback: {SECRET}"

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = failing(RaisedByRay(errors.SilentAudio("every sample is zero")))
        answer = await api.analyze(b"x")
        assert (answer.status_code, answer.json()["code"]) == (422, "audio_silent")
        assert answer.json()["detail"] == "every sample is zero"
        assert SECRET not in answer.text

    run_api(scenario)


def test_keys(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        good = api.keys["free"]
        bad = [
            {},
            {"Authorization": good},
            {"Authorization": f"Basic {good}"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer tl_live_"},
            {"Authorization": "Bearer tl_live_\x00"},
            {"Authorization": f"Bearer {good}x"},
            {"Authorization": f"Bearer {good[:-1]}{'a' if good[-1] != 'a' else 'b'}"},
        ]
        for headers in bad:
            for method, path in (("POST", "/v1/analyze"), ("GET", "/v1/account"), ("GET", f"/v1/embedding/{'0' * 64}")):
                answer = await api.client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), headers
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await api.client.get("/v1/account", headers={"Authorization": f"bearer {good}"})).status_code == 200

        accounts.revoke_key(session, good)
        session.commit()
        assert (await api.client.get("/v1/account", headers=api.auth())).status_code == 401
        accounts.set_disabled(session, accounts.find_account(session, "pro"), True)
        session.commit()
        off = await api.client.get("/v1/account", headers=api.auth("pro"))
        assert (off.status_code, off.json()["code"]) == (403, "account_disabled")

    run_api(scenario)


def test_key_revoked_in_the_middle(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        async def revoke(data: bytes) -> None:
            accounts.revoke_key(session, api.keys["free"])
            session.commit()

        api.pipeline.behaviour = revoke
        # The request was allowed when it came in, so it is finished and paid; the next one is refused.
        assert (await api.analyze(b"x")).status_code == 200
        assert (await api.analyze(b"x")).status_code == 401

    run_api(scenario)


def test_http_errors_are_problems(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for method, path, status, code in (
            ("GET", "/nowhere", 404, "not_found"),
            ("GET", "/assets/..%2f__init__.py", 404, "not_found"),
            ("GET", "/assets/__init__.py", 404, "not_found"),
            ("GET", "/v1/analyze", 405, "method_not_allowed"),
            ("DELETE", "/v1/models", 405, "method_not_allowed"),
            ("POST", "/healthz", 405, "method_not_allowed"),
            ("GET", "/v1/analyze/short", 422, "invalid_request"),
            ("GET", f"/v1/analyze/{'0' * 64}", 404, "not_found"),
        ):
            answer = await api.client.request(method, path, headers=api.auth())
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-trace-id"] == answer.json()["trace_id"]
            assert ("allow" in answer.headers) == (status == 405)
        # Of all routes of an address, not of the first.
        for path, allowed in (("/v1/classifiers", "GET, POST"), ("/v1/classifiers/mine", "DELETE, GET")):
            assert (await api.client.put(path, headers=api.auth())).headers["allow"] == allowed

    run_api(scenario)


def test_every_answer_has_trace_id_and_security_headers(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        seen = set()
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/v1/models", "/nowhere"):
            headers = (await api.client.get(path)).headers
            seen.add(headers["x-trace-id"])
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
        assert len(seen) == 6

    run_api(scenario)


def test_logs_have_the_trace_id_and_no_secrets(run_api: Any, caplog: pytest.LogCaptureFixture) -> None:
    keys: list[str] = []

    async def scenario(api: Api) -> list[str]:
        keys.extend(api.keys.values())
        ids = []
        await api.client.post("/v1/analyze", files={"file": ("private-name.mp3", b"my-bytes")}, headers=api.auth())
        for behaviour in (None, failing(RuntimeError("surprise")), failing(errors.SilentAudio("zeros"))):
            api.pipeline.behaviour = behaviour
            ids.append((await api.analyze(f"my-bytes-{behaviour}".encode())).headers["x-trace-id"])
        await api.client.get("/private-address")
        return ids

    with caplog.at_level(logging.DEBUG):
        ids = run_api(scenario)
    records = [record for record in caplog.records if record.name == "tunelab.service"]
    assert {getattr(record, "trace_id", None) for record in records} >= set(ids)
    done = [record for record in records if hasattr(record, "route")]
    assert [record.route for record in done] == ["/v1/analyze"] * 4 + ["unrouted"]
    assert [record.status for record in done] == [200, 200, 500, 422, 404]
    assert all(record.account for record in done[:4])
    for record in caplog.records:
        written = " ".join(str(value) for value in record.__dict__.values())
        if record.exc_info:
            written += "".join(traceback.format_exception(*record.exc_info))
        for secret in (*keys, "private-name", "my-bytes", "private-address"):
            if record.name not in ("httpx", "asyncio"):
                assert secret not in written, record.name


def test_settings_refuse_nonsense(tmp_path: Any) -> None:
    from tunelab.service.app import create_app
    from tunelab.settings import load_settings

    with pytest.raises(errors.SettingsError, match="SIGNUP_TIER"):
        create_app(lambda: None, load_settings(signup_tier="gold"))  # type: ignore[arg-type,return-value]
