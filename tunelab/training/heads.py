"""Train the six heads on frozen embeddings: 768 -> 256 -> 1, ReLU, sigmoid.

A head is the mean, before the sigmoid, of a network and of a ridge regression on the labels' logits, which two of its
hidden units carry. The network alone follows what is special to the clips that it learnt from: of few, the linear half
knows more, and mostly the mean of both knows more than either.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tunelab.evaluation.metrics import pearson
from tunelab.training.ema import Average
from tunelab.training.scale import logit
from tunelab.types import FloatArray

CROSS_ENTROPY = frozenset({"instrumentalness", "speechiness", "liveness"})
"""Heads whose labels are likelihoods; the others are amounts and use the squared error."""
GATE = 0.7
"""Least Pearson r on the held-out split with which a head is exported."""
HIDDEN = 256
LINEAR = 2
"""Hidden units that carry the linear half of a head: one for each sign."""
NOISE = 1.0
"""Of each number of the embedding in training, in standard deviations: what hangs on a few of them is not learnt."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge penalties a clip that the linear half chooses from."""
SLOPES = np.linspace(0.1, 1.2, 12)
"""What its logits may be multiplied by."""
DEVELOPMENT_MODULUS = 7
"""One package in so many chooses the epoch."""
AVERAGED = 0.995
"""What each step keeps of the weights' moving average, which is what is shipped: on packages that a head was not fitted
to it mostly agrees better with the labels than the last weights do."""


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """One head with its predictions on the held-out clips (``n,``, 0..1), and what chose its epoch."""

    tensors: dict[str, FloatArray]
    heldout: FloatArray
    chosen_epoch: int
    development_r: float


