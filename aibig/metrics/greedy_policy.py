"""Acting by Q-values. Knows no environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aibig.layers.q.value_distributions import action_values


def greedy_actions(
    model: nn.Module, observations: NDArray[Any], device: torch.device, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The action of the highest value for each observation: (E, ...) -> (E,). The model's mode is the caller's.

    mask (E, A): the actions that are allowed.
    """
    with torch.no_grad():
        values = action_values(model, model(torch.from_numpy(observations).to(device)))  # (E, A)
        if mask is not None:
            values = values.masked_fill(~torch.from_numpy(mask).to(device), -torch.inf)
        actions: NDArray[np.int64] = values.argmax(1).cpu().numpy()
    return actions


def evaluation_policy(
    model: nn.Module, device: torch.device, actions: int, epsilon: float, seed: int
) -> Callable[[NDArray[Any], NDArray[np.bool_] | None], NDArray[np.int64]]:
    """From observations (E, ...) and masks (E, A) to actions (E,): greedy, or with probability epsilon random ones.

    The same seed draws the same. actions: A, how many there are.
    """
    generator = np.random.default_rng(seed)

    def act(observations: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        best = greedy_actions(model, observations, device, mask)
        if not epsilon:
            return best
        lots = generator.random((len(best), actions))
        drawn = (lots if mask is None else np.where(mask, lots, -1.0)).argmax(1)
        return np.where(generator.random(len(best)) < epsilon, drawn, best)

    return act
