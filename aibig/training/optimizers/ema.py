"""An exponential moving average (EMA) of a model's weights. Knows no task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from aibig.layers.utils.polyak import polyak_update, polyak_updater


class ModelEma:
    """The average of a model's weights: average <- decay * average + (1 - decay) * weights, after each update.

    The decay grows with the updates, min(decay, (1 + updates) / (10 + updates)), so that the initial weights soon count
    little (as in tf.train.ExponentialMovingAverage). The constructor copies the model, which must not be sharded yet;
    shard both afterwards.

    Args:
        model: the model.
        decay: the largest decay, from 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._polyak_update: Callable[[float], None] | None = None

    def update(self, model: nn.Module, updates: int) -> None:
        """Add the model's weights to the average.

        Args:
            model: the model.
            updates: number of its updates so far.
        """
        if self._polyak_update is None:
            self._polyak_update = polyak_updater(self.module, model)
        self._polyak_update(1.0 - min(self._decay, (1 + updates) / (10 + updates)))

    def copy_to(self, model: nn.Module) -> None:
        """Replace the model's weights by the average.

        Args:
            model: the model.
        """
        polyak_update(model, self.module)

    @contextmanager
    def average_parameters(self, model: nn.Module) -> Iterator[None]:
        """Inside the `with` block the model has the average as its weights.

        Args:
            model: the model.
        """
        tensors = [*model.parameters(), *model.buffers()]
        originals = [tensor.detach().clone() for tensor in tensors]
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, original in zip([*model.parameters(), *model.buffers()], originals, strict=True):
                    tensor.copy_(original)