def train_head(
    head: str,
    train: tuple[FloatArray, FloatArray],
    development: tuple[FloatArray, FloatArray],
    heldout: FloatArray,
    *,
    epochs: int = 50,
    patience: int = 10,
    seed: int = 0,
) -> TrainedHead:
    """Fit one head: its network, from the epoch whose averaged weights have the best Pearson r on the development
    clips, and its linear half.

    Args:
        head: one of :data:`tunelab.types.HEADS`, or ``liveness``; decides the loss.
        train: embeddings ``(n, 768)`` and labels ``(n,)`` in 0..1.
        development: the same, of packages that are in neither of the others.
        heldout: embeddings ``(m, 768)`` that are only predicted.
        epochs: at most.
        patience: epochs without a better r after which it ends.
        seed: of weights, order and dropout.

    Returns:
        The head (its network of the last epoch where r is undefined), with the standardisation of the embedding folded
        into its first layer. The same inputs and seed give the same tensors.
    """
    torch.manual_seed(seed)
    centre, spread = train[0].mean(0), train[0].std(0) + 1e-4
    x = torch.from_numpy((train[0] - centre) / spread)
    y = torch.from_numpy(train[1])
    units = HIDDEN - LINEAR
    network = nn.Sequential(nn.Linear(x.shape[1], units), nn.ReLU(), nn.Dropout(0.2), nn.Linear(units, 1))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    x_development = torch.from_numpy((development[0] - centre) / spread)
    average, averaged = Average(AVERAGED), copy.deepcopy(network).eval()
    best, best_epoch, best_state = -2.0, -1, {}
    for epoch in range(epochs):
        for index in torch.split(torch.randperm(len(x)), 64):
            logits = network(x[index] + NOISE * torch.randn(len(index), x.shape[1]))[:, 0]
            loss = _own_loss(head, logits, y[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            average.add(network)
        averaged.load_state_dict(average.weights)
        with torch.no_grad():
            r = pearson(averaged(x_development)[:, 0].sigmoid().numpy(), development[1])
        if r > best:
            best, best_epoch = r, epoch
            best_state = {name: value.clone() for name, value in averaged.state_dict().items()}
        elif epoch - max(best_epoch, 0) >= patience:
            break
    if not best_state:  # r is undefined where all development labels are the same: the last epoch has to do
        best_epoch, best_state = epoch, averaged.state_dict()
    line, intercept = _linear_half(head, (x.numpy(), train[1]), (x_development.numpy(), development[1]))
    first, second = best_state["0.weight"].numpy(), best_state["3.weight"].numpy()
    weight = np.concatenate([first, [line, -line]]) / spread
    bias = np.concatenate([best_state["0.bias"].numpy(), np.zeros(LINEAR)])
    tensors = {
        f"{head}.hidden.weight": weight.astype(np.float32),
        f"{head}.hidden.bias": (bias - weight @ centre).astype(np.float32),
        f"{head}.output.weight": (0.5 * np.concatenate([second, [[1.0, -1.0]]], axis=1)).astype(np.float32),
        f"{head}.output.bias": (0.5 * (best_state["3.bias"].numpy() + intercept)).astype(np.float32),
    }
    r = pearson(predict(tensors, head, development[0]), development[1])
    return TrainedHead(tensors, predict(tensors, head, heldout), best_epoch + 1, r)


def _own_loss(head: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if head in CROSS_ENTROPY:
        return functional.binary_cross_entropy_with_logits(logits, labels)
    return functional.mse_loss(logits.sigmoid(), labels)


def _linear_half(
    head: str, train: tuple[FloatArray, FloatArray], development: tuple[FloatArray, FloatArray]
) -> tuple[npt.NDArray[np.float64], float]:
    """Ridge regression of the labels' logits on standardised embeddings: its weights ``(768,)`` and its intercept.

    The development clips choose the penalty by Pearson r, and then how steep it is by the head's own loss: logits of
    labels that are 0 or 1 are as large as they get, which what is predicted should not be.
    """
    from sklearn.linear_model import Ridge

    x, wanted = train[0].astype(np.float64), logit(train[1].astype(np.float64))
    lines = [Ridge(alpha=penalty * len(x)).fit(x, wanted) for penalty in PENALTIES]
    told = [torch.from_numpy(line.predict(development[0].astype(np.float64))) for line in lines]
    agreement = [pearson(logits.sigmoid().numpy(), development[1]) for logits in told]
    # Undefined where all labels, or all answers, are the same: then any has to do.
    best = int(np.argmax(np.nan_to_num(agreement, nan=-2.0)))
    labels = torch.from_numpy(development[1].astype(np.float64))
    slope = float(min(SLOPES, key=lambda slope: float(_own_loss(head, float(slope) * told[best], labels))))
    return slope * lines[best].coef_, slope * float(lines[best].intercept_)


def development_clips(known: FloatArray) -> npt.NDArray[np.bool_]:
    """Which training clips choose the epoch: those of whole packages, and every seventh clip of voice alone.

    Args:
        known: shape ``(n, 4)``, as rendered clips have it: kind, package (-1 for none), shares of voice and of speech.
    """
    groups = np.where(known[:, 1] >= 0, known[:, 1], np.arange(len(known)))
    chosen: npt.NDArray[np.bool_] = groups.astype(int) % DEVELOPMENT_MODULUS == 0
    # Of few packages it may be none, or all there is: then the first one, and of a single one every seventh clip.
    if not chosen.any() or chosen.all():
        chosen = np.unique(groups, return_inverse=True)[1] % DEVELOPMENT_MODULUS == 0
    if chosen.all():
        chosen = np.arange(len(known)) % DEVELOPMENT_MODULUS == 0
    return chosen


def predict(tensors: Mapping[str, FloatArray], head: str, embeddings: FloatArray) -> FloatArray:
    """Scores 0..1, shape ``(n,)``, of embeddings ``(n, 768)``."""
    hidden = np.maximum(embeddings @ tensors[f"{head}.hidden.weight"].T + tensors[f"{head}.hidden.bias"], 0)
    logits = hidden @ tensors[f"{head}.output.weight"][0] + tensors[f"{head}.output.bias"]
    scores: FloatArray = (0.5 + 0.5 * np.tanh(0.5 * logits)).astype(np.float32)
    return scores


def match_spread(
    tensors: Mapping[str, FloatArray], head: str, embeddings: FloatArray, labels: FloatArray
) -> dict[str, FloatArray]:
    """Stretch a head so that its logits spread as those of the labels do; ranks stay.

    A head that is trained on the squared error keeps to the middle where it is not sure. On clips that it was not
    fitted to, its logits get the labels' mean and standard deviation.

    Args:
        tensors: of the head; those of others are handed on.
        head: its name.
        embeddings: shape ``(n, 768)``, of ordinary music that the head was not fitted to; of a small corpus that may be
            none, and the head stays as it is.
        labels: shape ``(n,)``, 0..1.
    """
    if not len(embeddings):
        return dict(tensors)
    scores = predict(tensors, head, embeddings)
    ours, wanted = (logit(values) for values in (scores, labels))
    factor = float(np.clip(wanted.std() / max(float(ours.std()), 1e-6), 1.0, 2.0))
    shift = float(wanted.mean() - factor * ours.mean())
    weight, bias = tensors[f"{head}.output.weight"], tensors[f"{head}.output.bias"]
    stretched = {
        f"{head}.output.weight": (factor * weight).astype(np.float32),
        f"{head}.output.bias": (factor * bias + shift).astype(np.float32),
    }
    return {**tensors, **stretched}


def passes_gate(r: float) -> bool:
    """Whether a head with this held-out Pearson r is exported. An undefined r is not."""
    return bool(r >= GATE)
