"""Customers' own classifiers on stored embeddings. Free of charge: nothing here touches a balance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import JSONResponse, Response

from tunelab.service.classifier_schemas import (
    PREDICT_BODY_LIMIT,
    ClassifierAnswer,
    ClassifierCreated,
    ClassifierList,
    ClassifierRequest,
    NamePath,
    Predictions,
    PredictRequest,
    training_body_limit,
)
from tunelab.service.classifiers import Predicted, State
from tunelab.service.deps import ProCallerDep, ServiceDep
from tunelab.service.json_body import json_body, read_bytes, read_json, refusal
from tunelab.service.openapi import problems

router = APIRouter(prefix="/v1", tags=["classifiers"])

_STEP = 500
"""Labels that are validated in one go, during which no other thread of the process runs."""
_UNKNOWN = 3
"""Fields that there are not, told of one body."""


@router.post(
    "/classifiers",
    summary="Train a classifier of your own (pro)",
    status_code=202,
    response_description="It will be trained; ask for it until its status is `ready` or `failed`",
    responses=problems(401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503),
    openapi_extra=json_body(ClassifierRequest),
)
async def create_classifier(
    request: Request, response: Response, service: ServiceDep, caller: ProCallerDep
) -> ClassifierCreated:
    """Free. Labels are of tracks that the account has analysed with the current model; at least 2 classes, and 4 tracks
    of each. A list as a label means that a track may have any number of them. Tracks without an analysis are listed in
    `unknown` and left out. A classifier that failed is replaced; any other of the same name is a conflict.
    """
    places = service.classifiers.creations
    with places.held(caller.id):
        data = await read_bytes(request, training_body_limit(service.settings), service.settings)
        async with places.turn():
            body = await asyncio.to_thread(_validated, data)
            state, unknown = await service.classifiers.create(caller.id, body.name, body.labels)
    response.headers["Location"] = f"/v1/classifiers/{state.name}"
    return ClassifierCreated.model_validate({**asdict(state), "unknown": unknown})


def _validated(data: bytes) -> ClassifierRequest:
    """As :func:`read_json` validates, but in steps, between which the event loop has its turn, and up to a first fault:
    half a million of them would take seconds.

    Raises:
        RequestValidationError: it is not what the model says.
    """
    try:
        whole = from_json(data)
    except ValueError as error:
        reason = {"loc": ("body",), "msg": f"Invalid JSON: {error}", "type": "json_invalid"}
        raise RequestValidationError([reason]) from None
    try:
        for piece in _pieces(whole):
            ClassifierRequest.model_validate_json(to_json(piece))
    except ValidationError as error:
        raise refusal(error) from None
    return ClassifierRequest.model_construct(**whole)


def _pieces(whole: Any) -> Iterator[Any]:
    """Requests that are all valid if and only if the whole is, each with some of its labels."""
    if not isinstance(whole, dict):
        yield None
        return
    known = {key: whole[key] for key in ClassifierRequest.model_fields if key in whole}
    rest = {**known, **dict(islice(((key, value) for key, value in whole.items() if key not in known), _UNKNOWN))}
    labels = whole.get("labels")
    if not isinstance(labels, dict):
        yield rest
        return
    some: dict[str, Any] = {}
    weight = 0
    for content_id, given in labels.items():
        some[content_id] = given
        weight += 1 + (len(given) if isinstance(given, list) else 0)
        if weight >= _STEP:
            yield {**rest, "labels": some}
            some, weight = {}, 0
    if some or not labels:
        yield {**rest, "labels": some}


@router.get(
    "/classifiers",
    summary="Your classifiers (pro)",
    response_description="By name, without their reports",
    responses=problems(401, 403, 500, 503),
)
async def list_classifiers(service: ServiceDep, caller: ProCallerDep) -> ClassifierList:
    """Free."""
    states = await service.classifiers.list_all(caller.id)
    return ClassifierList.model_validate({"classifiers": [asdict(state) for state in states]})


@router.get(
    "/classifiers/{name}",
    summary="One of your classifiers, and how good it is (pro)",
    response_description="Its status; its report once it is ready; why it failed",
    responses=problems(401, 403, 404, 422, 500, 503),
)
async def get_classifier(name: NamePath, service: ServiceDep, caller: ProCallerDep) -> ClassifierAnswer:
    """Free. All figures are of tracks that were held out, with 95 % intervals, beside a baseline that gives every track
    the same answer.
    """
    return ClassifierAnswer.model_validate(asdict(await service.classifiers.get(caller.id, name)))


@router.delete(
    "/classifiers/{name}",
    summary="Forget a classifier (pro)",
    status_code=204,
    response_description="It is gone; a training that was in progress ends",
    responses=problems(401, 403, 404, 422, 500, 503),
)
async def delete_classifier(name: NamePath, service: ServiceDep, caller: ProCallerDep) -> Response:
    """Free."""
    await service.classifiers.delete(caller.id, name)
    return Response(status_code=204)


@router.post(
    "/classifiers/{name}/predict",
    summary="Classify analysed tracks (pro)",
    response_description="A class or labels for each id, with probabilities",
    response_model=Predictions,
    responses=problems(401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503),
    openapi_extra=json_body(PredictRequest),
)
async def predict(name: NamePath, request: Request, service: ServiceDep, caller: ProCallerDep) -> Response:
    """Free. Up to 1000 ids. Those without an embedding of the classifier's own revision of its model are listed in
    `unknown`; where analyses are made with another one by now, `current` is false.
    """
    body = await read_json(request, PredictRequest, PREDICT_BODY_LIMIT, service.settings)
    async with service.searches.one(caller.id):
        predicted = await service.classifiers.predict(caller.id, name, body.ids)
    return JSONResponse(_answer(predicted))


def _answer(predicted: Predicted) -> dict[str, Any]:
    state = predicted.state
    return {
        "name": state.name,
        "kind": state.kind,
        "model": state.model,
        "revision": state.revision,
        "current": state.current,
        "predictions": [
            {"id": content_id, **_decision(state, names), "probabilities": probabilities}
            for content_id, (names, probabilities) in predicted.answers.items()
        ],
        "unknown": predicted.unknown,
    }


def _decision(state: State, names: list[str]) -> dict[str, Any]:
    return {"labels": names} if state.kind == "multilabel" else {"label": names[0]}
