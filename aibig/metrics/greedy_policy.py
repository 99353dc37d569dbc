"""Acting by a Q-network: greedily, or nearly so in evaluations. Knows no environment.

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
    """The action of the highest value for each observation.

    Args:
        model: a Q-network, in the mode that the caller wants.
        observations: (E, ...).
        device: where the model is.
        mask: the actions that are allowed, (E, A); None for all.

    Returns:
        (E,).
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
    """A policy from observations (E, ...) and masks (E, A) to actions (E,).

    Args:
        model: a Q-network, in the mode that the caller wants.
        device: where the model is.
        actions: how many there are, A.
        epsilon: probability of a random action in place of the greedy one.
        seed: decides the random actions.
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
