"""Customers' own classifiers: what the database keeps of them, and predictions from stored embeddings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from pydantic_core import to_json
from sqlalchemy import Text, cast, delete, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from tunelab.classifier.labels import from_mapping, targets
from tunelab.classifier.model import Classifier
from tunelab.errors import ClassifierError
from tunelab.service.classifier_jobs import Trainer, analysed, embeddings
from tunelab.service.database import Database
from tunelab.service.errors import Conflict, LimitReached, NotFound
from tunelab.service.places import Places
from tunelab.service.tables import StoredClassifier, Track
from tunelab.settings import Settings
from tunelab.types import EMBEDDING_SIZE, Pipeline

_DIGITS = 4
"""Decimals of a probability."""
_AT_ONCE = 1000
"""Ids that are looked up at once: others have their turn between."""

LabelsById = Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class State:
    """A classifier as it is stored, without its weights and labels.

    ``current``: it reads embeddings of the model and revision that analyses are made with now.
    """

    name: str
    kind: str
    status: str
    model: str
    revision: str
    current: bool
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """A classifier's answers: id -> its class or labels, and the probability of each class."""

    state: State
    answers: Mapping[str, tuple[list[str], Mapping[str, float]]]
    unknown: list[str]


class Classifiers:
    """Each method is a few transactions. All raise DatabaseUnavailable when the database cannot be reached.

    ``creations`` has places for what leads to :meth:`create`: up to 5 MB of labels, and up to a second of work on them.
    """

    def __init__(self, database: Database, pipeline: Pipeline, settings: Settings) -> None:
        self._database = database
        self._pipeline = pipeline
        self._settings = settings
        self.trainer = Trainer(database)
        # One at once: more would share the interpreter, and take the longer.
        self.creations = Places(1, settings.max_concurrent_per_account, "creations of classifiers")

    async def create(self, account: uuid.UUID, name: str, labels: LabelsById) -> tuple[State, list[str]]:
        """Ask for a classifier; a failed one of that name is replaced.

        Args:
            account: whose tracks are labelled.
            name: of the classifier, unique in the account.
            labels: content id -> class, or list of labels.

        Returns:
            It, queued, and the ids that are left out because the account has no embedding of the current revision.

        Raises:
            NotFound: it has none of them.
            ClassifierError: too many tracks, or what is left makes no classifier.
            Conflict: there is one of that name, and it did not fail.
            LimitReached: the account has ``max_classifiers``.
        """
        most = self._settings.max_classifier_examples
        if len(labels) > most:
            raise ClassifierError(f"a classifier may learn from {most} labelled tracks; these are {len(labels)}")
        async with self._database.reading() as session:
            await self._look_for_room(session, account, name)  # what is refused anyway costs no more than that
        model, revision = self._pipeline.model, self._pipeline.revision
        known = await self._known(account, model, revision, labels)
        if not known:
            raise NotFound(f"none of the ids is a track that this account has analysed with the current {model}")
        # Up to a million labels: the event loop has others to serve.
        kind, stored, unknown = await asyncio.to_thread(_checked, labels, known, model)
        values = {
            "account_id": account,
            "name": name,
            "status": "queued",
            "kind": kind,
            "model": model,
            "revision": revision,
            "labels": cast(literal(stored, Text), JSONB),
        }
        async with self._database.transaction() as session:
            await self._make_room(session, account, name)
            row = (await session.execute(insert(StoredClassifier).values(values).returning(*_COLUMNS))).one()
        self.trainer.wake()
        return self._state(row), unknown

    async def _known(self, account: uuid.UUID, model: str, revision: str, labels: LabelsById) -> set[str]:
        ids, known = list(labels), set[str]()
        for begin in range(0, len(ids), _AT_ONCE):
            some = ids[begin : begin + _AT_ONCE]
            async with self._database.reading() as session:
                known.update(await session.scalars(analysed(account, model, revision, some, Track.content_id)))
        return known

    async def _make_room(self, session: AsyncSession, account: uuid.UUID, name: str) -> None:
        """Nobody else adds one to the account until the transaction ends."""
        lock = func.hashtextextended(f"classifiers:{account}", 0)
        await session.execute(select(func.pg_advisory_xact_lock(lock)))
        await self._look_for_room(session, account, name)
        failed = (StoredClassifier.account_id == account) & (StoredClassifier.name == name)
        await session.execute(delete(StoredClassifier).where(failed))

    async def _look_for_room(self, session: AsyncSession, account: uuid.UUID, name: str) -> None:
        """Returns if there is room for one of that name, where one that failed does not count.

        Raises:
            Conflict, LimitReached: see :meth:`create`.
        """
        same = StoredClassifier.name == name
        query = select(func.max(StoredClassifier.status).filter(same), func.count().filter(~same))
        status, others = (await session.execute(query.where(StoredClassifier.account_id == account))).one()
        if status not in (None, "failed"):
            raise Conflict(
                f"there is a classifier {name!r} already, which is {status}; delete it or choose another name"
            )
        most = self._settings.max_classifiers
        if others >= most:
            raise LimitReached(f"an account may keep {most} classifiers; delete one first")

    async def list_all(self, account: uuid.UUID) -> list[State]:
        """All of the account's, without reports, by name."""
        query = select(*_COLUMNS).where(StoredClassifier.account_id == account).order_by(StoredClassifier.name)
        async with self._database.reading() as session:
            return [self._state(row) for row in (await session.execute(query)).all()]

    async def get(self, account: uuid.UUID, name: str) -> State:
        """One, with its report if it is ready.

        Raises:
            NotFound: the account has none of that name.
        """
        return self._state(await self._row(account, name, StoredClassifier.report))

    async def delete(self, account: uuid.UUID, name: str) -> None:
        """Forget one, whatever its status; a training ends.

        Raises:
            NotFound: the account has none of that name.
        """
        there = (StoredClassifier.account_id == account) & (StoredClassifier.name == name)
        async with self._database.transaction() as session:
            gone = await session.scalar(delete(StoredClassifier).where(there).returning(StoredClassifier.id))
        if gone is None:
            raise _no_such(name)
        self.trainer.look()

    async def predict(self, account: uuid.UUID, name: str, ids: Sequence[str]) -> Predicted:
        """Classes of analysed tracks, from the embeddings of the classifier's own revision of its model.

        Raises:
            NotFound: the account has no classifier of that name.
            Conflict: it is not ready.
        """
        row = await self._row(account, name, StoredClassifier.weights)
        if row.status != "ready":
            raise Conflict(f"the classifier {name!r} is {row.status}")
        wanted = list(dict.fromkeys(ids))
        vectors = await embeddings(self._database, account, row.model, row.revision, wanted)
        there = [content_id for content_id in wanted if content_id in vectors]
        answers = await asyncio.to_thread(_answers, row.weights, [vectors[content_id] for content_id in there])
        unknown = [content_id for content_id in wanted if content_id not in vectors]
        return Predicted(self._state(row), dict(zip(there, answers, strict=True)), unknown)

    async def _row(self, account: uuid.UUID, name: str, column: Any) -> Any:
        there = (StoredClassifier.account_id == account) & (StoredClassifier.name == name)
        async with self._database.reading() as session:
            row = (await session.execute(select(*_COLUMNS, column).where(there))).one_or_none()
        if row is None:
            raise _no_such(name)
        return row

    def _state(self, row: Any) -> State:
        fields = row._asdict()
        fields.pop("weights", None)
        current = (row.model, row.revision) == (self._pipeline.model, self._pipeline.revision)
        return State(**fields, current=current)


