"""An exponential moving average of a model's weights. Knows no task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from aibig.layers.polyak import follow, trail


class WeightAverage:
    """Trails a model: average <- decay * average + (1 - decay) * weights, after each update.

    The decay grows with the updates taken, min(decay, (1 + updates) / (10 + updates)), so that the first weights
    do not linger (as in tf.train.ExponentialMovingAverage). Copy before the model is sharded, then shard both.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._move: Callable[[float], None] | None = None

    def update(self, model: nn.Module, updates: int) -> None:
        """Follow `model` after its update number `updates`."""
        if self._move is None:
            self._move = trail(self.module, model)
        self._move(1.0 - min(self._decay, (1 + updates) / (10 + updates)))

    def give_to(self, model: nn.Module) -> None:
        """The model becomes the average."""
        follow(model, self.module)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model computes with the average inside this context."""
        kept = [one.detach().clone() for one in [*model.parameters(), *model.buffers()]]
        self.give_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for own, value in zip([*model.parameters(), *model.buffers()], kept, strict=True):
                    own.copy_(value)
