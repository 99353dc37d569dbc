"""The latest transitions of an agent, drawn at random. Knows no environment and no model.

B transitions a batch, E environments.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aibig.settings import PositiveInt


class Transitions(NamedTuple):
    """What happened, row by row."""

    observation: Tensor  # (B, ...)
    action: Tensor  # (B,) int64
    reward: Tensor  # (B,)
    next_observation: Tensor  # (B, ...)
    discount: Tensor  # (B,) what the next observation's value counts for; 0 where the episode ended for good


class Replay:
    """A ring of the latest transitions, one packed block of float32, so that a batch is one gather.

    observation_shape: of one observation. capacity: transitions kept; they take
    capacity * (2 * numbers of an observation + 3) * 4 bytes. batch_size: transitions of a micro-batch over all ranks.
    (Experience replay: Lin 1992; arXiv 1312.5602, algorithm 1.)
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        *,
        batch_size: PositiveInt = 64,
        capacity: PositiveInt = 50_000,
    ) -> None:
        self.batch_size, self.capacity = batch_size, capacity
        self._shape, self._numbers = observation_shape, math.prod(observation_shape)
        self._rows = torch.zeros(capacity, 2 * self._numbers + 3)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(
        self,
        observation: np.ndarray[Any, Any],
        action: np.ndarray[Any, Any],
        reward: np.ndarray[Any, Any],
        next_observation: np.ndarray[Any, Any],
        discount: np.ndarray[Any, Any],
    ) -> None:
        """Keep E transitions, over the oldest ones; of more than `capacity` the last."""
        count = len(action)
        columns = [observation.reshape(count, -1), next_observation.reshape(count, -1)]
        columns += [one.reshape(count, 1) for one in (reward, discount, action)]
        rows = torch.from_numpy(np.concatenate(columns, 1, dtype=np.float32))[-self.capacity :]
        count = len(rows)
        start = self._added % self.capacity
        fits = min(count, self.capacity - start)
        self._rows[start : start + fits] = rows[:fits]
        if fits < count:
            self._rows[: count - fits] = rows[fits:]
        self._added += count

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """`count` transitions, drawn uniformly with replacement."""
        index = torch.randint(len(self), (count,), generator=generator)
        rows = self._rows.index_select(0, index)
        seen, after, reward, discount, action = rows.split([self._numbers, self._numbers, 1, 1, 1], 1)
        return Transitions(
            seen.view(count, *self._shape) if len(self._shape) != 1 else seen,
            action.squeeze(1).long(),
            reward.squeeze(1),
            after.view(count, *self._shape) if len(self._shape) != 1 else after,
            discount.squeeze(1),
        )

    def state_dict(self) -> dict[str, Any]:
        """The rows that are filled, and how many were ever added."""
        return {"rows": self._rows[: len(self)], "added": self._added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._added = state["added"]
        self._rows[: len(self)] = state["rows"]
