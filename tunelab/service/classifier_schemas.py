"""Requests and answers about customers' own classifiers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from tunelab.classifier.model import MAX_CLASSES, Kind, Label
from tunelab.service.schemas import ContentId
from tunelab.settings import Settings

MAX_IDS = 1000
"""Tracks of one prediction."""
_EXAMPLE_BYTES, _ENVELOPE_BYTES = 256, 4096
"""Of a body for each labelled track (its id takes 66 bytes, a label mostly 10 to 30), and for all else."""

NAME_PATTERN = "^[a-z0-9][a-z0-9-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, description="Lower-case letters, digits and hyphens, at most 64")]
NamePath = Annotated[str, Path(pattern=NAME_PATTERN, description="The classifier's name")]
Status = Literal["queued", "training", "ready", "failed"]


class ClassifierRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    labels: Annotated[
        dict[ContentId, Label | Annotated[list[Label], Field(max_length=MAX_CLASSES)]],
        Field(
            min_length=1,
            description="`_meta.id` of an analysis -> its class, or a list of any number of labels",
            json_schema_extra={"additionalProperties": False},  # what is no id is refused
        ),
    ]


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[ContentId], Field(min_length=1, max_length=MAX_IDS, description="`_meta.id` of analyses")]


class Figure(BaseModel):
    value: Annotated[float, Field(ge=0, le=1)]
    ci95: Annotated[list[float], Field(min_length=2, max_length=2, description="95 % bootstrap interval")]


class Sides(BaseModel):
    train: int
    validation: int
    test: Annotated[int, Field(description="Tracks that all figures are of: neither trained on nor chosen by")]


class Baseline(BaseModel):
    """What the same answer for every track reaches."""

    always: Annotated[list[str], Field(description="That answer: the most frequent class, or the frequent labels")]
    accuracy: float
    macro_f1: float


class ClassFigures(BaseModel):
    label: str
    n: Annotated[int, Field(description="Labelled tracks that have it")]
    n_test: Annotated[int, Field(description="Of them held out")]
    precision: Figure
    recall: Figure
    f1: Figure


class Confusion(BaseModel):
    """Of a multiclass classifier; rows are the truth, columns the predictions, in the order of `classes`."""

    counts: list[list[int]]
    ci95: Annotated[list[list[list[float]]], Field(description="Interval of each count's share of its row")]


class LabelCounts(BaseModel):
    """Of a multilabel classifier, for each label: predictions that are right and wrong."""

    tp: list[int]
    fp: list[int]
    fn: list[int]
    tn: list[int]


class ClassifierReport(BaseModel):
    """How good it is on tracks that were held out."""

    kind: Kind
    classes: list[str]
    model: str
    revision: str
    n: Sides
    groups: int | None
    left_out: Annotated[int, Field(description="Labelled tracks that had no embedding when it was trained")]
    epochs: int
    accuracy: Annotated[Figure, Field(description="Share of tracks whose class, or all of whose labels, are right")]
    macro_f1: Annotated[Figure, Field(description="Mean F1 of the classes")]
    baseline: Baseline
    per_class: list[ClassFigures]
    confusion: Annotated[Confusion | LabelCounts | None, Field(description="null beyond 30 classes")]


class ClassifierSummary(BaseModel):
    name: Name
    kind: Kind
    status: Status
    model: Annotated[str, Field(description="Model whose embeddings it reads")]
    revision: Annotated[str, Field(description="Revision of that model")]
    current: Annotated[
        bool,
        Field(description="Whether that is what analyses are made with now; if not, newer tracks are unknown to it"),
    ]
    error: Annotated[str | None, Field(description="Why it failed")]
    created_at: datetime
    finished_at: datetime | None


class ClassifierAnswer(ClassifierSummary):
    model_config = ConfigDict(title="Classifier")

    report: Annotated[ClassifierReport | None, Field(description="Once it is ready")]


class ClassifierCreated(ClassifierSummary):
    unknown: Annotated[list[ContentId], Field(description="Labelled ids that are no analysed tracks; left out")]


class ClassifierList(BaseModel):
    classifiers: list[ClassifierSummary]


class Prediction(BaseModel):
    id: ContentId
    label: Annotated[str | None, Field(description="multiclass: the most likely class")] = None
    labels: Annotated[list[str] | None, Field(description="multilabel: all from 0.5 on")] = None
    probabilities: dict[str, Annotated[float, Field(ge=0, le=1)]]


class Predictions(BaseModel):
    name: Name
    kind: Kind
    model: str
    revision: str
    current: bool
    predictions: Annotated[list[Prediction], Field(description="In the order of the ids, each once")]
    unknown: Annotated[
        list[ContentId], Field(description="Ids of which this account has no embedding of the model's revision")
    ]


def training_body_limit(settings: Settings) -> int:
    """Bytes that a request to train may have."""
    return _ENVELOPE_BYTES + _EXAMPLE_BYTES * settings.max_classifier_examples


PREDICT_BODY_LIMIT = _ENVELOPE_BYTES + 128 * MAX_IDS
