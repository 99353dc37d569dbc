"""n-step transitions from env steps (Sutton and Barto 2018, section 7.1). Knows no environment and no model.

E environments, R rows that are complete, N steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = tuple[Array, Array, Array, Array, Array]  # observation, action, reward, next observation, discount


class NStepAccumulator:
    """The latest steps of E environments, each pending until the rewards of the `n_step - 1` after it are there.

    A transition leads from an observation to the one `n_step` later, or to its episode's last one where that comes
    first, so none crosses an episode's end.

    Args:
        n_step: env steps whose rewards a transition sums.
        discount: what the next state's value is multiplied by (gamma).
    """

    def __init__(self, n_step: int, discount: float) -> None:
        self.n_step, self.discount = n_step, discount
        # Oldest first: observation, action, sum of rewards, whether it is pending. All environments step together.
        self._steps: list[tuple[Array, ...]] = []

    def add(
        self,
        observation: Array,
        action: Array,
        reward: Array,
        next_observation: Array,
        terminated: Array,
        ended: Array,
        is_transition: Array,
    ) -> Iterator[Rows]:
        """Add a step of E environments.

        Args:
            observation: (E, ...).
            action: (E,).
            reward: (E,).
            next_observation: (E, ...).
            terminated: whether the episode terminated, (E,); then the next state has no value.
            ended: whether the episode terminated or was truncated, (E,).
            is_transition: False where an environment was reset, which is no step, (E,).

        Yields:
            The transitions that this completes, a few times R: observation (R, ...), action (R,), discounted sum of
            rewards (R,), next observation (R, ...), and what its value is multiplied by (R,), discount**n or 0.
        """
        self._steps.append((observation, action, np.zeros_like(reward), is_transition.copy()))
        is_full = len(self._steps) == self.n_step
        any_ended = bool(ended.any())
        for position, (first_observation, first_action, reward_sum, is_pending) in enumerate(self._steps):
            length = len(self._steps) - position
            reward_sum += self.discount ** (length - 1) * reward  # never read where nothing is pending
            if is_full and position == 0:
                rows = is_pending
            elif any_ended:
                rows = is_pending & ended
            else:
                continue
            if not rows.any():
                continue
            next_discount = self.discount**length * ~terminated[rows]
            yield first_observation[rows], first_action[rows], reward_sum[rows], next_observation[rows], next_discount
            is_pending &= ~ended
        if is_full:
            del self._steps[0]

    def discard_pending(self, environments: list[int]) -> None:
        """Discard the pending steps of environments whose episode was lost.

        Args:
            environments: indices of those environments.
        """
        for *_, is_pending in self._steps:
            is_pending[environments] = False

    def state_dict(self) -> dict[str, Any]:
        """The latest steps."""
        return {"steps": [[torch.from_numpy(array.copy()) for array in step] for step in self._steps]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the latest steps.

        Args:
            state: from `state_dict`.
        """
        self._steps = [tuple(tensor.numpy().copy() for tensor in step) for step in state["steps"]]


def n_step_transitions(
    observation: Array,
    action: Array,
    reward: Array,
    next_observation: Array,
    terminated: Array,
    truncated: Array,
    n_step: int,
    discount: float,
) -> Rows:
    """The transitions of N steps of one environment, all at once; the last ones lead to the last observation.

    Args:
        observation: (N, ...), in the order in which it happened.
        action: (N,).
        reward: (N,).
        next_observation: (N, ...).
        terminated: whether the episode terminated, (N,).
        truncated: whether the episode was truncated, (N,).
        n_step: env steps whose rewards a transition sums.
        discount: what the next state's value is multiplied by (gamma).

    Returns:
        As `NStepAccumulator.add` yields, N rows, with flat observations.
    """
    count = len(action)
    ended = terminated | truncated
    ended[-1] = True
    last = np.arange(count)  # the last step of each transition
    reward_sum, next_discount = reward.astype(np.float64), np.full(count, discount)
    for _ in range(n_step - 1):
        goes_on = ~ended[last]
        last = last + goes_on
        reward_sum += goes_on * next_discount * reward[last]
        next_discount = np.where(goes_on, next_discount * discount, next_discount)
    next_observation = next_observation.reshape(count, -1)[last]
    return observation.reshape(count, -1), action, reward_sum, next_observation, next_discount * ~terminated[last]
