"""Greedy and epsilon-greedy actions of a Q-network. Knows no environment.

E environments, A actions.
"""

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
    """The action with the highest value for each observation.

    Args:
        model: Q-network, in training or eval mode.
        observations: (E, ...).
        device: device of the model.
        mask: whether each action is allowed, (E, A); None: all are.

    Returns:
        Actions, (E,).
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
    """The epsilon-greedy policy of an evaluation: a function (observations (E, ...), masks (E, A)) -> actions (E,).

    Args:
        model: Q-network, in training or eval mode.
        device: device of the model.
        actions: number of actions, A.
        epsilon: probability of a random action in place of the greedy one.
        seed: seed of the random actions.
    """
    generator = np.random.default_rng(seed)

    def policy(observations: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        greedy = greedy_actions(model, observations, device, mask)
        if not epsilon:
            return greedy
        scores = generator.random((len(greedy), actions))
        random = (scores if mask is None else np.where(mask, scores, -1.0)).argmax(1)
        return np.where(generator.random(len(greedy)) < epsilon, random, greedy)

    return policy