_COLUMNS = (
    StoredClassifier.name,
    StoredClassifier.kind,
    StoredClassifier.status,
    StoredClassifier.model,
    StoredClassifier.revision,
    StoredClassifier.error,
    StoredClassifier.created_at,
    StoredClassifier.finished_at,
)


def _no_such(name: str) -> NotFound:
    return NotFound(f"this account has no classifier {name!r}")


def _checked(labels: LabelsById, known: set[str], model: str) -> tuple[str, str, list[str]]:
    """Kind of a classifier, its labels of known tracks as JSON, and the ids that are unknown.

    Raises:
        ClassifierError: what is left makes no classifier.
    """
    unknown = [content_id for content_id in labels if content_id not in known]
    checked = from_mapping(labels)
    left = checked.take([place for place, content_id in enumerate(labels) if content_id in known])
    try:
        targets(left)
    except ClassifierError as error:
        lost = f"; {len(unknown)} of the ids are no tracks that this account has analysed with the current {model}"
        raise ClassifierError(error.message + (lost if unknown else "")) from None
    multilabel = checked.kind == "multilabel"
    names = zip(left.keys, left.names, strict=True)
    stored = {content_id: list(given) if multilabel else given[0] for content_id, given in names}
    return checked.kind, to_json(stored).decode(), unknown


def _answers(weights: bytes, vectors: Sequence[bytes]) -> list[tuple[list[str], dict[str, float]]]:
    """For each embedding its class or labels, and the probability of each class."""
    classifier = Classifier.from_bytes(weights)
    probabilities = classifier.probabilities(np.frombuffer(b"".join(vectors), "<f4").reshape(-1, EMBEDDING_SIZE))
    decided = classifier.decide(probabilities)
    rounded = probabilities.astype(np.float64).round(_DIGITS).tolist()
    return [
        (
            [name for name, given in zip(classifier.classes, chosen, strict=True) if given],
            dict(zip(classifier.classes, row, strict=True)),
        )
        for chosen, row in zip(decided.tolist(), rounded, strict=True)
    ]
