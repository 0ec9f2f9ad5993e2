"""Customers' own classifiers on stored embeddings. Free of charge: nothing here touches a balance."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from tunelab.service.classifier_request import validated
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
from tunelab.service.json_body import json_body, read_bytes, read_json
from tunelab.service.openapi import problems

router = APIRouter(prefix="/v1", tags=["classifiers"])


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
            body = await asyncio.to_thread(validated, data)
            state, unknown = await service.classifiers.create(caller.id, body.name, body.labels)
    response.headers["Location"] = f"/v1/classifiers/{state.name}"
    return ClassifierCreated.model_validate({**asdict(state), "unknown": unknown})


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
