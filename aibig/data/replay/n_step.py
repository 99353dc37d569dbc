"""Steps of an agent joined into transitions over several of them. Knows no environment and no model.

E environments, R rows that are complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


class NStep:
    """The latest steps of E environments, each waiting for the rewards of the `steps - 1` after it.

    A transition leads from an observation to the one `steps` later, or to its episode's last one where that
    comes first, so that none crosses an episode's end. (n-step returns: Sutton and Barto 2018, section 7.1.)
    """

    def __init__(self, steps: int, discount: float) -> None:
        self.steps, self.discount = steps, discount
        # Oldest first: observation, action, sum of rewards, whether it waits. All environments step together.
        self._waiting: list[tuple[Array, Array, Array, Array]] = []

    def add(
        self,
        observation: Array,
        action: Array,
        reward: Array,
        next_observation: Array,
        terminated: Array,
        ended: Array,
        is_transition: Array,
    ) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
        """Take a step: observation, next_observation (E, ...), the others (E,). Yield what it completes.

        That is, a few times: observation (R, ...), action (R,), the discounted sum of rewards (R,), next
        observation (R, ...), and what the next state's value counts for (R,), discount**steps or, where the
        episode terminated, 0. ended: terminated or truncated; a truncated episode's last state still counts.
        is_transition: False where an environment was reset, which is no step.
        """
        self._waiting.append((observation, action, np.zeros_like(reward), is_transition.copy()))
        full = len(self._waiting) == self.steps
        any_ended = bool(ended.any())
        for position, (first, chosen, summed, waits) in enumerate(self._waiting):
            steps = len(self._waiting) - position
            summed += self.discount ** (steps - 1) * reward  # never read where nothing waits
            if full and position == 0:
                rows = waits
            elif any_ended:
                rows = waits & ended
            else:
                continue
            if not rows.any():
                continue
            counts = self.discount**steps * ~terminated[rows]
            yield first[rows], chosen[rows], summed[rows], next_observation[rows], counts
            waits &= ~ended
        if full:
            del self._waiting[0]

    def forget(self, environments: list[int]) -> None:
        """Drop the steps of some environments, whose episodes can't be gone on with."""
        for _, _, _, waits in self._waiting:
            waits[environments] = False

    def state_dict(self) -> dict[str, Any]:
        """The steps that wait."""
        return {"waiting": [[torch.from_numpy(part.copy()) for part in entry] for entry in self._waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._waiting = [
            (first.numpy().copy(), chosen.numpy().copy(), summed.numpy().copy(), waits.numpy().copy())
            for first, chosen, summed, waits in state["waiting"]
        ]


def n_step_transitions(
    observation: Array,
    action: Array,
    reward: Array,
    next_observation: Array,
    terminated: Array,
    truncated: Array,
    steps: int,
    discount: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """The same of N steps of one environment, in their order, at once: (N, numbers), (N,), (N,), (N, numbers), (N,).

    The last steps, which nothing follows, lead to the last observation.
    """
    count = len(action)
    ended = terminated | truncated
    ended[-1] = True
    last = np.arange(count)  # the step that each transition goes up to
    summed, counts = reward.astype(np.float64), np.full(count, discount)
    for _ in range(steps - 1):
        goes_on = ~ended[last]
        last = last + goes_on
        summed += goes_on * counts * reward[last]
        counts = np.where(goes_on, counts * discount, counts)
    seen, after = observation.reshape(count, -1), next_observation.reshape(count, -1)[last]
    return seen, action, summed, after, counts * ~terminated[last]
