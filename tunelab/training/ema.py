"""Averages of weights over the steps of a training."""

from __future__ import annotations

import torch
from torch import nn


class Average:
    """An exponential moving average of a network's weights; with ``keep`` 0 it stays empty.

    It keeps less at first, so that the weights that training began with are soon forgotten. Layers that the network
    grows later begin with their first values.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self.steps = 0
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        if not self._keep:
            return
        self.steps += 1
        keep = min(self._keep, self.steps / (10 + self.steps))
        for name, weight in network.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(weight, 1 - keep)
            else:
                self.weights[name] = weight.detach().clone()
