"""Fit a classifier to labelled embeddings, and say how good it is on tracks that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.optim.adamw import adamw

from tunelab.classifier import figures
from tunelab.classifier.labels import Labels, targets
from tunelab.classifier.model import Classifier, Kind
from tunelab.classifier.split import SIDES, split
from tunelab.errors import ClassifierError
from tunelab.types import FloatArray

HIDDEN = 256
EPOCHS, PATIENCE = 100, 10
_STEPS = 40
"""Batches are as large as makes so many of an epoch, within 32 to 256 tracks."""

Targets = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A classifier, and its figures on the test side as JSON values (see :func:`train`)."""

    classifier: Classifier
    report: dict[str, Any]


def train(
    embeddings: npt.NDArray[np.floating[Any]],
    labels: Labels,
    *,
    model: str,
    revision: str,
    left_out: int = 0,
    seed: int = 0,
) -> Trained:
    """Split, fit, measure.

    The weights are those that were measured: they are not fitted again to the tracks that were held out, so every
    figure is one of this very file.

    Args:
        embeddings: shape ``(n, width)``, of the labelled tracks in their order.
        labels: of the same tracks.
        model: bundle that made the embeddings.
        revision: of that bundle.
        left_out: labelled tracks without an embedding, for the report.
        seed: of split, weights and order. The same input and seed give the same file on the same machine.

    Returns:
        The classifier and a report: those of :func:`tunelab.classifier.figures.report`, ``kind``, ``classes``,
        ``model``, ``revision``, the numbers of tracks, and ``epochs``, after which the validation side was best.

    Raises:
        ClassifierError: labels or embeddings make no sense; see :func:`~tunelab.classifier.labels.targets` and
            :func:`~tunelab.classifier.split.split`.
    """
    if embeddings.ndim != 2 or len(embeddings) != len(labels.keys):
        raise ClassifierError(f"{len(labels.keys)} labelled tracks need as many embeddings, not {len(embeddings)}")
    classes, has = targets(labels)
    if not np.isfinite(embeddings).all():
        raise ClassifierError("an embedding holds numbers that are not finite")
    sides = split(classes, has, labels.groups, seed=seed)
    part = {name: sides == place for place, name in enumerate(SIDES)}
    centre = embeddings[part["train"]].mean(axis=0, dtype=np.float64)
    spread = embeddings[part["train"]].std(axis=0, dtype=np.float64) + 1e-4

    def standardised(name: str) -> torch.Tensor:
        return torch.from_numpy(((embeddings[part[name]] - centre) / spread).astype(np.float32))

    fitted, epochs = _fit(
        labels.kind,
        (standardised("train"), has[part["train"]]),
        (standardised("validation"), has[part["validation"]]),
        seed,
    )
    tensors = _folded(fitted, centre, spread)
    classifier = Classifier(labels.kind, classes, model, revision, tensors, {})
    predicted = classifier.decide(classifier.probabilities(embeddings[part["test"]]))
    groups = None if labels.groups is None else np.array(labels.groups)[part["test"]]
    report = {
        "kind": labels.kind,
        "classes": list(classes),
        "model": model,
        "revision": revision,
        "n": {name: int(chosen.sum()) for name, chosen in part.items()},
        "groups": None if labels.groups is None else len(set(labels.groups)),
        "left_out": left_out,
        "epochs": epochs,
        **figures.report(
            labels.kind, classes, has[part["test"]], predicted, _always(labels.kind, has[part["train"]]), groups
        ),
    }
    report["per_class"] = [
        {"label": name, "n": int(has[:, place].sum()), **row}
        for place, (name, row) in enumerate(zip(classes, report["per_class"], strict=True))
    ]
    summary = {name: report[name] for name in ("n", "accuracy", "macro_f1", "baseline")}
    return Trained(Classifier(labels.kind, classes, model, revision, tensors, summary), report)


def _always(kind: Kind, has: Targets) -> npt.NDArray[np.bool_]:
    """The baseline's answer: the most frequent class, or the labels that more than half of the tracks have."""
    if kind == "multilabel":
        return np.asarray(has.mean(axis=0) > 0.5)
    answer = np.zeros(has.shape[1], np.bool_)
    answer[has.sum(axis=0).argmax()] = True
    return answer


def _weights(kind: Kind, has: Targets) -> torch.Tensor:
    """How much a track of each class counts, or for ``multilabel`` one that has the label beside one that lacks it.

    Rare ones count more, by the root of what would make all count alike: the whole would find rare classes in too many
    tracks of the others.
    """
    counts = has.sum(axis=0).astype(np.float64)
    ratio = (len(has) - counts) / counts if kind == "multilabel" else len(has) / (len(counts) * counts)
    return torch.from_numpy(np.sqrt(ratio).astype(np.float32))


def _fit(
    kind: Kind, train: tuple[torch.Tensor, Targets], validation: tuple[torch.Tensor, Targets], seed: int
) -> tuple[Mapping[str, torch.Tensor], int]:
    """Weights of the epoch with the least loss on the validation side, and its number from 1."""
    x, y = train[0], torch.from_numpy(train[1].astype(np.float32))
    x_validation, y_validation = validation[0], torch.from_numpy(validation[1].astype(np.float32))
    weights = _weights(kind, train[1])

    def loss_of(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        if kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights)
        return functional.cross_entropy(logits, wanted.argmax(dim=1), weight=weights)

    size = min(max(len(x) // _STEPS, 32), 256)
    best, best_epoch, best_state = float("inf"), 0, {}
    with _alone(seed):
        first, second = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, y.shape[1])
        network = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.2), second)
        step = _AdamW(list(network.parameters()))
        for epoch in range(1, EPOCHS + 1):
            network.train()
            for index in torch.split(torch.randperm(len(x)), size):
                network.zero_grad()
                loss_of(network(x[index]), y[index]).backward()  # type: ignore[no-untyped-call]
                step()
            network.eval()
            with torch.no_grad():
                loss = float(loss_of(network(x_validation), y_validation))
            if loss < best:
                best, best_epoch = loss, epoch
                best_state = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch >= PATIENCE:
                break
    if not best_state:
        raise ClassifierError("training found no weights: the embeddings are too large to be any")
    return best_state, best_epoch


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Random numbers of its own, and one thread: the same weights whoever calls, on however many cores.

    Matrices of this size gain nothing from a second thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


class _AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, ICLR 2019) by PyTorch's function.

    Its class imports the compiler, which takes longer than a small classifier.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters: list[torch.Tensor] = list(parameters)
        self._means = [torch.zeros_like(value) for value in parameters]
        self._squares = [torch.zeros_like(value) for value in parameters]
        self._steps = [torch.tensor(0.0) for _ in parameters]

    @torch.no_grad()
    def __call__(self) -> None:
        gradients = [value.grad for value in self._parameters if value.grad is not None]
        adamw(
            self._parameters,
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=1e-3,
            weight_decay=1e-2,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
        )


def _folded(
    state: Mapping[str, torch.Tensor], centre: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]
) -> dict[str, FloatArray]:
    """Tensors of :class:`Classifier` that take embeddings as they are, and not standardised."""
    weight = state["0.weight"].numpy().astype(np.float64) / spread
    tensors = {
        "hidden.weight": weight,
        "hidden.bias": state["0.bias"].numpy() - weight @ centre,
        "output.weight": state["3.weight"].numpy(),
        "output.bias": state["3.bias"].numpy(),
    }
    return {name: value.astype(np.float32) for name, value in tensors.items()}
