"""Validating what a classifier is to learn: up to 5 MB of JSON, while others want the interpreter, too."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from tunelab.service.classifier_schemas import ClassifierRequest
from tunelab.service.json_body import refusal

_STEP = 500
"""Labels that are validated in one go, during which no other thread of the process runs."""
_UNKNOWN = 3
"""Fields that there are not, told of one body."""


def validated(data: bytes) -> ClassifierRequest:
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
